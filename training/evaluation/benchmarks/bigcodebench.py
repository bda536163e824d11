"""BigCodeBench (Zhuo et al., arXiv 2406.15877): functions that use libraries, graded by unittest; full and hard.

Its tests import about a hundred libraries; what is not installed here makes a solution fail, and the gold ceiling says
how many problems that concerns.
"""

from __future__ import annotations

from dataclasses import replace

from training.evaluation.benchmarks.humaneval import STOPS
from training.evaluation.benchmarks.problem import Problem, Program, Record, installed_packages, text_field
from training.rewards.sandbox import Limits
from training.rewards.tests import Test

FIELDS = ("task_id", "complete_prompt", "instruct_prompt", "canonical_solution", "code_prompt", "test", "entry_point")
LIMITS = Limits(seconds=240.0, memory_mb=8192, processes=128, file_mb=64, disk_mb=256, files=512)
RUN = """\
import unittest
result = unittest.TestResult()
unittest.defaultTestLoader.loadTestsFromTestCase(TestCases).run(result)
if result.failures or result.errors or not result.testsRun:
    raise AssertionError(((result.failures + result.errors) or [("", "no test ran")])[0][1].strip().splitlines()[-1])
"""


def read_complete(record: Record, where: str) -> Problem:
    """BigCodeBench-Complete: a function with a long docstring."""
    text_field(record, "entry_point", where)  # unused, for the tests name it; a record without it is of another kind
    suite = Program(
        (Test("run", RUN),), after=text_field(record, "test", where), limits=LIMITS, packages=installed_packages()
    )
    return Problem(
        id=text_field(record, "task_id", where),
        shape="complete",
        prompt=text_field(record, "complete_prompt", where),
        suites={"base": suite},
        gold=text_field(record, "canonical_solution", where),
        stops=STOPS,
        header=imports_of(text_field(record, "code_prompt", where)),
    )


def read_instruct(record: Record, where: str) -> Problem:
    """BigCodeBench-Instruct: the task in words, ending with the code that the answer begins with."""
    complete = read_complete(record, where)
    code = text_field(record, "code_prompt", where)
    return replace(
        complete,
        shape="instruct",
        prompt=text_field(record, "instruct_prompt", where),
        gold=code + (complete.gold or ""),
    )


def imports_of(code: str) -> str:
    """The code before the function: imports and constants."""
    at = code.find("def ")
    return code[:at] if at > 0 else ""
