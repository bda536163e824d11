"""The reward for form: an answer is text with exactly one fenced block of Python that parses."""

from __future__ import annotations

import re

from training.corpus.clean import parse

FENCE = "```"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
PARSES, FENCED = 1.0, 0.5
WEIGHT = 0.5  # of this reward against that of the tests, as in the DiffuCoder repository


def extract_code(completion: str, newline: bool = False) -> str | None:
    """The code of the only block of a completion; None for no block, another language, or further fences.

    With `newline` a line end must follow the block, as in the DiffuCoder repository.
    """
    match = BLOCK.search(completion)
    if match is None or completion.count(FENCE) != 2:
        return None
    rest = completion[match.end() :]
    if not rest.startswith("\n") and (rest or newline):
        return None
    return match[1]


def code_format(completion: str, newline: bool = False) -> float:
    """1 for one block of Python that parses, 0.5 for one that does not, 0 for everything else."""
    code = extract_code(completion, newline)
    if code is None:
        return 0.0
    return FENCED if parse(code) is None else PARSES
