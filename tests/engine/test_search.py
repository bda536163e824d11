"""The beam search over one hole: it finds what greedy filling misses, ends where it should, and stays a valid fill."""

import itertools

import numpy as np
import pytest
from fakes import FakeBackend, fake_facts
from hypothesis import given, settings
from hypothesis import strategies as st
from watching import CancelAfter, check_frames, check_result, requests

from model_runtime.engine import search as search_module
from model_runtime.engine.engine import Engine
from model_runtime.protocol import FillRequest, FillResult, ModelError, RequestError

DELETE = 4


class Chain(FakeBackend):
    """A Markov chain: what follows depends on the token before alone; without an entry, the hole ends."""

    def __init__(self, table, **facts):
        super().__init__(fake_facts(length="search", **facts))
        self.table = table

    def logits(self, ids_T, at):
        logits = np.full(self.facts.vocabulary, -30.0)
        for token, probability in self.table.get(int(ids_T[at]), {DELETE: 1.0}).items():
            logits[token] = np.log(probability)
        return logits


@pytest.fixture(scope="session")
def hashed(tokenizer):
    """An engine over hashed logits that searches by default."""
    return Engine(FakeBackend(fake_facts(length="search")), tokenizer)


def fill(tokenizer, table, text="x=", **options):
    engine = Engine(Chain(table), tokenizer)
    options = {"language": "text", **options}
    return engine.fill(FillRequest(text=text, holes=[(len(text), len(text))], **options))


def test_a_beginning_that_is_second_best_may_win(tokenizer, ids):
    a, b, c = ids("a"), ids("b"), ids("c")
    spread = dict.fromkeys(range(60, 80), 0.05)
    table = {ids("="): {a: 0.6, b: 0.4}, a: spread, b: {c: 1.0}}
    result = fill(tokenizer, table)
    assert (result.holes[0].text, result.end, result.holes[0].length_policy) == ("bc", "complete", "search")
    assert [token.confidence for token in result.holes[0].tokens] == pytest.approx([0.4, 1.0])


def test_the_end_counts_like_a_token(tokenizer, ids):
    a, b = ids("a"), ids("b")
    table = {ids("="): {a: 1.0}, a: {DELETE: 0.3, b: 0.7}, b: {DELETE: 0.9, a: 0.1}}
    assert fill(tokenizer, table).holes[0].text == "ab"
    table[a] = {DELETE: 0.95, b: 0.05}
    assert fill(tokenizer, table).holes[0].text == "a"


def test_several_texts_come_best_first(tokenizer, ids):
    a, b, c = ids("a"), ids("b"), ids("c")
    result = fill(tokenizer, {ids("="): {a: 0.5, b: 0.3, c: 0.2}}, alternatives=3)
    texts = [result.holes[0].text, *(holes[0].text for holes in result.alternatives)]
    assert texts == ["a", "b", "c"]
    assert [holes[0].confidence for holes in result.alternatives] == pytest.approx([0.3, 0.2])


def test_a_temperature_draws_and_a_seed_repeats_the_draw(tokenizer, ids):
    a, b = ids("a"), ids("b")
    table = {ids("="): {a: 0.7, b: 0.3}}
    drawn = [fill(tokenizer, table, temperature=1.0, seed=seed).holes[0] for seed in range(60)]
    assert 8 <= sum(hole.text == "b" for hole in drawn) <= 30
    assert {round(hole.confidence, 6) for hole in drawn} == {0.7, 0.3}  # luck is no confidence
    assert [fill(tokenizer, table, temperature=1.0, seed=seed).holes[0] for seed in range(60)] == drawn
    assert {fill(tokenizer, table, seed=seed).holes[0].text for seed in range(9)} == {"a"}


def test_a_text_without_end_stops_at_the_limit(tokenizer, ids):
    a = ids("a")
    result = fill(tokenizer, {ids("="): {a: 1.0}, a: {a: 1.0}}, max_tokens=5)
    assert (result.holes[0].text, result.end) == ("aaaaa", "max_tokens")


def test_the_last_lines_end_is_the_holes_end(tokenizer, ids):
    a, newline = ids("a"), ids("\n")
    table = {ids("="): {a: 1.0}, a: {newline: 1.0}, newline: {a: 1.0}}
    assert fill(tokenizer, table, max_lines=1).holes[0].text == "a"
    assert fill(tokenizer, table, max_lines=2).holes[0].text == "a\na"


