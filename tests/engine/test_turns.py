"""Several holes by search: hole after hole, each with the texts of those before it in place."""

import pytest
from fakes import FakeBackend, fake_facts
from hypothesis import given, settings
from hypothesis import strategies as st
from watching import CancelAfter, Clock, check_frames, check_result, requests

from model_runtime.engine import turns
from model_runtime.engine.canvas import MASK_SHOWN
from model_runtime.engine.engine import Engine
from model_runtime.protocol import FillRequest, Frame

TEXT = "value = 1\nother = value\nprint(other)\n"
HOLES = [(8, 9), (18, 23), (30, 35)]


@pytest.fixture(scope="session")
def hashed(tokenizer):
    """An engine over hashed logits that searches by default."""
    return Engine(FakeBackend(fake_facts(length="search")), tokenizer)


several = requests(length="search", sampler="threshold", temperature=0.0, steps=None).filter(lambda r: len(r.holes) > 1)


@settings(max_examples=60, deadline=None)
@given(several)
def test_what_holds_for_all_holes(hashed, request_):
    *frames, result = hashed.stream(request_)
    check_result(request_, result)
    check_frames(request_, frames, result)
    assert result.end in ("complete", "max_tokens", "empty")


def test_each_hole_knows_the_texts_before_it(hashed):
    result = hashed.fill(FillRequest(text=TEXT, holes=HOLES, length="search"))
    text, moved = TEXT, 0
    for n, (start, end) in enumerate(HOLES):
        later = text
        for a, b in reversed(HOLES[n + 1 :]):  # empty as yet
            later = later[: a + moved] + later[b + moved :]
        hole = (start + moved, end + moved)
        fill = hashed.fill(FillRequest(text=later, holes=[hole], length="search")).holes[0]
        assert result.holes[n].text == fill.text
        assert result.holes[n].confidence == pytest.approx(fill.confidence)
        text = text[: hole[0]] + fill.text + text[hole[1] :]
        moved += len(fill.text) - (end - start)
    assert result.apply(TEXT) == text


def test_frames_show_what_is_done_and_what_waits(hashed):
    *frames, result = hashed.stream(FillRequest(text=TEXT, holes=HOLES, length="search", frames=True))
    assert [hole.text for hole in frames[0].holes[1:]] == [MASK_SHOWN] * 2
    assert [(hole.start, hole.end) for hole in frames[0].holes] == HOLES
    last = frames[-1]
    assert [hole.text for hole in last.holes] == [hole.text for hole in result.holes]
    assert [hole.tokens for hole in last.holes[:2]] == [hole.tokens for hole in result.holes[:2]]
    steps = [token.step for hole in result.holes for token in hole.tokens]
    assert max(steps) <= result.steps == last.step


@given(st.integers(0, 12))
def test_what_is_stopped_leaves_the_later_holes_empty(hashed, checks):
    *frames, result = hashed.stream(
        FillRequest(text=TEXT, holes=HOLES, length="search", frames=True), CancelAfter(checks)
    )
    check_frames(FillRequest(text=TEXT, holes=HOLES), frames, result)
    assert len(result.holes) == 3
    if result.end == "cancelled":
        assert result.steps <= checks
        assert result.holes[2].text == "" or result.holes[1].text


def test_the_time_budget_is_that_of_all_holes(hashed, monkeypatch):
    monkeypatch.setattr(turns.time, "perf_counter", Clock())
    asked = []

    def stream_one(request: FillRequest):
        asked.append(request.deadline_ms)
        yield from hashed.stream(request)

    request = FillRequest(text=TEXT, holes=HOLES, length="search", deadline_ms=10_000)
    *_, result = turns.in_turn(request, stream_one)
    assert not isinstance(result, Frame)
    assert asked == sorted(asked, reverse=True)
    assert len(set(asked)) == 3
    late = [*turns.in_turn(FillRequest(text=TEXT, holes=HOLES, length="search", deadline_ms=0.01), stream_one)][-1]
    assert late.end == "deadline"
    assert [hole.text for hole in late.holes[1:]] == ["", ""]


def test_several_answers_to_several_holes_are_drawn_at_once(hashed):
    request = FillRequest(text=TEXT, holes=HOLES, length="search", alternatives=2)
    assert {hole.length_policy for hole in hashed.fill(request).holes} == {"expand"}
