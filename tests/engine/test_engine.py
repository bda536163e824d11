"""What must hold for every fill, whatever the text, the holes and the options."""

from __future__ import annotations

import re
from unittest import mock

import pytest
from fakes import FakeBackend, fake_facts
from hypothesis import example, given, settings
from hypothesis import strategies as st
from watching import CancelAfter, Clock, Watched, check_frames, check_result, requests

from model_runtime.engine.engine import Engine
from model_runtime.protocol import FillRequest, ModelError, RequestError, RewriteRequest


@settings(max_examples=250)
@given(requests())
@example(FillRequest(text="", holes=[(0, 0)], frames=True))
@example(FillRequest(text="a\r\nb\r\n", holes=[(2, 2), (3, 4)], frames=True))
@example(FillRequest(text="a\r\nb\r\n", holes=[(0, 2), (2, 3)], frames=True))
@example(FillRequest(text="\ufeffprint_area", holes=[(1, 1), (3, 5), (5, 7)], frames=True))
def test_what_holds_for_every_fill(fake_engine, request_):
    watched = Watched(fake_engine, request_)
    check_result(request_, watched.result)
    check_frames(request_, watched.frames, watched.result)
    assert watched.result.end in ("complete", "max_tokens", "empty")
    assert (watched.result.end == "empty") == (not any(hole.text for hole in watched.result.holes))
    assert all(cell.token is not None for cell in watched.cells())
    if request_.length.startswith("fixed") and request_.max_lines is None:
        count = min(int(request_.length[6:]), request_.max_tokens)
        assert all(hole.free_cells() == count for hole in watched.canvas.holes)


@given(requests())
def test_the_same_seed_gives_the_same_answer(fake_engine, request_):
    first, second = fake_engine.fill(request_), fake_engine.fill(request_)
    assert (first.holes, first.end, first.steps) == (second.holes, second.end, second.steps)
    request_.frames = False
    unseen = fake_engine.fill(request_)
    assert (first.holes, first.end, first.steps) == (unseen.holes, unseen.end, unseen.steps)
    # the fake sees all its context exactly, so it must not matter whether that comes from a cache
    request_.cache = "off" if request_.cache == "on" else "on"
    other = fake_engine.fill(request_)
    assert (first.holes, first.end, first.steps) == (other.holes, other.end, other.steps)


@given(requests(temperature=1.0, top_p=None, top_k=None, length="fixed:5", max_tokens=10, steps=None, max_lines=None))
def test_another_seed_gives_another_answer(fake_engine, request_):
    texts = set()
    for seed in range(4):
        request_.seed = seed
        texts.add(tuple(hole.text for hole in fake_engine.fill(request_).holes))
    assert len(texts) > 1


@settings(max_examples=100)
@given(requests(), st.integers(0, 12))
def test_a_cancelled_fill_is_a_valid_answer(fake_engine, request_, checks):
    watched = Watched(fake_engine, request_, CancelAfter(checks))
    check_result(request_, watched.result)
    check_frames(request_, watched.frames, watched.result)
    assert (watched.result.end == "cancelled") == (watched.canvas.masked() > 0)
    if watched.result.end == "cancelled":
        assert watched.result.steps == checks


@settings(max_examples=100)
@given(requests(), st.integers(1, 15))
def test_a_fill_that_runs_out_of_time_is_a_valid_answer(fake_engine, request_, looks):
    request_.deadline_ms = looks
    with mock.patch("time.perf_counter", Clock()):
        watched = Watched(fake_engine, request_)
    check_result(request_, watched.result)
    check_frames(request_, watched.frames, watched.result)
    assert (watched.result.end == "deadline") == (watched.canvas.masked() > 0)


