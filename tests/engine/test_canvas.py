"""Text to canvas and back: context cut to the window, tokens and their offsets, frames."""

from __future__ import annotations

import itertools

import pytest
from fakes import fake_facts
from hypothesis import given
from hypothesis import strategies as st
from snippet import SNIPPET

from model_runtime.engine.canvas import (
    MASK_SHOWN,
    Canvas,
    Cell,
    Hole,
    add_masks,
    build_canvas,
    decode_tokens,
    frame,
    hole_fill,
    settled_tokens,
)
from model_runtime.engine.context import between_tokens, first_tokens, last_tokens
from model_runtime.protocol import TokenInfo

LINES = st.lists(
    st.sampled_from(
        ["x = 1\n", "\n", "    return area\n", "größer 🙂\n", "print_area(width, height)\n", "# " + "-" * 40 + "\n"]
    ),
    max_size=30,
).map("".join)
TAILS = st.sampled_from(["", "x = ", "    ", "print_area(width, "])


def text_of(tokenizer, ids):
    return tokenizer.decode_bytes(ids).decode(errors="replace")


# --- context ---


@given(LINES, TAILS, st.integers(0, 40))
def test_the_text_before_a_hole_is_cut_at_the_start_of_a_line(tokenizer, lines, tail, budget):
    text = lines + tail
    ids = last_tokens(tokenizer, text, budget)
    kept = tokenizer.decode_bytes(ids)
    assert len(ids) <= budget
    assert text.encode().endswith(kept)
    if len(tokenizer.encode(text)) <= budget:
        assert kept.decode() == text
    before = text.encode()[: len(text.encode()) - len(kept)]
    if before and b"\n" in kept[:-1]:
        assert before.endswith(b"\n")


@given(LINES, TAILS, st.integers(0, 40))
def test_the_text_after_a_hole_is_cut_at_the_end_of_a_line(tokenizer, lines, tail, budget):
    text = lines + tail
    ids = first_tokens(tokenizer, text, budget)
    kept = tokenizer.decode_bytes(ids)
    assert len(ids) <= budget
    assert text.encode().startswith(kept)
    if len(tokenizer.encode(text)) <= budget:
        assert kept.decode() == text
    elif b"\n" in kept:
        assert kept.endswith(b"\n")


@given(LINES, st.integers(0, 30), st.integers(0, 30))
def test_the_text_between_holes_is_whole_or_loses_its_middle(tokenizer, text, after, before):
    ids = between_tokens(tokenizer, text, after, before)
    assert len(ids) <= after + before
    if len(tokenizer.encode(text)) <= after + before:
        assert text_of(tokenizer, ids) == text
    else:
        assert ids == first_tokens(tokenizer, text, after) + last_tokens(tokenizer, text, before)


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_near_part_of_an_endless_line_is_context(tokenizer, end):
    """No start of a line within reach: the nearest tokens all the same, not nothing."""
    text = "print_area(" * 5000 + end
    ids = last_tokens(tokenizer, text, 20)
    assert 20 - 5 <= len(ids) <= 20  # its start moves in steps of five characters
    assert text.endswith(text_of(tokenizer, ids))
    ids = first_tokens(tokenizer, text, 20)
    assert len(ids) == 20
    assert text.startswith(text_of(tokenizer, ids))


def test_the_first_line_stays_while_someone_types():
    """And where it moves on, it does so by the text alone: the same text has the same first line."""

    class Characters:
        newline_id = 10

        def encode(self, text):
            return [ord(character) for character in text]

        def decode_bytes(self, ids):
            return bytes(ids)

    before, typed = "x = 1\n" * 100, "y = width * height\n" * 20
    starts = [len(before) + n - len(last_tokens(Characters(), before + typed[:n], 160)) for n in range(len(typed))]
    assert starts == sorted(starts)
    assert len(set(starts)) <= len(typed) / 40 + 2
    assert all((before + typed)[start - 1] == "\n" for start in starts)
    assert max(len(before) + n - start for n, start in enumerate(starts)) <= 160


def test_little_is_encoded_of_a_large_text(tokenizer):
    """A file of a hundred megabytes costs what its near part costs."""

    class Counting:
        newline_id, decode_bytes = tokenizer.newline_id, tokenizer.decode_bytes
        read = 0

        def encode(self, text):
            self.read += len(text)
            return tokenizer.encode(text)

    counting = Counting()
    text = "x = 1\n" * 100_000
    last_tokens(counting, text, 50)
    first_tokens(counting, text, 50)
    between_tokens(counting, text, 25, 25)
    assert counting.read < 4 * 50 * 8


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_context_together_fits_the_window(tokenizer, count):
    facts = fake_facts(context_length=256)
    text = SNIPPET * 40
    holes = [(n * 5000 + 2000, n * 5000 + 2010) for n in range(count)]
    canvas = build_canvas(tokenizer, facts, text, holes)
    assert len(canvas.contexts) == count + 1
    tokens = sum(map(len, canvas.contexts))
    assert 0.8 * 256 < tokens <= 256 + 1  # and bos


