"""Cutting, streaming, and prompts with markers: the parts of the endpoints that are about text alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.daemon.compat.fields import read_fields, schema_of
from model_runtime.daemon.compat.fills import Wanted
from model_runtime.daemon.compat.llama import Completion, Infill, only
from model_runtime.daemon.compat.markers import FORMATS, Marked, take_apart
from model_runtime.daemon.compat.openai import Completions
from model_runtime.daemon.compat.texts import Ends, Stream, settled_prefix
from model_runtime.protocol import RequestError

TEXTS = st.text(alphabet="ab \t\n\r", max_size=40)
ENDS = st.builds(Ends, st.lists(st.text(alphabet="ab\n", max_size=4), max_size=3), st.integers(0, 3))


@pytest.mark.parametrize(
    ("ends", "text", "cut", "word"),
    [
        (Ends(), "a\nb", "a\nb", ""),
        (Ends(["\n"]), "a\nb", "a", "\n"),
        (Ends(["\n\n", "b"]), "a\nb\n\nc", "a\n", "b"),
        (Ends(["", "x"]), "abc", "abc", ""),
        (Ends(indent=4), "x = 1\n    y = 2\n  z", "x = 1\n    y = 2", ""),
        (Ends(indent=4), "x = 1\n\n    y = 2", "x = 1\n\n    y = 2", ""),
        (Ends(indent=1), "x = 1\r\n\r\nz", "x = 1\r\n", ""),
        (Ends(indent=1), "x = 1\n\ty", "x = 1\n\ty", ""),
        (Ends(["y"], 2), "x\n y", "x", ""),
    ],
)
def test_a_text_ends_where_the_client_wants(ends, text, cut, word):
    assert ends.cut(text) == (cut, word)


@given(ENDS, TEXTS, st.lists(st.integers(0, 40)))
def test_what_is_streamed_is_the_whole_text_whatever_settles_when(ends, text, sizes):
    stream = Stream(ends)
    pieces = [stream.grow(text[:size]) for size in sorted(sizes)]
    assert "".join([*pieces, stream.end(text)]) == ends.cut(text)[0]


@given(ENDS, st.lists(TEXTS))
def test_what_was_streamed_never_changes_even_if_the_model_changes_its_mind(ends, texts):
    stream, sent = Stream(ends), ""
    for text in texts:
        sent += stream.grow(text)
        assert stream.sent == sent
    end = stream.end("something else")
    assert sent + end == stream.sent


def test_nothing_is_held_back_longer_than_it_must_be():
    stream = Stream(Ends(["stop"], 2))
    assert [
        stream.grow(text) for text in ("a", "a st", "a st\n", "a st\n   b", "a st\n   b st", "a st\n   b stop")
    ] == [
        *("a", " ", "st", "\n   b", " ", ""),
    ]


@pytest.mark.parametrize(
    ("text", "settled", "prefix"),
    [
        ("ab░", [[0, 2]], "ab"),
        ("░ab", [[1, 3]], ""),
        ("ab", [], ""),
        ("abc", [[1, 3], [0, 1]], "abc"),
        ("ab░c", [[3, 4], [0, 2]], "ab"),
    ],
)
def test_only_what_is_settled_from_the_start_is_taken(text, settled, prefix):
    assert settled_prefix(text, settled) == prefix


CODE = st.text(alphabet="ab(<|fim>\n ", max_size=30)


@given(CODE, CODE, st.sampled_from(FORMATS))
def test_marked_prompts_are_taken_apart(before, after, markers):
    prefix, suffix, middle = markers
    prompt = prefix + before + suffix + after + middle
    expected = Marked(before, after) if all(prompt.count(marker) == 1 for marker in markers) else Marked(prompt)
    assert take_apart(prompt) == expected


@given(CODE)
def test_code_is_left_as_it_is(code):
    assert take_apart(code) == Marked(code)


@pytest.mark.parametrize(
    ("prompt", "marked"),
    [
        ("[SUFFIX]after[PREFIX]before", Marked("before", "after")),
        ("<fim_prefix>a<fim_suffix>b<fim_middle>begun", Marked("abegun", "b")),
        ("other\n<PRE> a <SUF>b <MID>", Marked("a", "b", ["other\n"])),
        (
            "<|repo_name|>s\n<|file_sep|>a.py\nx = 1\n<|file_sep|>b.py\n<|fim_prefix|>p<|fim_suffix|>s<|fim_middle|>",
            Marked("p", "s", ["x = 1\n"], "b.py"),
        ),
        ("<file_sep>a.py\nx = 1\n<fim_prefix>p<fim_suffix>s<fim_middle>", Marked("p", "s", ["x = 1\n"])),
        ('MIDDLE = "<|fim_middle|>"\n', Marked('MIDDLE = "<|fim_middle|>"\n')),
        (
            "<|fim_prefix|>a<|fim_prefix|>b<|fim_suffix|>c<|fim_middle|>",
            Marked("<|fim_prefix|>a<|fim_prefix|>b<|fim_suffix|>c<|fim_middle|>"),
        ),
    ],
)
def test_prompts_as_editors_write_them(prompt, marked):
    assert take_apart(prompt) == marked


@pytest.mark.parametrize(
    ("kind", "body", "sentence"),
    [
        (Infill, [], "the body must be an object, not a list of 0"),
        (Infill, {"prompt": 3}, "prompt must be a text, not a whole number"),
        (Infill, {"input_extra": [{"text": "a"}, {}]}, "input_extra[1] lacks the field text"),
        (Infill, {"input_extra": [{"text": 1}]}, "input_extra[0].text must be a text, not a whole number"),
        (Infill, {"input_extra": {}}, "input_extra must be a list, not an object"),
        (Infill, {"stop": [1]}, "stop[0] must be a text, not a whole number"),
        (Infill, {"stop": 1}, "stop must be a text, not a whole number"),
        (Infill, {"n_predict": 1.5}, "n_predict must be a whole number, not a fraction"),
        (Infill, {"n_predict": True}, "n_predict must be a whole number, not true or false"),
        (Infill, {"n_cmpl": 17}, "n_cmpl is at most 16, not 17"),
        (Infill, {"temperature": -0.5}, "temperature is at least 0, not -0.5"),
        (Infill, {"stream": "yes"}, "stream must be true or false, not a text"),
        (Infill, {"prompt": "\ud800"}, "prompt holds half a surrogate pair, which is no character"),
        (Completions, {"prompt": []}, "the length of prompt is at least 1, not 0"),
        (Completions, {"prompt": [[1, 2]]}, "prompt[0] must be a text, not a list of 2"),
        (Completions, {"stream_options": 1}, "stream_options must be an object, not a whole number"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(kind, body, sentence):
    with pytest.raises(RequestError) as caught:
        read_fields(kind, body)
    assert str(caught.value) == sentence


def test_what_is_not_known_or_null_is_ignored():
    body = read_fields(Infill, {"samplers": "edkypmxt", "lora": [{"id": 0}], "n_predict": None, "top_k": 40.0})
    assert body == Infill(top_k=40)


def test_the_schema_is_that_of_the_fields():
    schema = schema_of(Completions)["properties"]
    assert schema["n"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 16}
    assert schema["prompt"]["anyOf"][:2] == [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 16},
    ]
    assert schema_of(Infill)["properties"]["input_extra"]["anyOf"][0]["items"]["required"] == ["text"]


def test_infill_puts_the_prompt_behind_the_prefix_and_extras_beside():
    body = Infill("b", input_prefix="a", input_suffix="c", n_predict=9, t_max_predict_ms=250.0, n_cmpl=2, seed=7)
    body.input_extra = read_fields(
        Infill, {"input_extra": [{"text": "other", "filename": "o.py"}, {"text": " "}]}
    ).input_extra
    request = body.wanted().request()
    assert (request.text, request.holes, request.related) == ("abc", [(2, 2)], ["other"])
    assert (request.max_tokens, request.deadline_ms, request.alternatives, request.seed) == (9, 250.0, 2, 7)


def test_options_that_others_read_differently_are_put_into_our_words():
    wanted = Completion(n_predict=-1, top_k=-1, top_p=1.0, t_max_predict_ms=0.0, cache_prompt=False).wanted().request()
    assert (wanted.max_tokens, wanted.top_k, wanted.top_p, wanted.deadline_ms) == (128, None, None, None)
    assert (wanted.cache, wanted.seed, wanted.temperature) == ("off", 0, 0.0)
    assert Wanted("", temperature=1.0, top_p=0).request().temperature == 0  # nothing but the likeliest
    assert Wanted("", max_tokens=10**6).request().max_tokens == 4096
    seeds = {Wanted("", temperature=1.0, seed=-1).request().seed for _ in range(8)}
    assert len(seeds) > 1
    assert Wanted("", temperature=1.0, seed=5).request().seed == 5


def test_a_client_sees_the_fields_that_it_names():
    whole = {"content": "x", "timings": {"predicted_n": 0}, "truncated": False}
    assert only(["content", "timings/predicted_n", "nonesuch", "content/x", ""], whole) == {
        "content": "x",
        "timings/predicted_n": 0,
    }
    assert only([], whole) == {}
