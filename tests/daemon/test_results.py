"""Kept answers: found again, typed through, forgotten by age and bytes."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.daemon.results import ENTRY_BYTES, Results
from model_runtime.protocol import FillRequest, FillResult, HoleFill, RewriteRequest, TokenInfo

TIMING = {"load": 1.0, "encode": 1.0, "denoise": 1.0, "total": 3.0}


def fill(text: str, at: int, *others: str, end="complete") -> FillResult:
    """An answer of tokens of two characters."""

    def hole(text):
        tokens = [TokenInfo(n, min(n + 2, len(text)), 0.5, n) for n in range(0, len(text), 2)]
        return [HoleFill(at, at, text, 0.5, "fixed:4", tokens)]

    return FillResult(hole(text), [hole(other) for other in others], end, 4, "m", 0, dict(TIMING))


def request(text: str, at: int, **options) -> FillRequest:
    return FillRequest(text=text, holes=[(at, at)], **options)


def kept(text="width", *others: str) -> Results:
    results = Results()
    results.keep("m", request("ab", 1), fill(text, 1, *others))
    return results


def test_the_same_request_finds_the_same_answer_without_its_time():
    found = kept().find("m", request("ab", 1))
    assert found == dataclasses.replace(fill("width", 1), timing_ms=dict.fromkeys(TIMING, 0.0))


@pytest.mark.parametrize(
    ("model", "other"),
    [
        ("other", request("ab", 1)),
        ("m", request("ab", 1, seed=1)),
        ("m", request("ab", 1, path="a.py")),
        ("m", request("ab", 1, related=["x"])),
        ("m", request("abc", 1)),
        ("m", request("bb", 1)),
        ("m", FillRequest(text="ab", holes=[(1, 2)])),
        ("m", FillRequest(text="ab", holes=[(1, 1), (2, 2)])),
        ("m", RewriteRequest(text="ab", range=(0, 1))),
        ("m", request("ab", 1, cache="off")),
    ],
)
def test_anything_that_matters_makes_another_request(model, other):
    assert kept().find(model, other) is None


def test_a_deadline_and_frames_make_no_other_request():
    assert kept().find("m", request("ab", 1, deadline_ms=5.0, frames=True)) is not None


@pytest.mark.parametrize("end", ["deadline", "cancelled", "superseded"])
def test_what_was_cut_short_is_not_kept(end):
    results = Results()
    results.keep("m", request("ab", 1), fill("w", 1, end=end))
    assert len(results) == 0


def test_what_was_typed_is_taken_off_and_the_tokens_move():
    found = kept("width").find("m", request("awib", 3))
    [hole] = found.holes
    assert (hole.start, hole.end, hole.text) == (3, 3, "dth")
    assert [(token.start, token.end) for token in hole.tokens] == [(0, 2), (2, 3)]
    [odd] = kept("width").find("m", request("awb", 2)).holes
    assert [(token.start, token.end) for token in odd.tokens] == [(0, 1), (1, 3), (3, 4)]


def test_typed_tokens_are_the_prompts_from_then_on():
    results = Results()
    results.keep("m", request("ab", 1), dataclasses.replace(fill("width", 1), prompt_tokens=7))
    assert results.find("m", request("ab", 1)).prompt_tokens == 7
    assert results.find("m", request("awidb", 4)).prompt_tokens == 8  # of its three tokens, one is typed


def test_what_contradicts_the_answer_or_takes_all_of_it_asks_for_a_new_fill():
    results = kept("width")
    assert results.find("m", request("awob", 3)) is None
    assert results.find("m", request("awidthb", 6)) is None
    assert results.find("m", request("awidths b", 7)) is None
    assert (results.hits, results.typed, results.misses) == (0, 0, 3)


@pytest.mark.parametrize(
    ("typed", "draft"),
    [
        ("x", "dth"),
        ("wo", "dth"),
        ("wix", "h"),
        ("widx", "h"),
        ("widtx", ""),
        ("widthx", ""),
        ("width", ""),
        ("wi", ""),
    ],
)
def test_behind_the_contradicted_token_is_what_may_still_hold(typed, draft):
    results = kept("width")
    assert results.draft("m", request(f"a{typed}b", 1 + len(typed))) == draft
    assert results.draft("m", request(f"a{typed}b", 1 + len(typed), cache="off")) == ""


def test_what_was_not_asked_before_has_no_draft():
    results = kept("width")
    assert results.draft("m", request("cxb", 2)) == ""
    assert results.draft("other", request("axb", 2)) == ""
    assert results.draft("m", FillRequest(text="axb", holes=[(0, 1), (2, 2)])) == ""
    assert results.draft("m", RewriteRequest(text="axb", range=(0, 2))) == ""


def test_the_nearest_answer_gives_the_draft():
    results = kept("width")
    results.keep("m", request("axb", 2), fill("height", 2))
    assert results.draft("m", request("axyb", 3)) == "ight"


def test_an_alternative_that_agrees_takes_the_place_of_an_answer_that_does_not():
    found = kept("width", "height", "wide").find("m", request("ahb", 2))
    assert ([hole.text for hole in found.holes], found.alternatives) == (["eight"], [])
    both = kept("width", "height", "wide").find("m", request("awb", 2))
    assert [[hole.text for hole in one] for one in (both.holes, *both.alternatives)] == [["idth"], ["ide"]]


def test_the_nearest_answer_wins():
    results = kept("width")
    results.keep("m", request("awb", 2), fill("ind", 2))
    assert results.find("m", request("awib", 3)).holes[0].text == "nd"
    assert results.find("m", request("awidb", 4)).holes[0].text == "th"


def test_the_least_recently_used_go_when_the_bytes_are_used_up():
    one = kept("x" * 10).bytes
    assert one > ENTRY_BYTES
    results = Results(limit=3 * one + 20)
    for n in range(20):
        results.keep("m", request(str(n), 0), fill("x" * 10, 0))
        results.find("m", request("0", 0))
        assert results.bytes <= results.limit
    assert results.find("m", request("0", 0)) is not None
    assert results.find("m", request("1", 0)) is None
    assert len(results) == 3
    results.keep("m", request("big", 0), fill("x" * 10_000, 0))
    assert results.find("m", request("big", 0)) is None
    assert results.find("m", request("0", 0)) is not None


@given(st.text(min_size=1), st.text(), st.text(min_size=1, max_size=9), st.integers(0, 9))
def test_prefix_typed_and_rest_make_the_same_document(before, after, answer, count):
    at = len(before)
    results = Results()
    results.keep("m", request(before + after, at), fill(answer, at))
    typed = answer[:count]
    found = results.find("m", request(before + typed + after, at + len(typed)))
    assert (found is None) == (typed == answer)
    if found is not None:
        assert found.apply(before + typed + after) == before + answer + after
        assert all(0 <= token.start < token.end <= len(found.holes[0].text) for token in found.holes[0].tokens)