@pytest.mark.parametrize("stop", ["deadline", "cancelled"])
def test_stopping_at_every_single_step(tokenizer, stop):
    """From before the first step to after the last: more and more of the text stands, and none of it is made up."""
    engine = Engine(FakeBackend(sharpness=1.0), tokenizer)  # unsure: one token a step
    request = FillRequest(text="print_area(x)\n", holes=[(11, 12)], length="fixed:8", sampler="maskgit_plus")
    whole = engine.fill(request)
    assert (whole.end, whole.steps) == ("complete", 8)
    for step in range(8):
        if stop == "cancelled":
            result = engine.fill(request, CancelAfter(step))
        else:
            request.deadline_ms = step + 1.5  # looks: the start, the end of encoding, then one a step
            with mock.patch("time.perf_counter", Clock()):
                result = engine.fill(request)
        assert (result.end, result.steps) == (stop, step)
        check_result(request, result)
        assert bool(result.holes[0].text) == (step > 0)
        assert all(1 <= token.step <= step for token in result.holes[0].tokens)


@given(requests(length="probe", alternatives=1), st.integers(0, 30))
def test_probed_lengths_keep_what_holds_for_every_fill(fake_engine, request_, checks):
    result = fake_engine.fill(request_)
    check_result(request_, result)
    assert result.end in ("complete", "max_tokens", "empty")
    again = fake_engine.fill(request_)
    assert (again.holes, again.end) == (result.holes, result.end)
    check_result(request_, fake_engine.fill(request_, CancelAfter(checks)))


@settings(max_examples=40)
@given(requests(frames=False, temperature=0.7), st.integers(2, 4))
def test_alternatives_are_distinct_and_as_valid_as_the_answer(fake_engine, request_, count):
    request_.alternatives = count
    result = fake_engine.fill(request_)
    answers = [result.holes, *result.alternatives]
    assert len(answers) <= count
    assert len({tuple(hole.text for hole in holes) for holes in answers}) == len(answers)
    result.alternatives = []
    for holes in answers:
        result.holes = holes
        with mock.patch.object(result, "steps", 10**6):  # of the best only
            request_.steps = None
            check_result(request_, result)


@given(requests())
def test_ids_without_text_never_win(tokenizer, request_):
    """A model that wants nothing but specials, mask and ids beyond the tokenizer still gives text."""

    class Stubborn(FakeBackend):
        def logits(self, ids_T, at):
            logits = super().logits(ids_T, at)
            logits[:5] += 100.0
            logits[380:] += 100.0
            return logits

    watched = Watched(
        Engine(Stubborn(fake_facts(expand_id=None, delete_id=None)), tokenizer), request_with_text(request_)
    )
    check_result(request_, watched.result)
    assert {cell.token for cell in watched.cells()} <= set(tokenizer.text_ids)


def request_with_text(request):
    if request.length in ("auto", "expand"):
        request.length = "fixed:5"
    return request


def test_special_ids_that_a_tokenizer_calls_text_never_win(tokenizer):
    """mask, bos and the rest are what the config says, and beyond `tokenizer_size` is beyond it."""

    class Stubborn(FakeBackend):
        def logits(self, ids_T, at):
            logits = super().logits(ids_T, at)
            logits[360:380] += 100.0
            return logits

    facts = fake_facts(mask_id=362, bos_id=361, pad_id=360, expand_id=None, delete_id=None, tokenizer_size=363)
    watched = Watched(Engine(Stubborn(facts), tokenizer), FillRequest(text="x=", holes=[(2, 2)], length="fixed:9"))
    assert all(cell.token < 360 for cell in watched.cells())


def test_the_models_end_of_text_is_no_text(tokenizer):
    """A special id that no config names (here 4, not named as delete) has no text and is never produced."""

    class Ending(FakeBackend):
        def logits(self, ids_T, at):
            logits = super().logits(ids_T, at)
            logits[4] = 1000.0
            return logits

    engine = Engine(Ending(fake_facts(expand_id=None, delete_id=None)), tokenizer)
    watched = Watched(engine, FillRequest(text="x = ", holes=[(4, 4)], length="fixed:6"))
    assert 4 not in {cell.token for cell in watched.cells()}


