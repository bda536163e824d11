"""Filters after the model: what is wrong with a fill is cut off, or the fill is dropped.

A filter is a pure function `(fill, around) -> fill | None`; None drops the fill, and the filter's name is the reason.
The order, and why:

1. `indentation` restyles lines, so that the others compare them as they will stand in the file;
2. `repeats_prefix`, `repeats_line_above`, `repeats_suffix` cut what is there already;
3. `brackets` cuts what closes more than is open, once echoes are gone;
4. `trailing_whitespace` trims what the cuts and the model left at line ends;
5. `empty_or_comment` drops what then says nothing;
6. `syntax_no_worse` is the last word: it cuts back to the last line that parses, or drops.

A cut can bare what an earlier filter looks for; so they all run again until nothing changes.
"""

from __future__ import annotations

from lsp_server.filters.around import Around, around_hole
from lsp_server.filters.brackets import brackets
from lsp_server.filters.cut import join
from lsp_server.filters.empty_or_comment import empty_or_comment
from lsp_server.filters.indentation import indentation
from lsp_server.filters.repeats_line_above import repeats_line_above
from lsp_server.filters.repeats_prefix import repeats_prefix
from lsp_server.filters.repeats_suffix import repeats_suffix
from lsp_server.filters.syntax_no_worse import syntax_no_worse
from lsp_server.filters.trailing_whitespace import trailing_whitespace
from model_runtime.protocol import HoleFill

__all__ = ["FILTERS", "Around", "apply_filters", "around_hole", "join"]

FILTERS = (
    indentation,
    repeats_prefix,
    repeats_line_above,
    repeats_suffix,
    brackets,
    trailing_whitespace,
    empty_or_comment,
    syntax_no_worse,
)
ROUNDS = 8  # more cuts than any text but a made-up one takes


def apply_filters(fill: HoleFill, around: Around) -> tuple[HoleFill | None, str | None]:
    """The fill after all filters and None, or None and the name of the filter that dropped it.

    The text and tokens of `fill` are never changed in place; the same object comes back where no filter objects.
    """
    for _ in range(ROUNDS):
        before = fill
        for filter_ in FILTERS:
            filtered = filter_(fill, around)
            if filtered is None:
                return None, filter_.__name__
            fill = filtered
        if fill is before:
            break
    return fill, None