def test_more_goes_to_the_text_before_a_hole(tokenizer):
    canvas = build_canvas(tokenizer, fake_facts(context_length=200), SNIPPET * 20, [(4000, 4000)])
    before, after = map(len, canvas.contexts)
    assert 130 < before <= 151
    assert 30 < after <= 50


def test_context_around_a_hole_reads_as_the_text(tokenizer):
    start, end = SNIPPET.index("width * height"), SNIPPET.index("\n    if")
    canvas = build_canvas(tokenizer, fake_facts(context_length=10_000, bos_id=None), SNIPPET, [(start, end)])
    (hole,) = canvas.holes
    before, after = (text_of(tokenizer, context) for context in canvas.contexts)
    assert before + hole.head.decode() == SNIPPET[:start]
    assert hole.tail.decode() + after == SNIPPET[end:]
    assert (hole.start, hole.end) == (start, end)


def test_bos_stands_first_and_only_there(tokenizer):
    canvas = build_canvas(tokenizer, fake_facts(), SNIPPET, [(30, 34), (80, 82)])
    assert canvas.contexts[0][0] == 1
    assert sum(context.count(1) for context in canvas.contexts) == 1
    without = build_canvas(tokenizer, fake_facts(bos_id=None), SNIPPET, [(30, 34), (80, 82)])
    assert without.contexts[0] == canvas.contexts[0][1:]


def test_an_empty_file_has_a_row_to_predict_from(tokenizer):
    newline = tokenizer.encode("\n")
    assert build_canvas(tokenizer, fake_facts(bos_id=None), "", [(0, 0)]).contexts == [newline, []]
    assert build_canvas(tokenizer, fake_facts(bos_id=None, shift=False), "", [(0, 0)]).contexts == [[], []]
    assert build_canvas(tokenizer, fake_facts(), "", [(0, 0)]).contexts == [[1], []]


# --- line ends ---


@pytest.mark.parametrize(
    ("text", "line_end"),
    [
        ("a\nb\n", "\n"),
        ("a\r\nb\r\n", "\r\n"),
        ("a\r\nb\nc\n", "\n"),
        ("a\r\nb\r\nc\n", "\r\n"),
        ("", "\n"),
        ("a\rb\r", "\n"),
    ],
)
def test_the_line_end_of_the_document_is_that_of_most_lines(tokenizer, text, line_end):
    assert build_canvas(tokenizer, fake_facts(), text, [(0, 0)]).line_end == line_end


def test_windows_line_ends_do_not_show_in_the_context(tokenizer):
    unix = "def f(x):\n    return \n\nprint(f(1))\n"
    at = unix.index("\n\nprint")
    dos, dos_at = unix.replace("\n", "\r\n"), at + 1
    one = build_canvas(tokenizer, fake_facts(), unix, [(at, at)])
    other = build_canvas(tokenizer, fake_facts(), dos, [(dos_at, dos_at)])
    assert one.contexts == other.contexts
    assert (other.holes[0].start, other.holes[0].end) == (dos_at, dos_at)


def filled(tokenizer, pieces, line_end="\n", max_lines=None, head=b"", tail=b""):
    """hole_fill of cells that are settled with the tokens of `pieces`, confidences 0.9, 0.8, …"""
    ids = [i for piece in pieces for i in tokenizer.encode(piece)]
    cells = [Cell(token, 0.9 - n / 10, n + 1) for n, token in enumerate(ids)]
    return hole_fill(Hole(0, 0, cells, head, tail), tokenizer, fake_facts(), "fixed:1", line_end, max_lines)


def test_newlines_are_written_as_the_document_has_them(tokenizer):
    fill = filled(tokenizer, ["area", "\n", "value"], "\r\n")
    assert fill.text == "area\r\nvalue"
    assert [(token.start, token.end) for token in fill.tokens] == [(0, 4), (4, 6), (6, 11)]
    assert [token.step for token in fill.tokens] == [1, 2, 3]


# --- lines ---


def test_lines_beyond_the_wanted_are_cut(tokenizer):
    pieces = ["area", "\n", "value", "\n", "value"]
    assert filled(tokenizer, pieces, max_lines=3).text == "area\nvalue\nvalue"
    two = filled(tokenizer, pieces, max_lines=2)
    assert two.text == "area\nvalue"
    assert [(token.start, token.end) for token in two.tokens] == [(0, 4), (4, 5), (5, 10)]
    assert filled(tokenizer, pieces, "\r\n", max_lines=2).text == "area\r\nvalue"
    one = filled(tokenizer, pieces, max_lines=1)
    assert (one.text, len(one.tokens), one.confidence) == ("area", 1, pytest.approx(0.9))


# --- bytes ---


