"""Texts compared as code: blanks at line ends and empty lines do not count."""

from __future__ import annotations

import re
from collections.abc import Iterator

EMPTY_LINES = re.compile(r"[ \t]*(?:\r\n|\r|\n)(?:[ \t]*(?:\r\n|\r|\n))*")
MOST = 2000  # characters that are compared; a longer repetition is found by its part


def plain(text: str) -> tuple[str, list[int]]:
    """The text with every run of line ends as one newline, and where each of its characters (and its end) stood."""
    parts: list[str] = []
    origins: list[int] = []
    position = 0
    for ends in EMPTY_LINES.finditer(text):
        parts += [text[position : ends.start()], "\n"]
        origins += range(position, ends.start() + 1)
        position = ends.end()
    parts.append(text[position:])
    origins += range(position, len(text) + 1)
    return "".join(parts), origins


def overlaps(left: str, right: str) -> Iterator[int]:
    """The lengths at which an end of `left` is a start of `right`, the longest first."""
    for length in range(min(len(left), len(right), MOST), 0, -1):
        if left.endswith(right[:length]):
            yield length
