"""The reward for passing tests, and what a test is: an assertion, a piece of a session, or any code.

What a test expects stays outside of the sandbox wherever that is possible: `assert EXPRESSION == LITERAL` becomes the
expression, whose value comes back as plain data and is compared here, so that a candidate cannot pass by replacing
`__eq__`, leaving early or printing. Other code is vouched for by a token, drawn anew for each run; a candidate that
walks the interpreter's frames could find it, which is why as few tests as possible are of that kind.
"""

from __future__ import annotations

import ast
import doctest
import operator
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from training.corpus.clean import parse
from training.rewards import format as form
from training.rewards.sandbox import CANDIDATE, Gone, Limits, Sandbox

WEIGHT = 2.0  # of this reward against that of the form, as in the DiffuCoder repository
CHECKER = doctest.OutputChecker()
OPERATORS: dict[type[ast.cmpop], str] = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">"} | {
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
}
# what "found OP expected" is called when the literal stands on the left
TURNED = {
    "==": "==",
    "!=": "!=",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
    "in": "has",
    "is": "is",
    "is not": "is not",
}
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda found, expected: found in expected,
    "not in": lambda found, expected: found not in expected,
    "has": lambda found, expected: expected in found,
    "is": lambda found, expected: found is expected,
    "is not": lambda found, expected: found is not expected,
    "truth": lambda found, expected: bool(found) is expected,
}


@dataclass(frozen=True)
class Test:
    """One test. A "value" is compared with `expected` by `compare`; a "display" must show `expected` after `before`."""

    __test__ = False  # for pytest

    kind: Literal["value", "display", "run"]
    source: str
    expected: Any = None
    compare: str = "=="  # of COMPARE
    before: tuple[str, ...] = ()
    options: int = 0  # doctest's flags


@dataclass(frozen=True)
class Outcome:
    """What became of a test: passed, or why not: wrong, error, timeout, exit, gone."""

    passed: bool
    why: str = ""
    detail: str = ""


def read_test(source: str) -> Test:
    """A test from an assertion or other code."""
    tree = parse(source.strip())
    found = None
    if tree is not None and len(tree.body) == 1 and isinstance(tree.body[0], ast.Assert):
        found = of_assertion(tree.body[0].test)
    return found or Test("run", source)


