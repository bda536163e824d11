"""Lines and columns to offsets and back, on every line end and on characters that are easily miscounted."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.commands.files import (
    Source,
    find_holes,
    line_range,
    offset_at,
    position_of,
    split_lines,
)
from model_runtime.protocol import RequestError

PIECES = ["a", "b c", "\n", "\r\n", "\r", "\t", "👩‍💻", "e\u0301", "\u2028", "\x0b", "\x0c", "\x85", "漢", ""]
texts = st.builds(lambda bom, parts: "\ufeff" * bom + "".join(parts), st.booleans(), st.lists(st.sampled_from(PIECES)))


def source(text):
    return Source(None, "it", text)


@given(texts)
def test_every_position_and_its_offset_name_each_other(text):
    lines = split_lines(text)
    for number, (start, end) in enumerate(lines, 1):
        for column in range(1, end - start + 2):
            offset = offset_at(lines, number, column)
            assert offset == start + column - 1
            assert position_of(lines, offset) == (number, column)


@given(texts)
def test_lines_and_line_ends_are_the_whole_text(text):
    lines = split_lines(text)
    body = text[1:] if text.startswith("\ufeff") else text
    assert lines[0][0] == len(text) - len(body)
    assert lines[-1][1] == len(text)
    ends = [text[end:start] for (_, end), (start, _) in pairwise(lines)]
    assert all(end in ("\n", "\r\n", "\r") for end in ends)
    assert not any(c in text[start:end] for start, end in lines for c in "\r\n")
    assert len(lines) == body.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1


@given(texts, st.data())
def test_a_line_range_leaves_its_last_line_end(text, data):
    lines = split_lines(text)
    first = data.draw(st.integers(1, len(lines)))
    last = data.draw(st.integers(first, len(lines)))
    start, end = line_range(lines, first, last)
    assert position_of(lines, start) == (first, 1)
    assert (start, end) == (lines[first - 1][0], lines[last - 1][1])


def test_columns_count_characters():
    lines = split_lines("👩‍💻 e\u0301!\r\nx")
    assert lines == [(0, 7), (9, 10)]
    assert offset_at(lines, 1, 8) == 7
    assert offset_at(lines, 2, 1) == 9


def test_a_byte_order_mark_is_no_column():
    assert offset_at(split_lines("\ufeffab\n"), 1, 1) == 1
    assert find_holes(source("\ufeffab\n"), [], ["1:1"], None) == [(1, 3)]


def test_the_end_of_a_file_is_a_position():
    lines = split_lines("a\n")
    assert offset_at(lines, 2, 1) == 2
    assert offset_at(split_lines("a"), 1, 2) == 1


def test_positions_and_ranges_come_in_order():
    text = "one\ntwo\nthree\n"
    assert find_holes(source(text), ["3:6", "1:1"], ["2:2"], None) == [(0, 0), (4, 7), (13, 13)]
    assert find_holes(source(text), ["2:1"], ["2:2"], None) == [(4, 4), (4, 7)]


def test_markers_are_the_holes_without_a_position():
    assert find_holes(source("a<FILL>b<FILL>"), [], [], None) == [(1, 7), (8, 14)]
    assert find_holes(source("a.*b<FILL>"), [], [], ".*") == [(1, 3)]
    assert find_holes(source("<FILL>"), ["1:2"], [], None) == [(1, 1)]


@pytest.mark.parametrize(
    ("at", "ranges", "marker", "said"),
    [
        (["4:1"], [], None, "position 4:1 lies outside the file, whose lines go from 1 to 3"),
        (["0:1"], [], None, "position 0:1 lies outside the file, whose lines go from 1 to 3"),
        (["1:5"], [], None, "position 1:5 lies outside the file: the columns of line 1 go from 1 to 4"),
        (["1:0"], [], None, "position 1:0 lies outside the file: the columns of line 1 go from 1 to 4"),
        (["12"], [], None, "--at takes LINE:COL, two numbers from 1, not '12'"),
        (["1:x"], [], None, "--at takes LINE:COL, two numbers from 1, not '1:x'"),
        (["1:-1"], [], None, "--at takes LINE:COL, two numbers from 1, not '1:-1'"),
        (["١:١"], [], None, "--at takes LINE:COL, two numbers from 1, not '١:١'"),
        ([], ["2:1"], None, "--lines 2:1 ends before it starts; give the smaller line first"),
        ([], ["2:9"], None, "--lines 2:9 lies outside the file, whose lines go from 1 to 3"),
        ([], ["0:1"], None, "--lines 0:1 lies outside the file, whose lines go from 1 to 3"),
        ([], ["2"], None, "--lines takes A:B, two numbers from 1, not '2'"),
        ([], [], None, "it holds no '<FILL>' to fill; put one there or give --at or --lines"),
        ([], [], "", "--marker takes a text of at least one character, not an empty one"),
        (["1:1"], [], "two", "--marker names the holes by itself; give it without --at and --lines"),
        (["1:2", "1:2"], [], None, "two holes overlap at 1:2; each place can be filled once"),
        (["2:2"], ["1:3"], None, "two holes overlap at 2:2; each place can be filled once"),
        (["1:4"], ["1:1"], None, "two holes overlap at 1:4; each place can be filled once"),
        ([], ["1:2", "2:3"], None, "two holes overlap at 2:1; each place can be filled once"),
    ],
)
def test_a_place_that_cannot_be_filled_is_named(at, ranges, marker, said):
    with pytest.raises(RequestError) as refused:
        find_holes(source("one\ntwo\nend"), at, ranges, marker)
    assert str(refused.value) == said
