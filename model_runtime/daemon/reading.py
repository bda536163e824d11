"""JSON from outside, read only where that takes the event loop a few hundredths of a second.

What takes long is many values, not much text: 4 MiB of "[]," are 1.4 million lists. Reading in a thread would not help,
for the reader keeps the interpreter's lock until it is done. So values are counted first, by whole-text operations that
are linear in its length. Integers take the square of their length, so that the longest are refused. 4 MiB of the worst
are counted in 21 ms, and read in another 15 (`python -m benchmarks.reading`; AMD EPYC, 2026-11-21).
"""

from __future__ import annotations

import json
from typing import Any

MOST_VALUES = 20_000  # a request has some dozens, and two for every piece of another file
MOST_DIGITS = 400  # the largest float has 309 before its point


class TooManyValues(ValueError):
    """A text that holds more values than anybody needs."""


def read_json(text: str) -> Any:
    """The value that a text holds; ValueError or RecursionError if it is no JSON, TooManyValues if it is not read."""
    if has_too_many_values(text):
        raise TooManyValues(f"more than {MOST_VALUES} values")
    return json.loads(text, parse_constant=refuse_constant, parse_int=integer)


def has_too_many_values(text: str) -> bool:
    """Whether a text has too many values, or too many texts, to be read.

    With escapes taken out, every second piece between quotes lies outside of texts. Of a text that begins as JSON and
    goes on as something else, the part that a reader would read is counted so too.
    """
    bare = text.replace("\\\\", "").replace('\\"', "")
    if bare.count('"') > 2 * MOST_VALUES:
        return True
    outside = "".join(bare.split('"')[::2])
    return sum(outside.count(mark) for mark in "[{,") > MOST_VALUES


def integer(digits: str) -> int:
    """A number without point and exponent; ValueError for more digits than anybody needs."""
    if len(digits) > MOST_DIGITS:
        raise ValueError("a number is too long")
    return int(digits)


def refuse_constant(name: str) -> float:
    """NaN and the infinities are no JSON."""
    raise ValueError(name)