# --- what is refused ---


@pytest.mark.parametrize(
    "changes",
    [
        {"holes": []},
        {"holes": [(3, 2)]},
        {"holes": [(0, 99)]},
        {"holes": [(0, 3), (2, 4)]},
        {"holes": [(2, 4), (0, 1)]},
        {"holes": [(2, 2), (2, 2)]},
        {"steps": 0},
        {"seed": -1},
        {"sampler": "beam"},
        {"length": "fixed:0"},
        {"length": "long"},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"deadline_ms": 0},
        {"cache": "maybe"},
    ],
    ids=str,
)
def test_a_request_that_cannot_be_served(fake_engine, changes):
    request = FillRequest(**{"text": "hello", "holes": [(1, 2)]} | changes)
    with pytest.raises(RequestError) as refused:
        fake_engine.fill(request)
    assert "\n" not in str(refused.value)


def test_a_model_without_resize_tokens_cannot_expand(tokenizer):
    engine = Engine(FakeBackend(fake_facts(expand_id=None)), tokenizer)
    with pytest.raises(RequestError, match="not trained to expand"):
        engine.fill(FillRequest(text="x", holes=[(1, 1)], length="expand"))


def test_a_tokenizer_larger_than_the_model_is_refused(tokenizer):
    with pytest.raises(ModelError, match="380 tokens"):
        Engine(FakeBackend(fake_facts(vocabulary=300, tokenizer_size=300)), tokenizer)


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("context_blind", [True, False])
@pytest.mark.parametrize("bos", [1, None])
def test_every_kind_of_model(tokenizer, shift, context_blind, bos):
    facts = fake_facts(shift=shift, context_blind=context_blind, bos_id=bos)
    engine = Engine(FakeBackend(facts), tokenizer)
    for text, holes in (
        ("", [(0, 0)]),
        ("ab", [(0, 2)]),
        ("abc", [(0, 1), (1, 2), (2, 3)]),
        ("a = b\n", [(2, 3), (6, 6)]),
    ):
        for cache in ("on", "off"):
            request = FillRequest(text=text, holes=holes, length="fixed:3", cache=cache, frames=True)
            watched = Watched(engine, request)
            check_result(request, watched.result)
            assert watched.result.end == "complete"


def test_probing_below_the_shortest_measured_length(fake_engine, monkeypatch):
    monkeypatch.setattr(fake_engine, "_probe_bias", ((4, 0.5), (8, 0.4)))
    result = fake_engine.fill(FillRequest(text="a b\n", holes=[(2, 2)], length="probe", max_tokens=2))
    assert result.end in ("complete", "max_tokens", "empty")


def test_measuring_the_bias_keeps_the_deadline(fake_engine, monkeypatch):
    monkeypatch.setattr(fake_engine, "_probe_bias", None)
    request = FillRequest(text="a b\n", holes=[(2, 2)], length="probe", deadline_ms=5)
    with mock.patch("time.perf_counter", Clock()):
        assert fake_engine.fill(request).end == "deadline"
    assert fake_engine._probe_bias is None  # what was cut short is not kept


@pytest.mark.parametrize(
    "request_", [FillRequest(text="\ud800", holes=[(0, 0)]), RewriteRequest(text="\ud800", range=(0, 1))]
)
def test_half_a_surrogate_pair_is_refused(fake_engine, request_):
    with pytest.raises(RequestError, match="surrogate pair at character 0"):
        fake_engine.fill(request_)


def test_a_probed_hole_says_what_was_tried(fake_engine):
    result = fake_engine.fill(FillRequest(text="a b\n", holes=[(2, 2)], length="probe"))
    told = re.fullmatch(
        r"probe:(\d+) of ([\d,]+) \(probed (\d+); 1 batched pass and (\d) fills\)", result.holes[0].length_policy
    )
    assert told is not None
    tried = told[2].split(",")
    assert told[1] in tried
    assert told[3] in tried
    assert len(tried) == int(told[4])
