"""Whether to ask the model at all, and how long to wait first: what is decided before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass

from lsp_server.documents import Document
from lsp_server.silence import Silence

RIGHT_OF_CURSOR = 8  # characters that may stand there, closers aside
CLOSERS = frozenset(")]}>\"'`;:, \t")
LEAST_WAIT, MOST_WAIT = 0.075, 0.125  # seconds
MEMORY = 0.8  # how much the share of overtaken requests keeps from one request to the next


def check_trigger(document: Document, offset: int, asked: Asked) -> None:
    """Raise Silence where an automatic suggestion would only be in the way; `asked` is the file's last request."""
    before, after = line_around(document, offset)
    if is_word(before[-1:]) and is_word(after[:1]):
        raise Silence("mid_word")
    rest = after.strip()
    if len(rest) > RIGHT_OF_CURSOR and not CLOSERS.issuperset(rest):
        raise Silence("mid_line")
    if document.edits == 0 or (asked.edits == document.edits and asked.offset != offset):
        raise Silence("unchanged")


def is_word(character: str) -> bool:
    """Whether a character belongs to names; "" does not."""
    return character.isalnum() or character == "_"


def line_around(document: Document, offset: int) -> tuple[str, str]:
    """The text of the cursor's line before and after the cursor."""
    start, end = document.line_span(document.line_of(offset))
    return document.text[start:offset], document.text[offset:end]


@dataclass
class Asked:
    """The last automatic request in a file: where, and after how many edits of it."""

    edits: int = -1
    offset: int = -1


@dataclass
class Debounce:
    """How long to wait before asking: the more of the last requests were overtaken by typing, the longer."""

    overtaken: float = 0.0  # share of the last requests, recent ones count more

    def note(self, overtaken: bool) -> None:
        """Learn how a request ended."""
        self.overtaken = MEMORY * self.overtaken + (1 - MEMORY) * overtaken

    def wait(self, fixed_ms: int | None) -> float:
        """Seconds to wait for an automatic request; the setting, where there is one."""
        if fixed_ms is not None:
            return fixed_ms / 1000
        return LEAST_WAIT + (MOST_WAIT - LEAST_WAIT) * self.overtaken
