"""Blanks at line ends, and empty lines at the fill's end where a line end follows anyway."""

from __future__ import annotations

import re

from lsp_server.filters.around import Around
from lsp_server.filters.cut import cut, edit
from lsp_server.filters.lexing import lexemes
from model_runtime.protocol import HoleFill

LINE_BLANKS = re.compile(r"[ \t\f]+(?=\r|\n)")
REACH = 40_000  # characters before that are looked at for a string that is still open


def trailing_whitespace(fill: HoleFill, around: Around) -> HoleFill | None:
    """The fill without them; blanks inside a string stay, and what indents the text after the hole."""
    if around.ends_line:
        fill = cut(fill, 0, len(fill.text.rstrip()))
    blanks = [match.span() for match in LINE_BLANKS.finditer(fill.text)]
    if not blanks:
        return fill
    prefix = around.prefix[-REACH:]
    text = prefix + fill.text
    strings = [(a, b) for kind, a, b in lexemes(text, around.language) if kind == "string"]
    return edit(
        fill,
        [
            (start, end, "")
            for start, end in blanks
            if not any(a < start + len(prefix) and end + len(prefix) < b for a, b in strings)
        ],
    )
