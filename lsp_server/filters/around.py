"""What a filter knows of a fill's surroundings, and the questions that several filters ask about them."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from model_runtime.engine.syntax import count_errors, language_of, parse_window
from model_runtime.protocol import HoleFill, apply_fills

LINE_END = re.compile(r"\r\n|\r|\n")
BLANKS = re.compile(r"[ \t\f]*")


@dataclass(frozen=True)
class Around:
    """The document around one hole.

    prefix, suffix: all text before and after the hole; other holes stand in them as they will read when filled.
    language: one of the grammars of `syntax_table`, or None: then nothing is parsed.
    replaced: what stood in the hole itself.
    """

    prefix: str
    suffix: str
    language: str | None = None
    path: str | None = None
    replaced: str = ""

    @property
    def line_before(self) -> str:
        """The part of the hole's first line that stands before it."""
        return last_line(self.prefix)

    @property
    def line_after(self) -> str:
        """The part of the hole's last line that stands after it, without its line end."""
        return first_line(self.suffix)

    @property
    def ends_line(self) -> bool:
        """Whether nothing but blanks follows the hole on its line."""
        return not self.line_after.strip()

    def errors(self, middle: str) -> int:
        """Syntax errors around the hole with `middle` in it; 0 without a grammar."""
        if self.language is None:
            return 0
        before = self.prefix + self.replaced + self.suffix
        low, high = parse_window(before, len(self.prefix), len(before) - len(self.suffix))
        end = len(self.suffix) - (len(before) - high)
        return cached_errors(self.prefix[low:] + middle + self.suffix[:end], self.language)


@functools.lru_cache(maxsize=16)
def cached_errors(text: str, language: str) -> int:
    """`count_errors`, remembered: the filters of one fill ask for the same few texts."""
    return count_errors(text, language)


def around_hole(
    text: str, holes: Sequence[HoleFill], index: int, language: str | None = None, path: str | None = None
) -> Around:
    """The surroundings of `holes[index]` in `text`, the other holes filled.

    `language` is a name as editors give it; without one the path decides.
    """
    hole = holes[index]
    before = apply_fills(text[: hole.start], list(holes[:index]))
    moved = [
        HoleFill(other.start - hole.end, other.end - hole.end, other.text, other.confidence, other.length_policy)
        for other in holes[index + 1 :]
    ]
    after = apply_fills(text[hole.end :], moved)
    return Around(before, after, language_of(path, language), path, text[hole.start : hole.end])


def last_line(text: str) -> str:
    """What follows the last line end."""
    return text[max(text.rfind("\n"), text.rfind("\r")) + 1 :]


def first_line(text: str) -> str:
    """What precedes the first line end."""
    end = LINE_END.search(text)
    return text[: end.start()] if end else text


def leading_blanks(line: str) -> str:
    """The blanks that a line begins with."""
    blanks = BLANKS.match(line)
    assert blanks  # it matches nothing, too
    return blanks.group()


def line_starts(text: str) -> list[int]:
    """Where each line of `text` begins; the first begins at 0."""
    return [0, *(end.end() for end in LINE_END.finditer(text))]


def letters(text: str) -> int:
    """How many letters and digits a text has: what makes a repetition tell."""
    return sum(map(str.isalnum, text))


def is_word(character: str) -> bool:
    """Whether a character can stand in an identifier."""
    return character.isalnum() or character == "_"


def splits_word(left: str, right: str) -> bool:
    """Whether the seam of two texts lies inside a word."""
    return bool(left and right and is_word(left[-1]) and is_word(right[0]))