def of_assertion(test: ast.expr) -> Test | None:
    """A comparison with a literal, on either side, or an expression that must be true or false."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return Test("value", ast.unparse(test.operand), False, "truth")
    if isinstance(test, ast.BoolOp):
        return None
    if not isinstance(test, ast.Compare):
        return Test("value", ast.unparse(test), True, "truth")
    if len(test.ops) != 1:
        return None
    compare = OPERATORS.get(type(test.ops[0]))
    for found, other, name in (
        (test.left, test.comparators[0], compare),
        (test.comparators[0], test.left, TURNED.get(compare or "")),
    ):
        try:
            value = ast.literal_eval(other)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        if name is None or (name.startswith("is") and value not in (None, True, False)):
            return None
        return Test("value", ast.unparse(found), value, name)
    return None


def unpack(tagged: Any) -> Any:
    """Plain data from the runner's tagged JSON; ValueError for anything else."""
    try:
        tag, value = tagged
        if tag == "v" and (value is None or isinstance(value, bool)):
            return value
        if tag == "i":
            return int(value, 16)
        if tag == "f":
            return float.fromhex(value)
        if tag == "s" and isinstance(value, str):
            return value
        if tag == "b":
            return bytes.fromhex(value)
        if tag == "c":
            return complex(*map(float.fromhex, value))
        if tag == "d":
            return {unpack(key): unpack(item) for key, item in value}
        kinds: dict[str, Any] = {"lis": list, "tup": tuple, "set": set, "fro": frozenset}
        return kinds[tag](unpack(item) for item in value)
    except (TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError("no plain data") from error


def judge(test: Test, answer: list[Any], token: str) -> Outcome:
    """What an answer of the runner means for a test."""
    match answer:
        case ["timeout"]:
            return Outcome(False, "timeout")
        case ["exit"]:
            return Outcome(False, "exit", "the process ended before the test did")
        case ["error", str(text)]:
            return Outcome(False, "error", text)
        case ["token", str(found)] if test.kind == "run":
            same = secrets.compare_digest(found.encode(), token.encode())
            return Outcome(same, "" if same else "wrong")
        case ["value", tagged] if test.kind == "value":
            try:
                value = unpack(tagged)
                same = bool(COMPARE[test.compare](value, test.expected))
            except (ValueError, TypeError, RecursionError) as error:
                return Outcome(False, "error", str(error))
            return Outcome(same, "" if same else "wrong", "" if same else short(repr(value)))
        case [("shown" | "raised") as how, str(text), str(error)] if test.kind == "display":
            shown = text if how == "shown" else "Traceback (most recent call last):\n" + error + "\n"
            same = matches(test, how, text, error)
            return Outcome(same, "" if same else "wrong", "" if same else short(shown))
    return Outcome(False, "error", "no answer of the runner")


def matches(test: Test, how: str, text: str, error: str) -> bool:
    """Whether a session shows what the doctest says: exceptions by their last line, as doctest compares them."""
    wanted: str = test.expected
    raised = doctest.DocTestParser._EXCEPTION_RE.match(wanted)  # type: ignore[attr-defined]
    if (how == "raised") != (raised is not None):
        return False
    if raised is None:
        return CHECKER.check_output(wanted, text, test.options)
    message = raised["msg"]
    if test.options & doctest.IGNORE_EXCEPTION_DETAIL:
        return message.split(":")[0].rpartition(".")[2].strip() == error.split(":")[0].rpartition(".")[2].strip()
    return CHECKER.check_output(message, error + "\n", test.options)


def short(text: str, most: int = 200) -> str:
    """`text`, cut."""
    return text if len(text) <= most else text[:most] + "…"


def run_tests(
    code: str,
    tests: Sequence[Test],
    limits: Limits | None = None,
    name: str = CANDIDATE,
    packages: Sequence[Path] = (),
    slot: int = 0,
    unsafe: bool = False,
) -> list[Outcome]:
    """The outcome of each test on `code`, in one sandbox, each test in a process of its own."""
    outcomes: list[Outcome] = []
    with Sandbox(code, limits, name, packages, slot, unsafe) as sandbox:
        for test in tests:
            token = secrets.token_hex(16)
            asked: dict[str, Any] = {"kind": test.kind, "source": test.source}
            asked |= {"before": test.before} if test.kind == "display" else {}
            asked |= {"token": token} if test.kind == "run" else {}
            try:
                outcomes.append(judge(test, sandbox.ask(asked), token))
            except Gone:
                break
    return outcomes + [Outcome(False, "gone", "the sandbox ended")] * (len(tests) - len(outcomes))


@dataclass(frozen=True)
class Reward:
    """The rewards of one answer. `total` weighs them as the DiffuCoder repository does: 0.5 and 2."""

    form: float
    tests: float
    outcomes: tuple[Outcome, ...] = ()

    @property
    def total(self) -> float:
        """Between 0 and 2.5."""
        return form.WEIGHT * self.form + WEIGHT * self.tests


def answer_reward(completion: str, tests: Sequence[Test], newline: bool = False, **options: Any) -> Reward:
    """The reward of a chat answer: the form, and the share of tests passed where the form is whole.

    `options` go to `run_tests`.
    """
    form_reward = form.code_format(completion, newline)
    code = form.extract_code(completion, newline)
    if form_reward < form.PARSES or code is None or not tests:
        return Reward(form_reward, 0.0)
    return of_outcomes(form_reward, run_tests(code, tests, **options))


def infill_reward(prefix: str, fill: str, suffix: str, tests: Sequence[Test], **options: Any) -> Reward:
    """The reward of a filled hole: 1 for a file that parses, and the share of tests passed."""
    code = prefix + fill + suffix
    if parse(code) is None:
        return Reward(0.0, 0.0)
    return of_outcomes(form.PARSES, run_tests(code, tests, **options)) if tests else Reward(form.PARSES, 0.0)


def of_outcomes(form_reward: float, outcomes: Sequence[Outcome]) -> Reward:
    """The reward of some outcomes."""
    return Reward(form_reward, sum(outcome.passed for outcome in outcomes) / len(outcomes), tuple(outcomes))