def test_a_hole_that_is_surely_empty_is_left_empty(tokenizer, ids):
    result = fill(tokenizer, {ids("="): {DELETE: 0.9, ids("a"): 0.1}})
    assert (result.holes[0].text, result.end) == ("", "empty")
    assert fill(tokenizer, {ids("="): {DELETE: 0.4, ids("a"): 0.6}}).holes[0].text == "a"


def test_python_must_parse(tokenizer, ids):
    opened, a, closed = ids("("), ids("a"), ids(")")
    table = {ids("="): {opened: 0.9, a: 0.1}, opened: {a: 1.0}, a: {DELETE: 0.6, closed: 0.4}}
    assert fill(tokenizer, table, language="python").holes[0].text == "(a)"
    assert fill(tokenizer, table, language="text").holes[0].text == "(a"


def test_a_header_gets_its_block_where_there_may_be_more_lines(tokenizer, ids):
    """Behind the hole its line ends, so a newline is the hole's end, too, unless something is still missing."""
    x, colon, newline, blank, a = (ids(text) for text in ("x", ":", "\n", " ", "a"))
    table = {x: {colon: 1.0}, colon: {newline: 1.0}, newline: {blank: 1.0}, blank: {a: 1.0}, a: {newline: 1.0}}
    engine = Engine(Chain(table), tokenizer)
    for lines, expected in ((1, ":"), (2, ":\n a"), (9, ":\n a"), (None, ":\n a")):
        request = FillRequest(text="if x\n", holes=[(4, 4)], language="python", max_lines=lines)
        assert engine.fill(request).holes[0].text == expected
    request = FillRequest(text="if x\n b\n", holes=[(4, 4)], language="python", max_lines=9)
    assert engine.fill(request).holes[0].text == ":"


def test_a_text_does_not_end_in_a_blank_line(tokenizer, ids):
    a, newline, blank = ids("a"), ids("\n"), ids(" ")
    table = {ids("="): {a: 1.0}, a: {newline: 1.0}, newline: {newline: 0.5, blank: 0.5}, blank: {newline: 1.0}}
    request = FillRequest(text="x=\n", holes=[(2, 2)], language="text", max_lines=9)
    assert Engine(Chain(table), tokenizer).fill(request).holes[0].text == "a"


def test_where_nothing_parses_there_is_a_fill_nevertheless(tokenizer, ids):
    result = fill(tokenizer, {ids("="): {ids("("): 1.0}}, language="python")
    assert (result.holes[0].text, result.end) == ("(", "complete")


def test_a_text_is_judged_by_what_it_makes_of_the_suffix(tokenizer, ids):
    """Two texts as likely as each other; the suffix is likely behind one of them only."""
    a, b, c, d = (ids(letter) for letter in "abcd")
    table = {ids("="): {a: 0.5, b: 0.5}, a: {DELETE: 0.99, c: 0.01}, b: {DELETE: 0.99, d: 0.01}, d: {c: 1.0}}
    table[c] = {c: 1.0}
    engine = Engine(Chain(table), tokenizer)
    for suffix, expected in (("c", "a"), ("d", "b")):
        request = FillRequest(text="x=" + suffix + "c", holes=[(2, 2)], language="text", alternatives=2)
        result = engine.fill(request)
        assert {result.holes[0].text, result.alternatives[0][0].text} == {"a", "b"}, expected


def test_what_cannot_be_searched_is_expanded(hashed):
    text = "value = 1\n"
    plain = {"text": text, "holes": [(8, 9)]}
    assert hashed.fill(FillRequest(**plain)).holes[0].length_policy == "search"
    for changes in ({"temperature": 1.0, "top_k": 3}, {"steps": 3}, {"sampler": "entropy"}):
        assert hashed.fill(FillRequest(**plain | changes)).holes[0].length_policy == "expand"


def test_a_bracket_behind_the_cursor_does_not_keep_from_searching(hashed):
    """`()` is one token, but what the editor closed need not be part of the fill's last one."""
    for text, at in (("print()\n", 6), ("x = [1]\n", 6), ("f(10, )", 6)):
        assert hashed.fill(FillRequest(text=text, holes=[(at, at)])).holes[0].length_policy == "search"


