"""MBPP (Austin et al., arXiv 2108.07732) and MBPP+ (EvalPlus, arXiv 2305.01210).

Read are Google's file (text, code, test_list), its sanitized one (prompt instead of text, test_imports), EvalPlus's own
file (base_input, plus_input, assertion) and EvalPlus's data set on the Hub (code, test).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from model_runtime.protocol import RequestError
from training.evaluation.benchmarks.humaneval import HUB_LIMITS, atol
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
from training.rewards.tests import Test, read_test

FIELDS = ("task_id", "text or prompt", "code or canonical_solution", "test_list or base_input")
STOPS = ('\n"""', "\nassert", "\nprint", "\nif __name__", "\n```", "\n# Test", "\n[DONE]")


def read_base(record: Record, where: str) -> Problem:
    """MBPP: the assertions that come with it."""
    if "base_input" in record:
        return problem(record, where, {"base": inputs(record, where, "base_input")})
    return problem(record, where, {"base": assertions(record, where)})


def read_plus(record: Record, where: str) -> Problem:
    """MBPP+: the original's tests, and EvalPlus's."""
    if "base_input" in record:
        base, plus = inputs(record, where, "base_input"), inputs(record, where, "plus_input")
        return problem(record, where, {"base": base, "plus": plus})
    whole = (Test("run", text_field(record, "test", where)),)
    plus_suite = Program(whole, limits=HUB_LIMITS, packages=installed_packages())
    return problem(record, where, {"base": assertions(record, where), "plus": plus_suite})


def problem(record: Record, where: str, suites: dict[str, Suite]) -> Problem:
    """The problem with these suites; its prompt is EvalPlus's: a docstring with the task and one assertion."""
    if record.get("task_id") is None:
        raise RequestError(f"{where}: the field task_id is missing")
    gold = text_field(record, "code" if "code" in record else "canonical_solution", where).replace("\r\n", "\n")
    if "base_input" in record:
        prompt = text_field(record, "prompt", where)
    else:
        words = text_field(record, "text" if "text" in record else "prompt", where)
        shown = str(list_field(record, "test_list", where)[0])
        prompt = f'"""\n{words.strip()}\n{shown.strip()}\n"""\n'
    return Problem(
        id=str(record["task_id"]),
        shape="instruct",
        prompt=prompt,
        suites=suites,
        gold=gold,
        stops=STOPS,
    )


def assertions(record: Record, where: str) -> Program:
    """The suite of `test_list`, after what the tests import or set up."""
    tests = list_field(record, "test_list", where)
    if not tests or not all(isinstance(test, str) for test in tests):
        raise RequestError(f"{where}: the field test_list holds no assertions")
    before = [str(line) for line in record.get("test_imports") or ()]
    before.append(str(record.get("test_setup_code") or ""))
    return Program(tuple(map(read_test, tests)), after="\n".join(line for line in before if line))


def inputs(record: Record, where: str, name: str) -> Inputs:
    """EvalPlus's inputs, with the reference whose results count."""
    given = list_field(record, name, where)
    restore = RESTORED.get(number(record))
    try:
        restored = [restore(arguments) for arguments in given] if restore else given
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise RequestError(f"{where}: the inputs in {name} are not those of MBPP's problem {number(record)}") from error
    return Inputs(
        text_field(record, "entry_point", where),
        tuple(tuple(arguments) for arguments in restored),
        text_field(record, "canonical_solution", where),
        atol(record),
        "mbpp",
    )


def number(record: Record) -> int:
    """The number of a problem: 2 of "Mbpp/2"; -1 where there is none."""
    digits = str(record.get("task_id", "")).rpartition("/")[2]
    return int(digits) if digits.isdigit() else -1


def tuples(depth: int) -> Callable[[Any], Any]:
    """Makes the lists at `depth` tuples (1: the arguments themselves); what is no list there stays."""

    def made(value: Any, level: int = 0) -> Any:
        if not isinstance(value, list):
            return value
        return tuple(value) if level == depth else [made(item, level + 1) for item in value]

    return made


def all_tuples(value: Any) -> Any:
    """Every list within the arguments as a tuple."""
    return tuple(map(all_tuples, value)) if isinstance(value, list) else value


def first_as_tuple(arguments: list[Any]) -> list[Any]:
    """The first argument as a tuple."""
    return [tuple(arguments[0]), *arguments[1:]]


def first_of_tuples(arguments: list[Any]) -> list[Any]:
    """The first argument's items as tuples."""
    return [[tuple(item) for item in arguments[0]], *arguments[1:]]


def second_as_tuple(arguments: list[Any]) -> list[Any]:
    """The second argument as a tuple."""
    return [arguments[0], tuple(arguments[1]), *arguments[2:]]


def tuples_of_tuples(arguments: list[Any]) -> list[Any]:
    """Every argument as a tuple of tuples."""
    return [tuple(tuple(item) for item in argument) for argument in arguments]


def tuple_with_tuples(arguments: list[Any]) -> list[Any]:
    """The first argument as a tuple, and lists in it as well."""
    return [tuple(tuple(item) if isinstance(item, list) else item for item in arguments[0])]


def sets_inside(arguments: list[Any]) -> list[Any]:
    """The first argument's lists as sets; an empty one stands for an empty dictionary, as EvalPlus reads it."""
    return [[set(item) if isinstance(item, list) and item else {} for item in arguments[0]]]


def tuples_by_key(arguments: list[Any]) -> list[Any]:
    """The values of the first argument, a dictionary, as tuples."""
    return [{key: tuple(value) for key, value in arguments[0].items()}, *arguments[1:]]


def numbers(arguments: list[Any]) -> list[Any]:
    """A float and a complex number, which JSON has as text."""
    return [float(arguments[0]), complex(arguments[1])]


def one_complex(arguments: list[Any]) -> list[Any]:
    """A complex number, which JSON has as text."""
    return [complex(arguments[0])]


# JSON knows no tuples, sets and complex numbers; which problems' inputs had them is EvalPlus's list (data/mbpp.py).
_OF_TUPLES = {
    tuples(1): (
        *(2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424),
        *(429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809),
    ),
    tuples(2): (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
    first_of_tuples: (75, 413, 444, 753),
    second_as_tuple: (106, 750),
    first_as_tuple: (250, 307, 405, 446, 617, 720, 763, 808),
    tuples_of_tuples: (259, 401, 445),
    tuple_with_tuples: (278,),
    sets_inside: (115,),
    tuples_by_key: (722,),
    numbers: (124,),
    one_complex: (252,),
    all_tuples: (580, 615, 791),
}
RESTORED: dict[int, Callable[[Any], Any]] = {n: restore for restore, group in _OF_TUPLES.items() for n in group}
