"""Indent a fill as its file is indented: tabs or spaces, their width, and levels that exist.

Each line of the fill is placed by the levels around it: below an opener one level deeper, else on the level it comes
back to. In Python, where indentation is grammar, a line that is deeper for no reason is put back, and a fill ends where
a line would leave the block that goes on after the hole. In other languages such a line keeps its distance.
Blank lines and the insides of strings stay as they are; brackets keep the shape they have.
"""

from __future__ import annotations

import collections
import itertools
from dataclasses import dataclass

from lsp_server.filters.around import Around, leading_blanks, line_starts
from lsp_server.filters.cut import cut_tail, edit
from lsp_server.filters.lexing import lexemes
from model_runtime.protocol import HoleFill

TAB = 4  # columns of a tab, where the file does not tell
REACH = 20_000  # characters before and after that are looked at
OPENERS = ("{", "(", "[", ":")


@dataclass
class Line:
    """A line with text, of the prefix or the fill."""

    start: int  # offset in the fill; negative: it begins before
    lead: str  # the blanks it begins with
    fixed: bool  # not ours to place: begun before the fill, or within a string
    deep: bool  # it goes on with the line above: open brackets, a backslash
    opens: bool  # the next line is to be deeper


def indentation(fill: HoleFill, around: Around) -> HoleFill | None:
    """The fill with its lines indented as the file is; text outside the hole is never changed."""
    before = around.prefix[-REACH:]
    unit = indent_unit(before + "\n" + around.suffix[:REACH]) or (" " * TAB if around.language == "python" else None)
    if unit is None:
        return fill
    lines = read_lines(before, fill.text, around)
    leads = place(lines, unit, around)
    if around.language == "python":
        end = leaves_block(lines, leads, unit, around)
        if end is not None:
            kept = [line.start < end for line in lines]
            lines, leads = list(itertools.compress(lines, kept)), list(itertools.compress(leads, kept))
            fill = cut_tail(fill, end)
    edits = []
    for line, lead in zip(lines, leads, strict=True):
        if line.start >= 0 and not line.fixed:
            outside = around.line_before if line.start == 0 else ""
            inside = lead[len(outside) :] if lead.startswith(outside) else ""
            edits.append((line.start, line.start + len(line.lead) - len(outside), inside))
    return edit(fill, edits)


def indent_unit(text: str) -> str | None:
    """What one level is in a text: a tab, or so many spaces; None where nothing is indented."""
    lines = [line for line in text.splitlines() if line.strip()]
    tabs = sum(line[0] == "\t" for line in lines)
    spaces = sum(line.startswith("  ") for line in lines)
    if tabs or spaces:
        steps: collections.Counter[int] = collections.Counter()
        for above, line in itertools.pairwise(lines):
            step = len(leading_blanks(line)) - len(leading_blanks(above))
            if 1 < step <= 8 and line[0] == " " and above.rstrip().endswith(OPENERS):
                steps[step] += 1
        if tabs >= spaces:
            return "\t"
        return " " * (steps.most_common(1)[0][0] if steps else TAB)
    return None


def read_lines(before: str, text: str, around: Around) -> list[Line]:
    """The lines with text of the prefix's part `before` and of the fill's `text`."""
    whole = before + text
    marks = lexemes(whole, around.language)
    starts = line_starts(whole)
    python = around.language == "python"
    lines: list[Line] = []
    index = depth = 0
    goes_on = False
    for start, end in zip(starts, [*starts[1:], len(whole)], strict=True):
        while index and marks[index - 1].end > start:
            index -= 1  # a string that reaches into this line
        within = index < len(marks) and marks[index].kind != "open" and marks[index].start < start < marks[index].end
        deep = depth > 0 or goes_on
        code, position = "", start
        while index < len(marks) and marks[index].start < end:
            mark = marks[index]
            if mark.start >= start:
                depth = max(0, depth + (mark.kind == "open") - (mark.kind == "close"))
            if mark.kind == "comment":
                code += whole[position : max(position, mark.start)]
                position = min(mark.end, end)
            index += 1
        code = (code + whole[position:end]).rstrip()
        shown = whole[start:end] + (around.line_after if end == len(whole) else "")
        if not shown.strip():
            continue
        opens = code.endswith(":") and depth == 0 if python else code.endswith(OPENERS)
        goes_on = python and code.endswith("\\")
        offset = start - len(before)
        lead = leading_blanks(whole[start:end])
        if offset < 0 <= offset + len(lead) and not around.line_before.strip():
            offset = 0  # begun by blanks only: the fill may add to them
        lines.append(Line(offset, lead, offset < 0 or within, python and deep, opens))
    return lines


