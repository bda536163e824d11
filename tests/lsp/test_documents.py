"""Whatever a client types, the server has the same text; offsets and positions name the same places."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from lsprotocol import types

from lsp_server.documents import Document, holes_from_markers, holes_from_ranges, join_spans

PIECES = [
    "a",
    "é",
    "e\u0301",
    "😀",
    "👩‍🚀",
    "\t",
    "\r\n",
    "\n",
    "\r",
    " ",
    "\f",
    "\u2028",
    "\x85",
    "\ufeff",
    "中",
    "def f():",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
ENCODINGS = st.sampled_from(["utf-8", "utf-16", "utf-32"])
SIZES = {"utf-8": lambda c: len(c.encode()), "utf-16": lambda c: 1 + (ord(c) > 0xFFFF), "utf-32": lambda c: 1}


def places(text: str, encoding: str, lf_lines: bool = False) -> list[tuple[int, int, int]]:
    """Every place a cursor can be at: offset, line, column; found by walking along, as an editor's own model would.

    With `lf_lines` CR is a character like another, as in Neovim, Emacs and Helix.
    """
    found, line, column, index = [], 0, 0, 0
    while True:
        found.append((index, line, column))
        if index == len(text):
            return found
        width = 2 if text[index : index + 2] == "\r\n" and not lf_lines else 1
        if text[index] in ("\n" if lf_lines else "\r\n"):
            line, column = line + 1, 0
        else:
            column += SIZES[encoding](text[index])
        index += width


@given(TEXTS, ENCODINGS, st.booleans(), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), TEXTS), max_size=6))
@example("a\r\nb", "utf-16", False, [(0.5, 0.5, "\n"), (0.4, 0.9, "😀")])
@example("a\r\nb\n", "utf-8", True, [(0.3, 0.5, "")])  # the CR alone, as Neovim takes it out
def test_the_servers_text_is_the_clients(text, encoding, lf_lines, edits):
    document = Document("file:///a.py", "python", 1, text, encoding, lf_lines=lf_lines)
    for version, (first, second, new) in enumerate(edits, start=2):
        spots = places(text, encoding, lf_lines)
        one, other = sorted((spots[int(first * (len(spots) - 1))], spots[int(second * (len(spots) - 1))]))
        text = text[: one[0]] + new + text[other[0] :]
        range_ = types.Range(types.Position(one[1], one[2]), types.Position(other[1], other[2]))
        document.apply([types.TextDocumentContentChangePartial(range_, new)], version)
        assert document.text == text
        assert document.version == version


@given(TEXTS, ENCODINGS, st.booleans())
def test_offsets_and_positions_name_the_same_places(text, encoding, lf_lines):
    document = Document("file:///a.py", "python", 1, text, encoding, lf_lines=lf_lines)
    for offset, line, column in places(text, encoding, lf_lines):
        position = types.Position(line, column)
        assert document.offset_at(position) == offset
        assert document.position_at(offset) == position


def test_positions_past_the_end_mean_the_end():
    document = Document("file:///a.py", "python", 1, "ab\r\n😀\n")
    assert document.offset_at(types.Position(0, 99)) == 2
    assert document.offset_at(types.Position(1, 99)) == 5
    assert document.offset_at(types.Position(1, 1)) == 4  # half of the pair
    assert document.offset_at(types.Position(2, 0)) == document.offset_at(types.Position(9, 9)) == 6


@given(TEXTS, ENCODINGS, st.booleans())
def test_an_edit_at_any_offsets_keeps_the_text_around_it(text, encoding, lf_lines):
    """Also between CR and LF, and inside what an editor shows as one character: a place of the server's own choice."""
    document = Document("file:///a.py", "python", 1, text, encoding, lf_lines=lf_lines)
    for start in range(len(text) + 1):
        for end in range(start, min(start + 3, len(text)) + 1):
            low, high = document.span_of(document.range_of(start, end))
            assert low in (start, start - (text[start - 1 : start + 1] == "\r\n"))
            assert high in (end, end - (text[end - 1 : end + 1] == "\r\n"))


def test_between_cr_and_lf_is_a_place_for_editors_that_show_the_cr():
    document = Document("file:///a.py", "python", 1, "ab\r\n", lf_lines=True)
    assert document.offset_at(types.Position(0, 3)) == 3
    assert document.position_at(3) == types.Position(0, 3)
    assert document.line_span(0) == (0, 2)  # a suggestion at the line's end stands before the CR
    unnamed = Document("file:///a.py", "python", 1, "ab\r\nc")
    assert unnamed.offset_at(types.Position(0, 3)) == 2  # as the protocol says
    cr = types.Range(types.Position(0, 2), types.Position(0, 3))
    unnamed.apply([types.TextDocumentContentChangePartial(cr, "")], 2)
    assert unnamed.text == "ab\nc"


def test_only_real_changes_count_as_edits():
    document = Document("file:///a.py", "python", 1, "ab")
    document.apply([types.TextDocumentContentChangeWholeDocument("ab")], 2)
    assert (document.edits, document.version) == (0, 2)
    document.apply([types.TextDocumentContentChangeWholeDocument("abc")], 3)
    assert document.edits == 1


def test_cursors_selections_and_markers_become_holes():
    text = "x = <FILL>\ny = <FILL>\n"
    document = Document("file:///a.py", "python", 1, text)
    cursor, selection = document.range_of(3, 3), document.range_of(12, 15)
    assert holes_from_ranges(document, [selection, cursor, cursor]) == [(3, 3), (12, 15)]
    assert holes_from_markers(text) == [(4, 10), (15, 21)]
    assert holes_from_markers(text, within=(11, 22)) == [(15, 21)]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=6))
def test_joined_spans_can_be_asked_for(pairs):
    from model_runtime.protocol import FillRequest

    joined = join_spans((start, start + size) for start, size in pairs)
    if joined:
        FillRequest(text="x" * 14, holes=joined).check()
    covered = {n for start, size in pairs for n in range(start, start + size)}
    assert covered == {n for start, end in joined for n in range(start, end)}
