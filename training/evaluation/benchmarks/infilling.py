"""HumanEval-Infilling (Bavarian et al., arXiv 2207.14255): single-line, multi-line, random-span, random-span-light.

A fill is graded by the tests of the original HumanEval: with HumanEval+'s even the original text fails one in five.
"""

from __future__ import annotations

from dataclasses import replace

from training.evaluation.benchmarks.humaneval import check_suite
from training.evaluation.benchmarks.problem import Problem, Record, text_field

FIELDS = ("task_id", "prompt", "suffix", "canonical_solution", "test", "entry_point")


def read(record: Record, where: str) -> Problem:
    """A hole in a solution of HumanEval."""
    return Problem(
        id=text_field(record, "task_id", where),
        shape="infill",
        prompt=text_field(record, "prompt", where),
        suffix=text_field(record, "suffix", where),
        suites={"base": check_suite(record, where)},
        gold=text_field(record, "canonical_solution", where),
    )


def read_line(record: Record, where: str) -> Problem:
    """A hole of one line."""
    return replace(read(record, where), max_lines=1)
