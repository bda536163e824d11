"""Tasks that `diffill train tasks` mined: a function's body, or one line of it, is the hole; hidden tests grade it.

Where packages are held out from training, only their tasks are problems.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
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
    text_field(record, "function", where)  # unused; a record without it is of another kind
    packages: tuple[Path, ...] = installed_packages()
    suite = Program(tests, limits=LIMITS, packages=packages, name=text_field(record, "module", where))
    return Problem(
        id=text_field(record, "id", where),
        shape="infill",
        prompt=text_field(record, "prefix", where),
        suffix=text_field(record, "suffix", where),
        suites={"tests": suite},
        gold=text_field(record, "body", where),
        split=text_field(record, "split", where),
    )


def read_line(record: Record, where: str) -> Problem:
    """A task of which one line is the hole: a line with code, drawn by the task's id."""
    whole = read(record, where)
    lines = (whole.gold or "").split("\n")
    coded = [n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    if not coded:
        raise RequestError(f"{where}: the field body holds no line of code")
    chosen = coded[int.from_bytes(hashlib.sha256(whole.id.encode()).digest()[:4], "big") % len(coded)]
    before, after = "\n".join([*lines[:chosen], ""]), "\n".join(["", *lines[chosen + 1 :]])
    return replace(whole, prompt=whole.prompt + before, gold=lines[chosen], suffix=after + whole.suffix, max_lines=1)
