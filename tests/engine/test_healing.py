"""Hole edges inside tokens: what stands there stays, once."""

from __future__ import annotations

import pytest
from fakes import FakeBackend, ScriptedBackend, fake_facts
from hypothesis import given, settings
from hypothesis import strategies as st
from snippet import SNIPPET
from watching import Watched

from model_runtime.engine.canvas import build_canvas
from model_runtime.engine.engine import Engine
from model_runtime.engine.healing import head_to_heal, straddling_token, tail_to_heal
from model_runtime.protocol import FillRequest


def canvas_of(tokenizer, text, holes):
    return build_canvas(tokenizer, fake_facts(bos_id=None, context_length=1000), text, holes)


def known(tokenizer, text, start, end):
    (hole,) = canvas_of(tokenizer, text, [(start, end)]).holes
    return hole.head.decode(), hole.tail.decode()


@pytest.mark.parametrize("token", ["print", " print_area", "return", "        "])
def test_the_fixtures_words_are_single_tokens(tokenizer, token):
    assert len(tokenizer.encode(token)) == 1


@pytest.mark.parametrize(
    ("before", "hole", "after", "head", "tail"),
    [
        ("x=pri", "", "nt(1)", "pri", "nt"),  # an insertion inside a token: cut on both sides
        ("x=pri", "nt(", "1)", "pri", ""),  # cut on the left
        ("x=", "pri", "nt(1)", "", "nt"),  # cut on the right
        ("x=p", "rin", "t(1)", "p", "t"),  # both ends in one token
        ("x=pri", "nt(retu", "rn)", "pri", "rn"),  # each in its own
        ("x=print", "(", "1)", "", ""),  # between tokens
        ("x=print", "", "(1)", "print", ""),  # a word that may go on
        ("x=(", "", ")", "", ""),
        ("x = ", "area", "\n", " ", ""),  # one space belongs to the word that follows
        ("x = ", "", "\n", " ", ""),
        ("    ", "", "\n", "", ""),  # indentation is a token of its own
        ("    ", "", "    x\n", "    ", "    "),  # cut in two
        ("x=1\n", "", "y=2\n", "", ""),  # at the start of a line
        ("", "", "x=1\n", "", ""),
        ("x=1\n", "", "", "", ""),
        ("x=gr", "ö", "ßer", "gr", "er"),
    ],
)
def test_what_is_known_at_the_edges(tokenizer, before, hole, after, head, tail):
    text, edges = before + hole + after, (len(before), len(before + hole))
    got_head, got_tail = known(tokenizer, text, *edges)
    assert before.endswith(got_head)
    assert after.startswith(got_tail)
    if (head, tail) == ("gr", "er"):  # where tokens hold half characters, whole characters are known
        return
    assert (got_head, got_tail) == (head, tail)


def test_the_edge_is_found_inside_the_token(tokenizer):
    assert straddling_token(tokenizer, "x=print(1)", 5) == (2, 7)
    assert straddling_token(tokenizer, "x=print(1)", 2) is None
    assert straddling_token(tokenizer, "x=print(1)", 7) is None
    assert straddling_token(tokenizer, "", 0) is None
    assert straddling_token(tokenizer, "a\nprint\n", 4) == (2, 7)
    long = "print(1) " * 2000  # a line longer than what is looked at
    at = long.index("print", 9000) + 2
    assert straddling_token(tokenizer, long, at) == (at - 2 - (long[at - 3] == " "), at + 3)


def test_a_hole_does_not_reach_into_its_neighbours(tokenizer):
    text = "x=print(1)"
    first, second = canvas_of(tokenizer, text, [(2, 4), (5, 7)]).holes
    assert (first.head, first.tail, second.head, second.tail) == (b"", b"", b"", b"")
    assert head_to_heal(tokenizer, text, 5, 7, earliest=4) == 0
    assert head_to_heal(tokenizer, text, 5, 7, earliest=2) == 3
    assert tail_to_heal(tokenizer, text, 4, latest=5) == 0


def test_an_open_end_is_healed_within_words_only(tokenizer):
    for text, end, tail in (("print()\n", 6, 0), ("x=print(1)", 5, 2), ("f(10)", 3, 1)):
        assert tail_to_heal(tokenizer, text, end, len(text), words=True) == tail


