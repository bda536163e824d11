"""What a client may say, and the sentence it gets for anything else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.daemon.messages import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    TOO_LARGE,
    UNKNOWN_METHOD,
    BadCall,
    CancelParams,
    parse_call,
    request_text,
)
from model_runtime.daemon.validation import from_json
from model_runtime.protocol import FillRequest, FillResult, HoleFill, RequestError, RewriteRequest, TokenInfo, to_json

REQUEST = {"text": "ab", "holes": [[1, 1]]}


def call(method="fill", params=None, **more) -> str:
    params = {"request": REQUEST} if params is None else params
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **more})


def test_a_call_is_read_into_our_own_types():
    read = parse_call(call(params={"request": {**REQUEST, "deadline_ms": 5, "frames": True}, "session": "s"}))
    assert (read.method, read.id, read.params.session, read.params.model) == ("fill", 1, "s", None)
    assert read.params.request == FillRequest(text="ab", holes=[(1, 1)], deadline_ms=5.0, frames=True)
    rewrite = parse_call(call("rewrite", {"request": {"text": "ab", "range": [0, 2], "strength": 0.5}}))
    assert rewrite.params.request == RewriteRequest(text="ab", range=(0, 2), strength=0.5)
    cancel = parse_call('{"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": "x"}}')
    assert cancel.params == CancelParams("x")
    assert parse_call('{"jsonrpc": "2.0", "id": 1, "method": "status"}').method == "status"


@pytest.mark.parametrize(
    ("text", "code", "number"),
    [
        ("{", PARSE_ERROR, None),
        ('{"jsonrpc": "2.0", "id": NaN}', PARSE_ERROR, None),
        ("[" * 10_000, PARSE_ERROR, None),
        ("[" * 100_000, TOO_LARGE, None),
        ("9" * 5000, PARSE_ERROR, None),
        ("[]", INVALID_REQUEST, None),
        ('"fill"', INVALID_REQUEST, None),
        ('{"id": 7, "method": "status"}', INVALID_REQUEST, 7),
        ('{"jsonrpc": "2.0", "id": null, "method": "status"}', INVALID_REQUEST, None),
        ('{"jsonrpc": "2.0", "id": true, "method": "status"}', INVALID_REQUEST, None),
        ('{"jsonrpc": "2.0", "id": 1.5, "method": "status"}', INVALID_REQUEST, None),
        ('{"jsonrpc": "2.0", "method": "status"}', INVALID_REQUEST, None),
        ('{"jsonrpc": "2.0", "id": 1, "method": 3}', INVALID_REQUEST, 1),
        (call(extra=1), INVALID_REQUEST, 1),
        (call("$/cancelRequest", {"id": 1}), INVALID_REQUEST, 1),
        (call("fly"), UNKNOWN_METHOD, 1),
    ],
)
def test_what_is_no_call_is_answered_with_its_code(text, code, number):
    with pytest.raises(BadCall) as caught:
        parse_call(text)
    assert (caught.value.code, caught.value.id) == (code, number)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ([], "params must be an object, not a list of 0"),
        ({}, "params lacks the field request"),
        ({"request": REQUEST, "sesion": "s"}, "params has no field 'sesion'"),
        ({"request": REQUEST, "session": 3}, "params.session must be a text, not a whole number"),
        ({"request": {**REQUEST, "texts": ""}}, "params.request has no field 'texts'"),
        ({"request": {**REQUEST, "text": None}}, "params.request.text must be a text, not null"),
        ({"request": {**REQUEST, "text": "\ud83d"}}, "params.request.text holds half a surrogate pair"),
        ({"request": {**REQUEST, "steps": 2.0}}, "params.request.steps must be a whole number, not a fraction"),
        ({"request": {**REQUEST, "steps": True}}, "params.request.steps must be a whole number, not true or false"),
        ({"request": {**REQUEST, "frames": 1}}, "params.request.frames must be true or false, not a whole number"),
        ({"request": {**REQUEST, "cache": "maybe"}}, "params.request.cache must be on or context or off, not 'maybe'"),
        ({"request": {**REQUEST, "temperature": 10**399}}, "params.request.temperature is too large a number"),
        ({"request": {**REQUEST, "holes": [[1]]}}, r"params.request.holes\[0\] must be a list of 2, not a list of 1"),
        ({"request": {**REQUEST, "holes": [[1, "2"]]}}, r"params.request.holes\[0\]\[1\] must be a whole number"),
        ({"request": {**REQUEST, "holes": [[1, 9]]}}, "lies outside the text"),
        ({"request": {**REQUEST, "holes": []}}, "there is no hole to fill"),
        ({"request": {**REQUEST, "holes": [[1, 1]] * 2}}, "overlap"),
        ({"request": {"text": "a" * 99, "holes": [[n, n] for n in range(65)]}}, "at most 64 holes, not 65"),
        ({"request": {**REQUEST, "max_tokens": 5000}}, "max_tokens is at most 4096"),
        ({"request": {**REQUEST, "alternatives": 17}}, "alternatives is at most 16"),
        ({"request": {**REQUEST, "length": "fixed:99999"}}, "length is at most fixed:4096"),
        ({"request": {**REQUEST, "sampler": "dice"}}, "sampler is one of"),
    ],
)
def test_bad_parameters_get_one_sentence(params, sentence):
    with pytest.raises(BadCall, match=sentence) as caught:
        parse_call(call(params=params))
    assert (caught.value.code, caught.value.id) == (INVALID_PARAMS, 1)
    assert "\n" not in caught.value.message


def test_a_refusal_never_repeats_source_text():
    secret = "hunter2 = password"
    for params in ({"request": {"text": [secret], "holes": []}}, {"request": {"text": secret, "holes": secret}}):
        with pytest.raises(BadCall) as caught:
            parse_call(call(params=params))
        assert "hunter2" not in caught.value.message


def test_results_travel_whole():
    hole = HoleFill(1, 2, "ok 🙂", 0.5, "fixed:2", [TokenInfo(0, 2, 0.25, 1)])
    result = FillResult([hole], [[hole]], "complete", 3, "m", 4, {"total": 1.5})
    assert from_json(FillResult, json.loads(json.dumps(to_json(result)))) == result
    with pytest.raises(RequestError, match=r"result.holes\[0\] lacks the field end"):
        from_json(FillResult, {"holes": [{"start": 1}]}, "result")


@given(st.text(), st.integers(0, 3), st.booleans(), st.none() | st.floats(1, 1e6), st.none() | st.lists(st.text()))
def test_what_our_client_says_is_what_the_daemon_hears(text, seed, frames, deadline_ms, related):
    request = FillRequest(
        text=text, holes=[(0, len(text))], seed=seed, frames=frames, deadline_ms=deadline_ms, related=related
    )
    assert parse_call(request_text(1, "fill", {"request": to_json(request)})).params.request == request


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["fill", "rewrite", "status", "load", "$/cancelRequest", "x"]), JSON)
def test_no_message_raises_anything_else(number, method, params):
    text = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    try:
        parse_call(text)
    except BadCall as bad:
        assert bad.message  # noqa: PT017