def test_tokens_that_share_a_character_are_one(tokenizer):
    pieces = tokenizer.encode("→")
    assert len(pieces) > 1, "the arrow is several tokens"
    fill = filled(tokenizer, ["area", "→"])
    assert fill.text == "area→"
    assert [(token.start, token.end) for token in fill.tokens] == [(0, 4), (4, 5)]
    assert fill.tokens[1].confidence == pytest.approx(0.9 - len(pieces) / 10)
    assert fill.tokens[1].step == 1 + len(pieces)


@given(st.lists(st.binary(min_size=1, max_size=4), max_size=10), st.data())
def test_bytes_that_form_no_character_are_left_out(pieces, data):
    joined = b"".join(pieces)
    start = data.draw(st.integers(0, len(joined)))
    end = data.draw(st.integers(start, len(joined)))
    text, spans = decode_tokens(joined, pieces, start, end)
    assert text == joined[start:end].decode(errors="ignore")
    assert len(spans) == len(pieces)
    covered = set()
    for a, b in spans:
        assert 0 <= a <= b <= len(text)
        covered |= set(range(a, b))
    assert covered == set(range(len(text)))


@given(st.text(max_size=12), st.data())
def test_each_piece_of_a_text_gets_its_characters(text, data):
    encoded = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(encoded)), max_size=6)) | {0, len(encoded)})
    pieces = [encoded[a:b] for a, b in itertools.pairwise(cuts)]
    decoded, spans = decode_tokens(encoded, pieces, 0, len(encoded))
    assert decoded == text
    ends = [len(text[: n + 1].encode()) for n in range(len(text))]
    starts = [0, *ends][:-1] if ends else []
    byte = 0
    for piece, (a, b) in zip(pieces, spans, strict=True):
        touched = [n for n in range(len(text)) if starts[n] < byte + len(piece) and ends[n] > byte]
        assert list(range(a, b)) == touched
        byte += len(piece)


# --- cells and frames ---


def test_masks_go_between_head_and_tail():
    head, tail = Cell(only=(7,)), Cell(only=(8,))
    hole = Hole(0, 0, [head, tail], b"a", b"b")
    add_masks(hole, 3)
    assert hole.cells[0] is head
    assert hole.cells[-1] is tail
    assert (len(hole.cells), hole.free_cells()) == (5, 3)


def test_guesses_stand_in_for_masks_unless_they_are_no_text():
    facts = fake_facts()
    cells = [
        Cell(10, 0.9, 1),
        Cell(guess=11, guess_confidence=0.4),
        Cell(guess=3),
        Cell(guess=4),
        Cell(),
        Cell(12, 0.8, 2),
    ]
    hole = Hole(0, 0, cells)
    assert settled_tokens(hole, facts, guess=True) == [(10, 0.9, 1), (11, 0.4, -1), (12, 0.8, 2)]
    assert settled_tokens(hole, facts, guess=False) == [(10, 0.9, 1), (12, 0.8, 2)]


def test_a_frame_shows_masks_as_light_blocks(tokenizer):
    area, value = tokenizer.encode("area")[0], tokenizer.encode("value")[0]
    holes = [
        Hole(0, 0, [Cell(), Cell(area, 0.9, 1), Cell(value, 0.4, 2), Cell(), Cell()]),
        Hole(1, 1, [Cell(area), Cell(), Cell(value)], b"ar", b"ue"),
        Hole(2, 2, []),
    ]
    shown = frame(Canvas([[], [], [], []], holes), tokenizer, fake_facts(), 3, 9)
    assert (shown.step, shown.steps) == (3, 9)
    m = MASK_SHOWN
    assert [hole.text for hole in shown.holes] == [f"{m}areavalue{m}{m}", f"ea{m}val", ""]
    assert [hole.settled for hole in shown.holes] == [[(1, 10)], [(0, 2), (3, 6)], []]
    assert shown.holes[0].tokens == [TokenInfo(1, 5, 0.9, 1), TokenInfo(5, 10, 0.4, 2)]
    assert [(token.start, token.end) for token in shown.holes[1].tokens] == [(0, 2), (3, 6)]
    assert shown.holes[2].tokens == []


def test_half_a_character_is_not_shown(tokenizer):
    first, *rest = tokenizer.encode("🙂")
    assert rest
    cells = [Cell(first), *[Cell() for _ in rest]]
    canvas = Canvas([[], []], [Hole(0, 0, cells)])
    (hole,) = frame(canvas, tokenizer, fake_facts(), 1, 9).holes
    assert (hole.text, hole.settled) == (MASK_SHOWN * len(rest), [])
    for cell, token in zip(cells[1:], rest, strict=True):
        cell.token = token
    (hole,) = frame(canvas, tokenizer, fake_facts(), 1, 9).holes
    assert (hole.text, hole.settled) == ("🙂", [(0, 1)])
    assert [(token.start, token.end) for token in hole.tokens] == [(0, 1)]
