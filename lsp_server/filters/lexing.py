"""Brackets, strings and comments of code, found by patterns.

A grammar would know better, but the text around a cursor is mostly broken, and most languages have no grammar here.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

PAIRS = {")": "(", "]": "[", "}": "{"}
SHORT = r'"(?:\\(?s:.)|[^"\\\r\n])*(?:"|\\?\Z|(?=[\r\n]))'  # a string of one line; it ends with the line at the latest
SHORT_SINGLE = SHORT.replace('"', "'")
CHARACTER = r"'(?:\\[^'\r\n]+|[^'\\\r\n])'"  # no string: Rust's lifetimes and C's digit groups have one mark only
SLASHES = r"//[^\r\n]*|/\*(?s:.*?)(?:\*/|\Z)"
PYTHON = (
    r"#[^\r\n]*",
    r'"""(?s:\\.|.)*?(?:"""|\Z)' + r"|'''(?s:\\.|.)*?(?:'''|\Z)" + f"|{SHORT}|{SHORT_SINGLE}",
)
REGEX = r"(?<=[(,=:\[!&|?{};])[ \t]*/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\r\n])*\]|[^/\\\[\r\n])+/"
SCRIPT = (SLASHES, rf"`(?s:\\.|[^`\\])*(?:`|\Z)|{SHORT}|{SHORT_SINGLE}|{REGEX}")
BRACED = (SLASHES, f"{SHORT}|{CHARACTER}")
GO = (SLASHES, rf"`[^`]*(?:`|\Z)|{SHORT}|{CHARACTER}")
UNKNOWN = (SLASHES + r"|(?<![^\s])#[ \t][^\r\n]*", f"{SHORT}|{CHARACTER}")
PATTERNS = {
    "python": PYTHON,
    "javascript": SCRIPT,
    "typescript": SCRIPT,
    "tsx": SCRIPT,
    "go": GO,
    "rust": BRACED,
    "java": BRACED,
    "c": BRACED,
    "cpp": BRACED,
}


class Lexeme(NamedTuple):
    """A range of a text: kind "comment", "string", "open" or "close"."""

    kind: str
    start: int
    end: int


@functools.cache
def pattern(language: str | None) -> re.Pattern[str]:
    """What finds the lexemes of a language; None and unknown names get what most languages share."""
    comment, string = PATTERNS.get(language or "", UNKNOWN)
    return re.compile(rf"(?P<comment>{comment})|(?P<string>{string})|(?P<open>[(\[{{])|(?P<close>[)\]}}])")


def lexemes(text: str, language: str | None) -> list[Lexeme]:
    """The brackets, strings and comments of a text, in order; brackets inside the others are not listed."""
    return [Lexeme(match.lastgroup or "", *match.span()) for match in pattern(language).finditer(text)]


def inside_text(text: str, language: str | None) -> str | None:
    """ "comment" or "string" where a text breaks off inside one, else None."""
    marked = lexemes(text + "\0", language)
    last = marked[-1] if marked else None
    return last.kind if last and last.end > len(text) and last.kind in ("comment", "string") else None
