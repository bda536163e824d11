"""HumanEval (Chen et al., arXiv 2107.03374) and HumanEval+ (EvalPlus, arXiv 2305.01210).

Three forms are read: OpenAI's (`test` defines check(candidate)), EvalPlus's own file (base_input, plus_input, atol) and
EvalPlus's data set on the Hub, whose `test` holds the inputs of both.
"""

from __future__ import annotations

import ast

from training.corpus.clean import parse
from training.evaluation.benchmarks.problem import (
    Inputs,
    Problem,
    Program,
    Record,
    Suite,
    installed_packages,
    list_field,
    text_field,
)
from training.rewards.sandbox import Limits
from training.rewards.tests import Test, of_assertion

FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution")
STOPS = ("\nclass ", "\ndef ", "\n#", "\n@", "\nif ", "\nprint", "\nassert ", "\n```", "\nfrom ", "\nimport ")
HUB_LIMITS = Limits(seconds=60.0, memory_mb=4096, processes=64)  # numpy, and up to thousands of inputs


def read_base(record: Record, where: str) -> Problem:
    """HumanEval: the tests of the original."""
    required(record, where)
    if "test" not in record and "base_input" in record:
        return problem(record, where, {"base": inputs(record, where, "base_input")})
    return problem(record, where, {"base": check_suite(record, where)})


def read_plus(record: Record, where: str) -> Problem:
    """HumanEval+: the original's tests, and EvalPlus's."""
    required(record, where)
    if "base_input" not in record:
        return problem(record, where, {"plus": check_suite(record, where, hub=True)})
    base, plus = inputs(record, where, "base_input"), inputs(record, where, "plus_input")
    return problem(record, where, {"base": base, "plus": plus})


def required(record: Record, where: str) -> None:
    """RequestError for the first field that every form has and this record has not."""
    for name in FIELDS:
        text_field(record, name, where)


def problem(record: Record, where: str, suites: dict[str, Suite]) -> Problem:
    """The problem with these suites."""
    prompt, entry = text_field(record, "prompt", where), text_field(record, "entry_point", where)
    gold = text_field(record, "canonical_solution", where)
    return Problem(
        id=text_field(record, "task_id", where),
        shape="complete",
        prompt=prompt,
        suites=suites,
        gold=gold,
        stops=STOPS,
        header=before_function(prompt, entry),
    )


def before_function(prompt: str, entry: str) -> str:
    """The imports and helpers that a prompt has before the function to complete."""
    at = prompt.find(f"def {entry}")
    return prompt[:at] if at > 0 else ""


def inputs(record: Record, where: str, name: str) -> Inputs:
    """EvalPlus's inputs, with the reference whose results count."""
    reference = text_field(record, "prompt", where) + text_field(record, "canonical_solution", where)
    given = tuple(tuple(arguments) for arguments in list_field(record, name, where))
    return Inputs(text_field(record, "entry_point", where), given, reference, atol(record), "humaneval")


def atol(record: Record) -> float:
    """EvalPlus's absolute tolerance; 0 where there is none."""
    return float(record.get("atol") or 0.0)


def check_suite(record: Record, where: str, hub: bool = False) -> Program:
    """The suite of a `test` that defines check(candidate): assertion by assertion where each can stand alone."""
    test, entry = text_field(record, "test", where), text_field(record, "entry_point", where)
    if hub:
        whole = (Test("run", f"{test}\ncheck({entry})\n"),)
        return Program(whole, limits=HUB_LIMITS, packages=installed_packages())
    return Program(assertions(test, entry) or (Test("run", f"{test}\ncheck({entry})\n"),))


def assertions(test: str, entry: str) -> tuple[Test, ...]:
    """The assertions of check(candidate), with what they expect kept out of the sandbox; () where that cannot be.

    That is: where its body is nothing but assertions which compare one expression with a literal.
    """
    tree = parse(test)
    checks = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "check"] if tree else []
    if len(checks) != 1 or len(checks[0].args.args) != 1:
        return ()
    argument, found = checks[0].args.args[0].arg, []
    for node in checks[0].body:
        if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if not isinstance(node, ast.Assert):
            return ()
        if isinstance(node.test, ast.Constant) and node.test.value is True:
            continue  # "assert True, 'this prints …'"
        names = {inner.id for inner in ast.walk(node.test) if isinstance(inner, ast.Name)}
        known = of_assertion(Renamed(argument, entry).visit(node.test))
        if known is None or argument not in names:
            return ()
        found.append(known)
    return tuple(found)


class Renamed(ast.NodeTransformer):
    """Calls one name by another."""

    def __init__(self, old: str, new: str):
        self.old, self.new = old, new

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """The name, or its replacement."""
        return ast.copy_location(ast.Name(self.new, node.ctx), node) if node.id == self.old else node