TEXTS = st.one_of(
    st.lists(
        st.sampled_from(
            ["print_area", " ", "größer", "🙂", "→", "    ", "\n", "\t", "return area", "e\u0301", "(", "10", "\r"]
        ),
        min_size=1,
        max_size=12,
    ).map("".join),
    st.text(min_size=1, max_size=15),
)


@settings(max_examples=200)
@given(TEXTS, st.data())
def test_every_known_piece_is_text_that_stands_there(tokenizer, text, data):
    """Context, known pieces and holes are the whole text, in order, nothing twice."""
    edges = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=6)))
    holes = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    holes = [span for n, span in enumerate(holes) if n == 0 or span[0] > holes[n - 1][1]]
    text = text.replace("\r", "")
    holes = [(min(a, len(text)), min(b, len(text))) for a, b in holes]
    holes = [span for n, span in enumerate(holes) if n == 0 or span[0] > holes[n - 1][1]]
    canvas = canvas_of(tokenizer, text, holes)
    contexts = [tokenizer.decode_bytes(context).decode() for context in canvas.contexts]
    position = 0
    if text[: holes[0][0]] == canvas.holes[0].head.decode():  # nothing before: a newline to predict from
        assert contexts[0] in ("", "\n")
        contexts[0] = ""
    for context, hole in zip(contexts, canvas.holes, strict=False):
        assert context + hole.head.decode() == text[position : hole.start]
        position = hole.end + len(hole.tail.decode())
        assert text[hole.end : position] == hole.tail.decode()
        assert b"\n" not in hole.head + hole.tail
        for cell, piece, at in ((0, hole.head, "startswith"), (-1, hole.tail, "endswith")):
            if piece:
                assert hole.cells[cell].only
                assert all(getattr(tokenizer.token_bytes[i], at)(piece) for i in hole.cells[cell].only)
    assert contexts[-1] == text[position:]


@settings(max_examples=100)
@given(TEXTS, st.data(), st.sampled_from(["fixed:1", "fixed:4", "expand"]), st.integers(0, 3))
def test_text_before_fill_and_after_read_right(tokenizer, text, data, length, seed):
    """The first settled token begins with the known piece, and the fill goes on from there."""
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    engine = Engine(FakeBackend(), tokenizer)
    request = FillRequest(text=text, holes=[(start, end)], length=length, seed=seed, temperature=1.0, frames=True)
    watched = Watched(engine, request)
    (hole,) = watched.canvas.holes
    written = b"".join(tokenizer.token_bytes[cell.token] for cell in hole.cells)
    assert written.startswith(hole.head)
    assert written.endswith(hole.tail)
    if len(written) >= len(hole.head) + len(hole.tail):
        own = written[len(hole.head) : len(written) - len(hole.tail)]
        fill = watched.result.holes[0].text
        if watched.canvas.line_end == "\n":
            assert fill == own.decode(errors="ignore")


def test_the_known_piece_is_never_repeated(tokenizer):
    """Whichever token the model likes best: at the edge only those with the known piece count."""
    (word,), (other,) = tokenizer.encode("print"), tokenizer.encode("return")

    def script(step, shown):
        return [{other: 0.6, word: 0.3}] * 9

    engine = Engine(ScriptedBackend(script, rest=other, facts=fake_facts()), tokenizer)
    text = "x=pr(1)"
    result = engine.fill(FillRequest(text=text, holes=[(4, 4)], length="fixed:1"))
    assert result.apply(text) == "x=printreturn(1)"
    text = "x=nt(1)"
    result = engine.fill(FillRequest(text=text, holes=[(2, 3)], length="fixed:1"))
    assert result.apply(text) == "x=returnprint(1)"


@pytest.mark.parametrize("at", range(len(SNIPPET) - 130, len(SNIPPET) + 1, 3))
def test_every_place_in_real_code(tokenizer, at):
    engine = Engine(FakeBackend(), tokenizer)
    result = engine.fill(FillRequest(text=SNIPPET, holes=[(at, at)], length="fixed:2"))
    filled = result.apply(SNIPPET)
    assert filled[:at] == SNIPPET[:at]
    assert filled[at + len(result.holes[0].text) :] == SNIPPET[at:]
