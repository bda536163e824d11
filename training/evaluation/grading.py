"""Whether a solution passes its suites, in the sandbox; and what EvalPlus compares."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_runtime.protocol import RequestError
from training.evaluation.benchmarks.problem import Exact, Inputs, Problem, Program
from training.rewards.sandbox import Gone, Limits, Sandbox
from training.rewards.tests import Outcome, run_tests, short, unpack

CHUNK = 64  # inputs of one process
INPUT_LIMITS = Limits(seconds=20.0, memory_mb=4096, output_kb=2048)

# What EvalPlus compares otherwise than by equality (evalplus/eval/_special_oracle.py), by the function's name.
NOT_NONE = ("check_str", "text_match_three", "text_starta_endb")
SETS = (
    *("similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum"),
    *("intersection_array", "find_dissimilar", "Diff"),
)


@dataclass(frozen=True)
class Grade:
    """Which suites a solution passed; `why`: the first failure (wrong, error, timeout, exit, gone), and what it was."""

    suites: dict[str, bool]
    why: str = ""

    @property
    def passed(self) -> bool:
        """Whether it passed all of them."""
        return all(self.suites.values())


class Grader:
    """Grades solutions; keeps what references return, so that each is run once."""

    def __init__(self) -> None:
        self._expected: dict[tuple[str, str], list[Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, problem: Problem, text: str, code: str, slot: int = 0, unsafe: bool = False) -> Grade:
        """The grade of `code`, the program of the fill or completion `text`; as `RewardPool.submit` calls it."""
        suites, why = {}, ""
        for name, suite in problem.suites.items():
            failure = ""
            if isinstance(suite, Exact):
                failure = "" if text.strip() == suite.text.strip() else "wrong"
            elif isinstance(suite, Program):
                failure = self._run(suite, code, slot, unsafe)
            else:
                failure = self._compare(problem.id, name, suite, code, slot, unsafe)
            suites[name] = not failure
            why = why or failure
        return Grade(suites, why)

    def _run(self, suite: Program, code: str, slot: int, unsafe: bool) -> str:
        program = f"{code}\n{suite.after}\n" if suite.after else code
        outcomes = run_tests(program, suite.tests, suite.limits, suite.name, suite.packages, slot, unsafe)
        return next((told(outcome) for outcome in outcomes if not outcome.passed), "")

    def _compare(self, problem: str, name: str, suite: Inputs, code: str, slot: int, unsafe: bool) -> str:
        expected = self._reference(problem, name, suite, slot, unsafe)
        found = values(suite, code, slot, unsafe)
        if isinstance(found, str):
            return found
        for arguments, value, wanted in zip(suite.inputs, found, expected, strict=True):
            try:
                same = agrees(suite, arguments, value, wanted)
            except (TypeError, ValueError, OverflowError, RecursionError):
                same = False
            if not same:
                return f"wrong: {short(repr(value))}"
        return ""

    def _reference(self, problem: str, name: str, suite: Inputs, slot: int, unsafe: bool) -> list[Any]:
        with self._lock:
            if (problem, name) in self._expected:
                return self._expected[problem, name]
        returned = values(suite, suite.reference, slot, unsafe)
        if isinstance(returned, str):
            raise RequestError(f"the reference solution of {problem} does not run on its inputs: {returned}")
        with self._lock:
            self._expected[problem, name] = returned
        return returned


def told(outcome: Outcome) -> str:
    """Why an outcome is no pass, in a line."""
    return f"{outcome.why}: {outcome.detail}" if outcome.detail else outcome.why


def values(suite: Inputs, code: str, slot: int, unsafe: bool) -> list[Any] | str:
    """What `code` returns on all inputs; or why it does not. The caller compares, outside of the sandbox."""
    returned = f"{suite.entry_point}(*a)"
    if suite.entry_point in NOT_NONE:
        returned = f"[r if r is True or r is False else r is not None for r in [{returned}]][0]"
    found: list[Any] = []
    with Sandbox(code, INPUT_LIMITS, slot=slot, unsafe=unsafe) as sandbox:
        for start in range(0, len(suite.inputs), CHUNK):
            given = literal([list(arguments) for arguments in suite.inputs[start : start + CHUNK]])
            try:
                answer = sandbox.ask({"kind": "value", "source": f"[{returned} for a in {given}]"})
            except Gone:
                return "gone: the sandbox ended"
            match answer:
                case ["value", tagged]:
                    try:
                        found += unpack(tagged)
                    except (ValueError, TypeError):
                        return "error: no plain value"
                case ["error", str(text)]:
                    return f"error: {text}"
                case [str(why)]:
                    return why
                case _:
                    return "error: no answer of the runner"
    return found if len(found) == len(suite.inputs) else "error: not one value an input"


def literal(value: Any) -> str:
    """A value as an expression that makes it anew, with numbers that have no spelling."""
    if isinstance(value, float) and not math.isfinite(value):
        return "(1e999-1e999)" if math.isnan(value) else "1e999" if value > 0 else "-1e999"
    if isinstance(value, complex):
        return f"({literal(value.real)}+{literal(value.imag)}*1j)"
    if isinstance(value, dict):
        return "{" + ",".join(f"{literal(key)}:{literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, set):
        return "{" + ",".join(map(literal, value)) + "}" if value else "{*()}"
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    if isinstance(value, tuple):
        return "(" + "".join(f"{literal(item)}," for item in value) + ")"
    return repr(value)


def agrees(suite: Inputs, arguments: Sequence[Any], found: Any, expected: Any) -> bool:
    """Whether a result counts as the reference's, by EvalPlus's rules (version 0.3.1)."""
    name, atol, same = suite.entry_point, suite.atol, bool(found == expected)
    if suite.family == "mbpp":
        if name == "are_equivalent":
            same = True
        elif name == "sum_div":
            same = same or found == 0
        elif name == "surface_Area":
            same = same or abs(found - surface_of_pyramid(*arguments)) <= atol
        elif name == "digit_distance_nums":
            same = same or found == digit_distance(*arguments)
        elif name in SETS:
            same = set(found) == set(expected)
    elif name == "find_zero":
        (coefficients,) = arguments
        return abs(sum(c * math.pow(found, i) for i, c in enumerate(coefficients))) <= atol
    if atol == 0 and is_floats(expected):
        atol = 1e-6
    if same or atol == 0:
        return same
    if type(found) is not type(expected):
        return False
    if isinstance(expected, list | tuple) and len(found) != len(expected):
        return False
    return bool(np.allclose(found, expected, rtol=1e-07, atol=atol))


def is_floats(value: Any) -> bool:
    """Whether a value is a float, or a list or tuple of nothing else."""
    if isinstance(value, list | tuple) and value:
        return all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def surface_of_pyramid(base: float, height: float) -> int:
    """A square pyramid's surface, `height` taken as that of its tip, which the problem leaves open; rounded."""
    return round(base**2 + 2 * base * math.sqrt((base / 2) ** 2 + height**2))


def digit_distance(a: int, b: int) -> int:
    """The sum of the digits' distances, both numbers brought to one length with zeros."""
    width = max(len(str(a)), len(str(b)))
    return sum(abs(int(x) - int(y)) for x, y in zip(str(a).zfill(width), str(b).zfill(width), strict=True))