def test_where_the_text_around_may_be_wrong_the_likeliest_is_taken_unless_one_parses(tokenizer, ids):
    opened, brace, a = ids("("), ids("{"), ids("a")
    engine = Engine(Chain({ids("="): {opened: 0.6, brace: 0.4}, opened: {a: 1.0}, brace: {a: 1.0}}), tokenizer)
    for after, expected in (("}", "{a"), ("}]", "(a")):  # no probe fits before either, but a fill may
        request = FillRequest(text="x=" + after, holes=[(2, 2)], language="python")
        assert engine.fill(request).holes[0].text == expected


def test_search_must_be_trained_for(tokenizer):
    engine = Engine(FakeBackend(fake_facts(expand_id=None, delete_id=None)), tokenizer)
    with pytest.raises(RequestError, match="was not trained"):
        engine.fill(FillRequest(text="x", holes=[(1, 1)], length="search"))


def watch(engine, request, cancel=None):
    """The frames and the result; of a search, what is settled once never changes."""
    *frames, result = engine.stream(request, cancel)
    assert isinstance(result, FillResult)
    if result.holes[0].length_policy == "search" and request.max_lines is None:
        shown = [frame.holes[0] for frame in frames]
        settled = [hole.text[: hole.settled[-1][1]] if hole.settled else "" for hole in shown]
        assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(settled))
        if frames and result.end == "complete":
            assert settled[-1] == result.holes[0].text
    return frames, result


searches = requests(length="search", sampler="threshold", temperature=0.0, steps=None).filter(
    lambda r: len(r.holes) == 1
)


@settings(max_examples=80, deadline=None)
@given(searches)
def test_what_holds_for_every_search(hashed, request_):
    frames, result = watch(hashed, request_)
    check_result(request_, result)
    check_frames(request_, frames, result)
    assert result.end in ("complete", "max_tokens", "empty")
    assert len(result.holes[0].tokens) <= request_.max_tokens + 2
    again = hashed.fill(request_)
    assert (again.holes, again.end, again.steps) == (result.holes, result.end, result.steps)
    request_.cache = "off" if request_.cache == "on" else "on"
    other = hashed.fill(request_)
    assert (other.holes, other.end, other.steps) == (result.holes, result.end, result.steps)


@settings(max_examples=60, deadline=None)
@given(searches, st.integers(0, 6))
def test_a_search_that_is_stopped_gives_what_it_has(hashed, request_, checks):
    frames, result = watch(hashed, request_, CancelAfter(checks))
    check_result(request_, result)
    assert result.steps == len(frames) <= checks
    if result.end != "cancelled":
        assert result.holes == hashed.fill(request_).holes


def test_continuations_are_those_of_whole_sequences(tokenizer, hashed):
    """From the cache and without it, alone and in a batch."""
    from model_runtime.engine.cache import ContextCache
    from model_runtime.engine.canvas import build_canvas

    text = "def f(x):\n    return area\n"
    canvas = build_canvas(tokenizer, hashed.facts, text, [(14, 21)])
    runs = [tokenizer.encode("return area"), tokenizer.encode("x")]
    found = [
        ContextCache(hashed.backend, canvas, enabled).continuations(canvas, part)
        for enabled, part in itertools.product((True, False), (runs, runs[:1]))
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other[0], found[0][0], rtol=1e-5)
    np.testing.assert_allclose(found[2][1], found[0][1], rtol=1e-5)
    assert [len(run) for run in found[0]] == [len(run) for run in runs]


def test_a_bad_default_is_told(tmp_path):
    from model_runtime.models.families import read_facts

    (tmp_path / "config.json").write_text(
        '{"model_type": "Dream", "mask_token_id": 2, "vocab_size": 9, "hidden_size": 8, "num_attention_heads": 2,'
        ' "num_hidden_layers": 1, "diffill": {"length": "long"}}'
    )
    with pytest.raises(ModelError, match=r"diffill\.length as expand or search"):
        read_facts(tmp_path)


def test_the_beam_is_as_wide_as_it_says(tokenizer, ids, monkeypatch):
    """With one beginning it is greedy, and misses what two find."""
    a, b, c = ids("a"), ids("b"), ids("c")
    table = {ids("="): {a: 0.6, b: 0.4}, a: dict.fromkeys(range(60, 80), 0.05), b: {c: 1.0}}
    monkeypatch.setattr(search_module, "BEAM", 1)
    monkeypatch.setattr(search_module, "FIRST", 1)
    assert fill(tokenizer, table).holes[0].text.startswith("a")
