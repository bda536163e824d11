"""Tasks that `diffill train tasks` mined: the body of a function is the hole, hidden doctests or pytest tests grade it.

Where packages are held out from training, only their tasks are problems.
"""

from __future__ import annotations

from pathlib import Path

from model_runtime.protocol import RequestError
from training.corpus.tasks import LIMITS
from training.evaluation.benchmarks.problem import Problem, Program, Record, installed_packages, list_field, text_field
from training.rewards.tests import Test

FIELDS = ("id", "prefix", "body", "suffix", "module", "function", "split", "tests")


def read(record: Record, where: str) -> Problem:
    """A task as a problem; RequestError for tests that are not as the miner writes them."""
    try:
        tests = tuple(
            Test(**{**test, "before": tuple(test.get("before", ()))}) for test in list_field(record, "tests", where)
        )
    except (TypeError, AttributeError):
        raise RequestError(f"{where}: the field tests is not as diffill train tasks writes it") from None
    packages: tuple[Path, ...] = installed_packages()
    suite = Program(tests, limits=LIMITS, packages=packages, name=text_field(record, "module", where))
    return Problem(
        id=text_field(record, "id", where),
        shape="infill",
        prompt=text_field(record, "prefix", where),
        suffix=text_field(record, "suffix", where),
        suites={"tests": suite},
        gold=text_field(record, "body", where),
        entry_point=text_field(record, "function", where),
        facts={"split": text_field(record, "split", where), "package": str(record.get("package", ""))},
    )
