"""The fill is stuck: it says the line above the hole again, or one line over and over."""

from __future__ import annotations

from lsp_server.filters.around import Around, leading_blanks, letters, line_starts
from lsp_server.filters.cut import cut_tail, edit
from model_runtime.protocol import HoleFill

TELLING = 6  # letters of a line that is not written twice in a row by intent
AGAIN = 3  # the same line as often in a row is a loop; the line above the hole counts


def repeats_line_above(fill: HoleFill, around: Around) -> HoleFill | None:
    """The fill without its first line if that is the line above, and up to where a line comes the third time.

    None if nothing is left, or if what is left was indented below the line that went.
    """
    first = without_first_line(fill, around)
    return first and without_loop(first, around)


def without_first_line(fill: HoleFill, around: Around) -> HoleFill | None:
    """The fill without a first line that repeats the line above it."""
    lines = numbered_lines(fill.text, around)
    above = line_above(lines, around)
    if not lines or lines[0][2] != above or letters(above) < TELLING:
        return fill
    if len(lines) == 1:
        return None
    (start, indent, _), (next_start, next_indent, _) = lines[:2]
    return edit(fill, [(start, next_start, "")]) if indent == next_indent else None


def without_loop(fill: HoleFill, around: Around) -> HoleFill | None:
    """The fill up to the line that comes the third time in a row."""
    lines = numbered_lines(fill.text, around)
    run, before = 1, line_above(lines, around)
    for start, _, line in lines:
        run = run + 1 if line == before else 1
        before = line
        if run >= AGAIN and letters(line):
            shorter = cut_tail(fill, start)
            return shorter if shorter.text else None
    return fill


def numbered_lines(text: str, around: Around) -> list[tuple[int, str, str]]:
    """The lines with text that begin in the fill: where their text starts, their indentation, their text.

    The fill's first line is one only where nothing stands before it.
    """
    lines, starts = [], line_starts(text)
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        line = text[start:end]
        if start == 0 and around.line_before.strip():
            continue
        if line.strip():
            lead = leading_blanks(line)
            indent = (around.line_before if start == 0 else "") + lead
            lines.append((start + len(lead), indent, line.strip()))
    return lines


def line_above(lines: list[tuple[int, str, str]], around: Around) -> str:
    """The text of the last line with text that stands wholly before the fill."""
    above = around.prefix.rstrip()
    start = max(above.rfind("\n"), above.rfind("\r")) + 1
    return above[start:].strip()
