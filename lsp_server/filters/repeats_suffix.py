"""The fill says again what follows it: a line, the rest of the line, or a mark that the editor closed already."""

from __future__ import annotations

import itertools

from lsp_server.filters.around import Around, letters, line_starts, splits_word
from lsp_server.filters.cut import cut
from lsp_server.filters.lexing import inside_text
from lsp_server.filters.overlap import overlaps, plain
from model_runtime.protocol import HoleFill

TELLING = 3  # letters that make an overlap an echo; fewer may be chance, and the grammar must say so
TELLING_LINE = 2  # of a whole line at the same indentation, which is seldom written twice
TELLING_INSIDE = 6  # of a line that follows the fill and stands in the middle of it
TRIED = 6  # overlaps that are weighed


def repeats_suffix(fill: HoleFill, around: Around) -> HoleFill | None:
    """The fill without the end that the suffix repeats; None if that is all of it."""
    end = find_next_line(fill.text, around)
    if end is None:
        end = find_overlap(fill.text, around)
    if end is None:
        return fill
    return cut(fill, 0, end) if fill.text[:end].strip() else None


def find_overlap(text: str, around: Around) -> int | None:
    """Where to cut so that the end of `text` and the start of the suffix stand there once."""
    shown, origins = plain(text.rstrip())
    after, _ = plain(around.suffix[: 3 * len(text) + 200])
    lengths = [
        length
        for length in overlaps(shown, after)
        if after[:length].strip()
        and not splits_word(shown[:-length], shown[-length:])
        and not splits_word(after[:length], after[length:])
    ]
    kept = around.errors(text)
    for length in itertools.islice(lengths, TRIED):
        end = origins[len(shown) - length]
        errors = around.errors(text[:end])
        if errors < kept or (errors == kept and is_echo(after, length, text, end, around)):
            return end
    return None


def is_echo(after: str, length: int, text: str, end: int, around: Around) -> bool:
    """Whether an overlap is one by its look, where the grammar cannot tell."""
    said = after[:length]
    line = said[0] == "\n" and (length == len(after) or after[length] == "\n" or said[-1] == "\n")
    if letters(said) >= (TELLING_LINE if line else TELLING):
        return True
    # An auto-closed quote: the fill closes the string, and so does the suffix.
    return (
        said[0] in "\"'`"
        and inside_text(around.prefix + text[:end], around.language) == "string"
        and inside_text(around.prefix + text[: end + 1], around.language) is None
    )


def find_next_line(text: str, around: Around) -> int | None:
    """Where the line that follows the hole stands in the fill already, lines of it or inventions behind it."""
    if not around.ends_line:
        return None
    following = next((line for line in around.suffix[:2000].splitlines() if line.strip()), "").rstrip()
    if letters(following) < TELLING_INSIDE:
        return None
    starts = line_starts(text)
    for start, end in itertools.pairwise([*starts, len(text)]):
        line = (around.line_before if start == 0 else "") + text[start:end]
        if line.rstrip() == following:
            before = len(text[:start].rstrip())
            return before if around.errors(text[:before]) <= around.errors(text) else None
    return None
