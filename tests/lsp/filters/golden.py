"""Golden cases: a text with «…» around what the model said; what a filter makes of it stands in «…» again."""

from __future__ import annotations

from lsp_server.filters import Around
from model_runtime.protocol import HoleFill, TokenInfo


def parse_case(marked: str, language: str | None = "python") -> tuple[HoleFill, Around]:
    """The fill between « and », its tokens being its words and the blanks between them, and what is around it."""
    prefix, _, rest = marked.partition("«")
    text, _, suffix = rest.partition("»")
    return make_fill(text, len(prefix)), Around(prefix, suffix, language)


def make_fill(text: str, start: int = 0) -> HoleFill:
    """A fill of an empty hole, one token for each word and each run of blanks."""
    tokens, begin = [], 0
    for end in range(1, len(text) + 1):
        if end == len(text) or text[end].isspace() != text[begin].isspace():
            tokens.append(TokenInfo(begin, end, 0.5, 1))
            begin = end
    return HoleFill(start, start, text, 0.5, "fixed", tokens)


def run(filter_, marked: str, language: str | None = "python") -> str | None:
    """What a filter leaves of the fill in a marked text; its tokens are checked on the way."""
    fill, around = parse_case(marked, language)
    filtered = filter_(fill, around)
    if filtered is None:
        return None
    check_tokens(filtered)
    return filtered.text


def check_tokens(fill: HoleFill) -> None:
    """Tokens are in order, do not overlap, and lie within the text."""
    position = 0
    for token in fill.tokens:
        assert position <= token.start < token.end <= len(fill.text)
        position = token.end
