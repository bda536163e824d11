"""The fill closes a bracket that is not its to close: everything from there on is cut.

A fill may close what the prefix left open, unless the suffix does so: an editor that closes pairs has written the
closing bracket before the fill comes, and the end of a block stands below the cursor in most files.
"""

from __future__ import annotations

from lsp_server.filters.around import Around
from lsp_server.filters.cut import cut_tail
from lsp_server.filters.lexing import PAIRS, inside_text, lexemes
from model_runtime.protocol import HoleFill

Mark = tuple[int, str]  # offset and bracket
REACH = 40_000  # characters before and after that are looked at


def brackets(fill: HoleFill, around: Around) -> HoleFill | None:
    """The fill up to the first bracket that nothing open matches; None if that leaves nothing.

    A fill that leaves the file's brackets as well matched as before stays whole: `a), f(b` inside `f(…)` is fine.
    """
    if not any(bracket in fill.text for bracket in ")]}"):
        return fill
    prefix, suffix = around.prefix[-REACH:], around.suffix[:REACH]
    if inside_text(prefix, around.language):
        return fill

    def marks(middle: str) -> list[Mark]:
        text = prefix + middle + suffix
        return [
            (a - len(prefix), text[a]) for kind, a, _ in lexemes(text, around.language) if kind in ("open", "close")
        ]

    filled = marks(fill.text)
    strays, left_open = count_unmatched(filled)
    strays_before, left_open_before = count_unmatched(marks(around.replaced))
    if strays <= strays_before and left_open <= left_open_before:
        return fill
    own = [mark for mark in filled if 0 <= mark[0] < len(fill.text)]
    before = [bracket for offset, bracket in filled if offset < 0]
    after = [bracket for offset, bracket in filled if offset >= len(fill.text)]
    end = first_unmatched(own, free_openers(before, after))
    if end is None:
        return fill
    shorter = cut_tail(fill, end)
    return shorter if shorter.text else None


def count_unmatched(marks: list[Mark]) -> tuple[int, int]:
    """How many closing and how many opening brackets have no partner.

    A closing one pairs with the nearest of its kind that is open; those opened in between have none.
    """
    opened: list[str] = []
    strays = left_open = 0
    for _, bracket in marks:
        if bracket not in PAIRS:
            opened.append(bracket)
        elif PAIRS[bracket] in opened:
            place = rightmost(opened, PAIRS[bracket])
            left_open += len(opened) - place - 1
            del opened[place:]
        else:
            strays += 1
    return strays, left_open + len(opened)


def free_openers(before: list[str], after: list[str]) -> list[str]:
    """The brackets that the text before leaves open and the text after does not close, above any that it does."""
    opened: list[str] = []
    for bracket in before:
        if bracket not in PAIRS:
            opened.append(bracket)
        elif PAIRS[bracket] in opened:
            del opened[rightmost(opened, PAIRS[bracket]) :]
    own: list[str] = []
    waiting, claimed = list(opened), 0
    for bracket in after:
        if bracket not in PAIRS:
            own.append(bracket)
        elif PAIRS[bracket] in own:
            del own[rightmost(own, PAIRS[bracket]) :]
        elif PAIRS[bracket] in waiting:
            place = rightmost(waiting, PAIRS[bracket])
            claimed = max(claimed, place + 1)
            del waiting[place:]
    return opened[claimed:]


def first_unmatched(marks: list[Mark], free: list[str]) -> int | None:
    """The offset of the first closing bracket that matches neither the last one open in the fill nor a free one."""
    opened = list(free)
    for offset, bracket in marks:
        if bracket not in PAIRS:
            opened.append(bracket)
        elif opened and opened[-1] == PAIRS[bracket]:
            opened.pop()
        else:
            return offset
    return None


def rightmost(items: list[str], item: str) -> int:
    """The last index of an item that is there."""
    return len(items) - 1 - items[::-1].index(item)
