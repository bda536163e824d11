"""The fill begins by saying again what stands before it: the start of the line, or the word being typed."""

from __future__ import annotations

import itertools

from lsp_server.filters.around import Around, letters, splits_word
from lsp_server.filters.cut import cut
from lsp_server.filters.overlap import overlaps, plain
from model_runtime.protocol import HoleFill

TELLING = 3  # letters that make an overlap an echo; fewer may be chance, and the grammar must say so
TRIED = 6  # overlaps that are weighed


def repeats_prefix(fill: HoleFill, around: Around) -> HoleFill | None:
    """The fill without the start that the prefix ends with; None if that is all of it."""
    start = find_overlap(fill.text, around)
    if start is None:
        return fill
    return cut(fill, start) if fill.text[start:].strip() else None


def find_overlap(text: str, around: Around) -> int | None:
    """Where the fill should begin so that the end of the prefix and the start of `text` stand there once."""
    shown, origins = plain(text)
    before, _ = plain(around.prefix[-(3 * len(text) + 200) :])
    lengths = [length for length in overlaps(before, shown) if not splits_word(before[:-length], before[-length:])]
    kept = around.errors(text) if lengths else 0
    for length in itertools.islice(lengths, TRIED):
        said = shown[:length]
        if not said.strip():
            # A blank on both sides of the seam; indentation is another filter's.
            if "\n" not in said and around.line_before.strip():
                return origins[length]
            continue
        errors = around.errors(text[origins[length] :])
        if errors < kept or (errors == kept and letters(said) >= TELLING):
            return origins[length]
    return None
