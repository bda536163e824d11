"""Hole edges with a tokenizer like Qwen2's: tokens that hold line ends, blanks and letters, and text outside NFC."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from fakes import FakeBackend, ScriptedBackend, fake_facts
from hypothesis import given
from hypothesis import strategies as st
from synthetic import qwen_like

from model_runtime.engine.canvas import build_canvas
from model_runtime.engine.context import first_tokens, last_tokens
from model_runtime.engine.denoise import Bans
from model_runtime.engine.engine import Engine
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import FillRequest, RewriteRequest, apply_fills

DECOMPOSED = "cafe\u0301 = 'A\u030a'  # e\u0301\n"  # NFC would make it shorter


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> TextTokenizer:
    path = tmp_path_factory.mktemp("qwen") / "tokenizer.json"
    qwen_like().save(str(path))
    return TextTokenizer(path)


def facts(qwen: TextTokenizer, **changes):
    special = {
        "mask_id": qwen.id_of("<|im_start|>"),
        "bos_id": None,
        "pad_id": None,
        "expand_id": None,
        "delete_id": None,
    }
    return fake_facts(vocabulary=qwen.size + 8, tokenizer_size=qwen.size, **{**special, **changes})


def scripted(qwen: TextTokenizer, *written: bytes) -> Engine:
    """An engine that writes these tokens into the masks that are not known."""
    script = [{token(qwen, data): 0.99} for data in written]
    return Engine(ScriptedBackend(lambda step, shown: script, rest=token(qwen, b"0"), facts=facts(qwen)), qwen)


def token(qwen: TextTokenizer, data: bytes) -> int:
    (found,) = [i for i in qwen.text_ids if qwen.token_bytes[i] == data]
    return found


def test_the_tokenizer_is_like_qwens(qwen):
    token(qwen, b"):\n")
    token(qwen, b" return")
    assert qwen.joins_line_ends
    assert qwen.joins_blanks
    assert qwen.encode(DECOMPOSED) != qwen.encode("café = 'Å'  # é\n")
    assert [qwen.token_bytes[i] for i in qwen.control_ids] == [b"<|fim_prefix|>", b"<|fim_middle|>", b"<|fim_suffix|>"]


@pytest.mark.parametrize(
    ("before", "hole", "after", "head", "tail"),
    [
        ("def f(x", "", "\n    return x\n", "x", "\n"),  # a line that is to be ended
        ("def f(x", "):", "\n    return x\n", "", "\n"),
        ("    ", "", "\nx = 1\n", " ", "\n"),  # the last blank belongs to the word
        ("if a:\n    ", "return b", "\n", " ", "\n"),
        ("\t\t", "", "\n", "\t", "\n"),
        ("foo(", "", ")\n", "(", ""),  # "(x" may be one token
        ("x = 1\n", "", "y = 2\n", "", ""),  # at the start of a line
        ("f()", "", "\n\n\nclass A:\n", ")", "\n\n\n"),
    ],
)
def test_what_is_known_at_the_edges(qwen, before, hole, after, head, tail):
    text = before + hole + after
    (made,) = build_canvas(qwen, facts(qwen), text, [(len(before), len(before + hole))]).holes
    got_head, got_tail = made.head.decode(), made.tail.decode()
    assert before.endswith(got_head)
    assert after.startswith(got_tail)
    assert got_tail == tail
    assert got_head.endswith(head)
    assert bool(got_head) == bool(head)


def test_a_line_end_inside_a_token_is_not_written_twice(qwen):
    """The model ends the line as it learned to, with "):\\n"; the newline that stands there already is that one."""
    text = "def f(\n    return x\n"
    result = scripted(qwen, b"(", b"x", b"):\n").fill(FillRequest(text=text, holes=[(6, 6)], length="fixed:1"))
    assert apply_fills(text, result.holes) == "def f(x):\n    return x\n"


@pytest.mark.parametrize("max_lines", [1, 2])
def test_lines_are_counted_inside_tokens(qwen, max_lines):
    engine = scripted(qwen, b"x", b"):\n", b"x", b"):\n", b"x", b"\n")
    request = FillRequest(text="\ny = 1\n", holes=[(0, 0)], length="fixed:5", max_lines=max_lines)
    assert engine.fill(request).holes[0].text == "\n".join(["x):"] * max_lines)


def test_context_is_cut_where_a_line_ends_inside_a_token(qwen):
    text = "if f(x):\n    g()\n" * 20
    ids = first_tokens(qwen, text, 30)
    assert qwen.decode_bytes(ids).endswith(b"\n")
    assert len(ids) > 15
    assert text.endswith(qwen.decode_bytes(last_tokens(qwen, text, 30)).decode())


def test_control_tokens_are_never_written(qwen):
    bans = Bans(facts(qwen), qwen)
    assert (bans.lines[:, qwen.control_ids] < -1e8).all()
    text = "x = '<|fim_middle|>'\n"  # and stay where they stand
    assert qwen.decode_bytes(qwen.encode(text)).decode() == text


PIECES = st.lists(
    st.sampled_from(
        ["x", "):\n", "\n", "\r\n", "    ", "\t", " return", "e\u0301", "é", "A\u030a", "🙂", "(", ")", "가"]
    )
).map("".join)


@given(PIECES, PIECES, PIECES)
def test_what_is_outside_stays_whatever_the_text(qwen, before, hole, after):
    text = before + hole + after
    engine = Engine(FakeBackend(facts(qwen)), qwen)
    result = engine.fill(FillRequest(text=text, holes=[(len(before), len(before + hole))], length="fixed:2"))
    (filled,) = result.holes
    assert (filled.start, filled.end) == (len(before), len(before + hole))
    whole = apply_fills(text, result.holes)
    assert whole.startswith(before)
    assert whole.endswith(after)


def test_a_rewrite_opens_whole_characters_of_decomposed_text(qwen):
    text = DECOMPOSED * 3
    engine = Engine(FakeBackend(facts(qwen)), qwen)
    start, end = len(DECOMPOSED), 2 * len(DECOMPOSED) - 1
    result = engine.rewrite(RewriteRequest(text=text, range=(start, end), strength=0.4))
    whole = apply_fills(text, result.holes)
    assert whole.startswith(text[:start])
    assert whole.endswith(text[end:])
    assert all(start <= hole.start <= hole.end <= end for hole in result.holes)
