"""JSON from outside: read as ever, unless it has more values than anybody sends; then nothing of it is read."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.daemon import reading
from model_runtime.daemon.reading import MOST_VALUES, TooManyValues, has_too_many_values, read_json

HARD = st.text(alphabet='\\"[]{},:a\n\ud83d', max_size=12)  # what could be taken for the outside of a text
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | HARD,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(HARD, inner, max_size=5),
    max_leaves=20,
)


def count(value) -> int:
    """The marks "[", "{" and "," of a value's JSON outside of its texts."""
    if isinstance(value, dict):
        return 1 + max(0, len(value) - 1) + sum(map(count, value.values()))
    return 1 + max(0, len(value) - 1) + sum(map(count, value)) if isinstance(value, list) else 0


@given(VALUES, st.booleans())
def test_values_are_counted_outside_of_texts(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    old = reading.MOST_VALUES
    try:
        for limit in (count(value) - 1, count(value)):
            reading.MOST_VALUES = max(limit, 30)  # and as many texts
            assert has_too_many_values(text) == (count(value) > reading.MOST_VALUES)
    finally:
        reading.MOST_VALUES = old
    assert read_json(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "[" + "[]," * MOST_VALUES + "0]",
        "[" + '{"a":1},' * MOST_VALUES + "0]",
        '{"' + '":1,"'.join(map(str, range(MOST_VALUES * 2))) + '":1}',
        "[" + "1e5," * MOST_VALUES + "1]",
        '["' + '","' * MOST_VALUES + '"]',
        '{"a":' * (MOST_VALUES + 1),
        '["\\\\",' + "1," * MOST_VALUES,  # a backslash ends the text: what follows is outside
    ],
    ids=["lists", "objects", "keys", "numbers", "texts", "deep", "after a backslash"],
)
def test_what_would_take_long_to_read_is_not_read(text, monkeypatch):
    def loads(*given, **options):
        raise AssertionError("it was read")

    monkeypatch.setattr(reading.json, "loads", loads)
    with pytest.raises(TooManyValues):
        read_json(text)


def test_numbers_as_long_as_floats_get_are_read():
    for number in (10**400 - 1, -(10**399) + 1, int(sys.float_info.max), 2**64):
        assert read_json(f'{{"seed": {number}}}') == {"seed": number}
    assert read_json("1" * 399 + ".5e-90") == float("1" * 399 + ".5e-90")


def test_a_large_text_is_one_value():
    code = 'def f(x, y):\n    return [x, {"y": "\\\\"}]\n' * 50_000
    assert read_json(json.dumps({"input_prefix": code})) == {"input_prefix": code}


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '"', "{", "[" * 5000, "[" + "1" * 401 + "]"])
def test_what_is_no_json_is_said(text):
    with pytest.raises((ValueError, RecursionError)):
        read_json(text)
