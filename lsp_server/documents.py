"""Open documents: positions ↔ offsets in each encoding, changes applied, and the holes that an editor points at.

An offset counts code points of the document's text. A position is a line and a column in the units that client and
server agreed on. Lines end with LF, CRLF or CR and nothing else: a form feed or U+2028 is a character like another.

Some editors keep a CR that ends no line of theirs as a character, whatever the protocol says. For those (`lf_lines`)
only LF ends a line, unless the file has none; a column behind a CR that stands before LF is a place like another.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from lsprotocol import types

from model_runtime.protocol import Span

MARKER = "<FILL>"
LINE_END = re.compile(r"\r\n|\n|\r")
LF = re.compile(r"\n")
LF_EDITORS = frozenset(("neovim", "emacs", "eglot", "helix"))  # by the names that they give of themselves
UNIT_CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}


def count_units(text: str, encoding: str) -> int:
    """How many units of "utf-8", "utf-16" or "utf-32" the text takes; a lone surrogate counts as it is sent."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    codec, size = UNIT_CODECS[encoding]
    return len(text.encode(codec, "surrogatepass")) // size


def units_to_characters(line: str, units: int, encoding: str) -> int:
    """How many characters of `line` lie before column `units`: all of them past its end; a split one does not."""
    if encoding == "utf-32" or line.isascii():
        return min(max(units, 0), len(line))
    low, high = 0, min(len(line), max(units, 0))  # no character takes less than one unit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count_units(line[:middle], encoding) <= units else (low, middle - 1)
    return low


@dataclass
class Document:
    """One open file as the client has it; `edits` counts the changes since it was opened."""

    uri: str
    language_id: str
    version: int
    text: str
    encoding: str = "utf-16"
    edits: int = 0
    lf_lines: bool = False
    starts: list[int] = field(default_factory=list, repr=False)  # of lines; empty: not yet known

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return unquote(urlsplit(self.uri).path).rsplit("/", 1)[-1]

    def line_starts(self) -> list[int]:
        """The offset of each line's first character; a text that ends with a line end has an empty last line."""
        if not self.starts:
            ends = (LF if self.lf_lines else LINE_END).finditer(self.text)
            self.starts = [0, *(match.end() for match in ends)]
        return self.starts

    def line_span(self, line: int) -> Span:
        """A line's offsets without its line end; IndexError for a line that is not there."""
        starts = self.line_starts()
        start = starts[line]
        if line + 1 == len(starts):
            return start, len(self.text)
        end = starts[line + 1] - 1
        return start, end - (end > start and self.text[end - 1 : end + 1] == "\r\n")

    def line_of(self, offset: int) -> int:
        """The line that holds an offset."""
        return bisect.bisect_right(self.line_starts(), offset) - 1

    def offset_at(self, position: types.Position, between: bool = False) -> int:
        """A position's offset; past a line's end it means the line's end, past the last line the text's.

        One column past the end of a line with CRLF may lie `between` the two, as with `lf_lines` it always does.
        """
        if position.line >= len(self.line_starts()):
            return len(self.text)
        start, end = self.line_span(max(position.line, 0))
        line = self.text[start:end]
        between = (between or self.lf_lines) and self.text[end : end + 2] == "\r\n"
        if between and position.character == count_units(line, self.encoding) + 1:
            return end + 1
        return start + units_to_characters(line, position.character, self.encoding)

    def position_at(self, offset: int) -> types.Position:
        """The position of an offset; between CR and LF it is the line's end where the CR is part of that."""
        line = self.line_of(offset)
        start, end = self.line_span(line)
        last = offset if self.lf_lines else min(offset, end)
        return types.Position(line, count_units(self.text[start:last], self.encoding))

    def span_of(self, range_: types.Range, between: bool = False) -> Span:
        """A range's offsets, in order even if the client's are not."""
        first, last = self.offset_at(range_.start, between), self.offset_at(range_.end, between)
        return min(first, last), max(first, last)

    def range_of(self, start: int, end: int) -> types.Range:
        """The range of two offsets."""
        return types.Range(self.position_at(start), self.position_at(end))

    def apply(self, changes: Iterable[types.TextDocumentContentChangeEvent], version: int) -> None:
        """Apply a client's changes one after the other, each to the text that the one before it left.

        Nobody but an editor that shows the CR changes something between CR and LF; not all of those give their name.
        """
        for change in changes:
            if isinstance(change, types.TextDocumentContentChangePartial):
                start, end = self.span_of(change.range, between=True)
                self.replace(self.text[:start] + change.text + self.text[end:])
            else:
                self.replace(change.text)
        self.version = version

    def replace(self, text: str) -> None:
        """Take another text; opening and saving may send the one that is there, which is no edit."""
        if text != self.text:
            self.text, self.starts = text, []
            self.edits += 1

    def with_text(self, text: str) -> Document:
        """A copy with another text, to find positions in what an edit would make."""
        return Document(self.uri, self.language_id, self.version, text, self.encoding, self.edits, self.lf_lines)


def join_spans(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, overlapping ones and equal cursors joined: holes as a request wants them."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and (start < joined[-1][1] or (start == end == joined[-1][1])):
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        elif joined and start == joined[-1][0]:  # a cursor at the start of a selection
            joined[-1] = start, end
        else:
            joined.append((start, end))
    return joined


def holes_from_ranges(document: Document, ranges: Sequence[types.Range]) -> list[Span]:
    """The holes of cursors (empty ranges) and selections."""
    return join_spans(document.span_of(range_) for range_ in ranges)


def holes_from_markers(text: str, within: Span | None = None, marker: str = MARKER) -> list[Span]:
    """Every marker in the text, or in a part of it."""
    low, high = within or (0, len(text))
    return [match.span() for match in re.compile(re.escape(marker)).finditer(text, low, high)]
