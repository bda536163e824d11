"""The file must parse with the fill at least as well as without it."""

from __future__ import annotations

from lsp_server.filters.around import Around, line_starts
from lsp_server.filters.cut import cut_tail
from lsp_server.filters.lexing import PAIRS, lexemes
from model_runtime.protocol import HoleFill

CLOSING = {opening: closing for closing, opening in PAIRS.items()}
CUTS = 8  # lines that are given up before the fill is


def syntax_no_worse(fill: HoleFill, around: Around) -> HoleFill | None:
    """The fill, or as many of its first lines as parse; None where not even the first does.

    No worse means: no more errors than before; where there were some, than with the hole empty. A fill that ends
    with an opening bracket is read as if it were closed: its block or arguments are what the user writes next.
    """
    if around.language is None or around.errors(fill.text) == 0:
        return fill
    limit = around.errors(around.replaced)
    if limit and around.replaced:
        limit = around.errors("")
    if around.errors(fill.text) <= limit or around.errors(closed(fill.text, around.language)) <= limit:
        return fill
    for start in reversed(line_starts(fill.text)[1:][-CUTS:]):
        shorter = cut_tail(fill, start)
        if shorter.text and around.errors(shorter.text) <= limit:
            return shorter
    return None


def closed(text: str, language: str) -> str:
    """The text with all that it opens closed again, if it ends by opening."""
    if not text.rstrip().endswith(tuple(CLOSING)):
        return text
    opened: list[str] = []
    for kind, start, _ in lexemes(text, language):
        if kind == "open":
            opened.append(CLOSING[text[start]])
        elif kind == "close" and opened:
            opened.pop()
    return text + "".join(reversed(opened))
