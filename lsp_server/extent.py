"""One line or a block: how much to suggest at a cursor, decided from indentation and syntax."""

from __future__ import annotations

import re

from lsp_server.documents import Document
from model_runtime.engine.syntax import encode, language_of, parse, parse_window

BRACED = frozenset(("c", "cpp", "go", "java", "javascript", "typescript", "tsx", "rust"))
COLON = re.compile(r":\s*(?:#.*)?$")
ANY_OPENER = re.compile(r"(?:[:{]|=>|\bthen|\bdo)\s*$")
BRACE = re.compile(r"\{\s*(?:(?://|/\*).*)?$")
PROSE = ("string", "comment", "char_literal")  # parts of node types


def wants_block(document: Document, offset: int) -> bool:
    """Whether the place is the empty body of a block that was just opened: then several lines make sense.

    True at the end of an opener (`def f():`, `if (x) {`) or on a blank line below one, unless what follows is
    indented deeper than the opener, for then the body is there; never within a string or a comment.
    """
    line = document.line_of(offset)
    start, end = document.line_span(line)
    language = language_of(document.name, document.language_id)
    if document.text[offset:end].strip(" \t)};" if language in BRACED else " \t"):
        return False
    opener = find_opener(document, line, document.text[start:offset])
    if opener is None:
        return False
    row, text = opener
    if not opens_block(text, language) or has_body(document, line, indentation(text)):
        return False
    return not in_prose(document, document.line_span(row)[0] + len(text.rstrip()), language)


def find_opener(document: Document, line: int, before: str) -> tuple[int, str] | None:
    """The last line with text up to the cursor, and its text before it."""
    if before.strip():
        return line, before
    for row in range(line - 1, max(-1, line - 20), -1):
        start, end = document.line_span(row)
        if (text := document.text[start:end]).strip():
            return row, text
    return None


def opens_block(text: str, language: str | None) -> bool:
    """Whether a line ends as an opener does in its language."""
    if language in BRACED:
        return BRACE.search(text) is not None
    return (COLON if language == "python" else ANY_OPENER).search(text) is not None


def indentation(line: str) -> int:
    """The width of a line's leading blanks, tabs to the next multiple of four."""
    return len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip(" "))


def has_body(document: Document, line: int, outer: int) -> bool:
    """Whether the next line with text is indented deeper than the opener."""
    for row in range(line + 1, min(len(document.line_starts()), line + 50)):
        start, end = document.line_span(row)
        if (text := document.text[start:end]).strip():
            return indentation(text) > outer
    return False


def in_prose(document: Document, offset: int, language: str | None) -> bool:
    """Whether the character before an offset belongs to a string or a comment; False without a grammar.

    A comment behind an opener counts as the opener's line: the node asked for is where its code ends.
    """
    if language is None:
        return False
    low, high = parse_window(document.text, offset, offset)
    text = document.text[low:high]
    line_start = text.rfind("\n", 0, offset - low) + 1
    code = re.sub(r"\s*(?:#|//|/\*).*$", "", text[line_start : offset - low])
    place = len(encode(text[: line_start + len(code)]))
    node = parse(encode(text), language).descendant_for_byte_range(max(0, place - 1), place)
    while node is not None:
        if any(word in node.type for word in PROSE):
            return True
        node = node.parent
    return False