def place(lines: list[Line], unit: str, around: Around) -> list[str]:
    """The blanks that each line should begin with; those of lines that are not ours are as they are."""
    base = width(leading_blanks(around.line_before), unit)
    leads, sound = place_shifted(lines, unit, around, 0)
    if not sound and base:  # nothing below an opener: perhaps written as if the hole's line began at column 0
        shifted, sound = place_shifted(lines, unit, around, base)
        leads = shifted if sound else leads
    return leads


def place_shifted(lines: list[Line], unit: str, around: Around, shift: int) -> tuple[list[str], bool]:
    """As `place`, the fill's later lines moved right by `shift` columns; and whether every opener has a body."""
    levels: list[tuple[int, str]] = [(0, "")]  # as the text has them: columns; as they are to be: blanks
    strict = around.language == "python"
    leads, opened, sound = [], False, True
    for line in lines:
        wide = width(line.lead, unit) + (shift if line.start > 0 else 0)
        lead = line.lead
        if line.deep:
            if not line.fixed:
                lead = levels[-1][1] + blanks(wide - levels[-1][0], unit)
        elif not (line.fixed and line.start >= 0):
            if strict and opened and wide <= levels[-1][0] and line.start > 0:
                sound = False
            left: tuple[int, str] | None = None
            while levels[-1][0] > wide:
                left = levels.pop()
            top_wide, top = levels[-1]
            if line.fixed:
                levels[-1:] = [levels[-1], (wide, lead)] if wide > top_wide else [(wide, lead)]
            elif wide == top_wide:
                lead = top
            elif opened:
                as_given = line.start == 0 and line.lead == around.line_before
                lead = line.lead if as_given else top + unit
                levels.append((wide, lead))
            elif not strict:
                lead = top + blanks(wide - top_wide, unit)
                levels.append((wide, lead))
            elif left is not None and left[0] - wide <= wide - top_wide:
                lead = left[1]
                levels.append(left)
            elif line.start == 0 and not top.startswith(around.line_before):
                lead = around.line_before  # the user's cursor is that deep
                levels.append((wide, lead))
            else:
                lead = top
        leads.append(lead)
        opened = line.opens
    return leads, sound


def leaves_block(lines: list[Line], leads: list[str], unit: str, around: Around) -> int | None:
    """The offset of the fill's first line that ends the block which goes on after the hole; None without one."""
    following = next((line for line in around.suffix[:REACH].splitlines() if line.strip()), "")
    floor = width(leading_blanks(following), unit)
    if not around.ends_line or not 0 < floor <= width(leading_blanks(around.line_before), unit):
        return None
    for line, lead in zip(lines, leads, strict=True):
        if line.start > 0 and not line.fixed and not line.deep and width(lead, unit) < floor:
            return line.start
    return None


def width(lead: str, unit: str) -> int:
    """Columns of blanks; a tab counts as one level."""
    return sum((TAB if unit == "\t" else len(unit)) if blank == "\t" else 1 for blank in lead)


def blanks(columns: int, unit: str) -> str:
    """So many columns, in the file's kind of blanks."""
    columns = max(columns, 0)
    return "\t" * (columns // TAB) + " " * (columns % TAB) if unit == "\t" else " " * columns
