"""SantaCoder-FIM (Allal et al., arXiv 2301.03988): one line of a function, by exact match; Python, Java, JavaScript."""

from __future__ import annotations

from training.evaluation.benchmarks.problem import Exact, Problem, Record, text_field

FIELDS = ("name", "language", "prompt", "suffix", "canonical_solution")
LANGUAGES = {"py": "python", "java": "java", "js": "javascript"}


def read(record: Record, where: str) -> Problem:
    """A hole; `name` repeats, so the place where the record stands makes the id."""
    gold, language = text_field(record, "canonical_solution", where), text_field(record, "language", where)
    return Problem(
        id=f"{text_field(record, 'name', where)}/{where.rpartition(' ')[2]}",
        shape="infill",
        prompt=text_field(record, "prompt", where),
        suffix=text_field(record, "suffix", where),
        suites={"exact": Exact(gold)},
        gold=gold,
        language=LANGUAGES.get(language, language),
        max_lines=1 if "\n" not in gold.rstrip("\n") else None,
    )
