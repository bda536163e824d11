"""The fill says nothing, or only talks about what code should stand there."""

from __future__ import annotations

from lsp_server.filters.around import Around
from lsp_server.filters.lexing import inside_text, lexemes
from model_runtime.protocol import HoleFill

REACH = 40_000  # characters before that are looked at for a comment that is still open


def empty_or_comment(fill: HoleFill, around: Around) -> HoleFill | None:
    """None for white space, and for comments alone; a fill that goes on in a comment of the user's is kept.

    What is a comment is known of the languages with a grammar; in others, comments are text.
    """
    if not fill.text.strip():
        return None
    if around.language is None or inside_text(around.prefix[-REACH:], around.language):
        return fill
    position, code = 0, ""
    for kind, start, end in lexemes(fill.text, around.language):
        if kind == "comment":
            code += fill.text[position:start]
            position = end
    return fill if (code + fill.text[position:]).strip() else None
