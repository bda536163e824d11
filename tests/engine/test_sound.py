"""A rewrite leaves no syntax error where there was none."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snippet import SNIPPET

from model_runtime.engine.engine import Engine
from model_runtime.engine.sound import judge, sound_parts
from model_runtime.protocol import HoleFill, RewriteRequest, apply_fills

TEXT = "def area(width, height):\n    size = width * height\n    return size\n"


def part(old: str, new: str, confidence: float) -> HoleFill:
    start = TEXT.index(old)
    return HoleFill(start, start + len(old), new, confidence, "expand", [])


def is_sound(text: str, holes: list[HoleFill], language: str) -> bool:
    return judge(text, language)(holes)


def test_only_what_breaks_the_syntax_is_left_out():
    good, bad = part("width * height", "2 * width", 0.1), part("return size", "return (size", 0.9)
    assert sound_parts(TEXT, [good, bad], "python") == [good]
    assert sound_parts(TEXT, [good], "python") == [good]
    assert sound_parts(TEXT, [bad], "python") == []


def test_parts_that_belong_together_stay_together():
    opened, closed = part("width *", "(width *", 0.2), part("height\n    return", "height)\n    return", 0.9)
    assert sound_parts(TEXT, [opened, closed], "python") == [opened, closed]


def test_the_surest_part_has_the_first_say():
    first, second = part("size = ", "size = (", 0.3), part("return size", "return [size", 0.8)
    third = part("height)", "height=1)", 0.7)
    assert sound_parts(TEXT, [third, first, second], "python") == [third]
    one, other = part("width * height", "width)", 0.3), part("size = width", "size = (width", 0.8)
    assert not is_sound(TEXT, [one], "python")
    assert not is_sound(TEXT, [other], "python")


def test_python_refuses_what_a_tolerant_parser_lets_pass():
    inward = part("    return", "        return", 0.9)
    assert sound_parts(TEXT, [inward], "python") == []


def test_a_file_that_does_not_parse_may_get_no_worse():
    text = TEXT + "def volume(:\n"
    bad, good = part("return size", "return (size", 0.9), part("width * height", "2 * width", 0.1)
    assert sound_parts(text, [good, bad], "python") == [good]


def test_where_no_parser_knows_the_language_all_stays():
    bad = part("return size", "return (size", 0.9)
    assert sound_parts(TEXT, [bad], None) == [bad]


@given(st.lists(st.text(alphabet="ab(:[\n ='\"", max_size=6), min_size=3, max_size=3), st.permutations([0.1, 0.5, 0.9]))
def test_what_parsed_still_parses(texts, confidences):
    spans = ("width, height", "size = width * height", "return size")
    holes = [part(old, new, sure) for old, new, sure in zip(spans, texts, confidences, strict=True)]
    kept = sound_parts(TEXT, holes, "python")
    assert is_sound(TEXT, kept, "python")
    assert [hole for hole in holes if hole in kept] == kept


@pytest.mark.parametrize("strength", [0.3, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_a_partial_rewrite_of_the_embedded_model_parses(strength, seed):
    engine = Engine.load("embedded", threads=1)
    request = RewriteRequest(text=SNIPPET, range=(0, len(SNIPPET)), strength=strength, seed=seed, language="python")
    result = engine.rewrite(request)
    assert is_sound(SNIPPET, result.holes, "python")
    assert result.holes == sorted(result.holes, key=lambda hole: hole.start)
    after = apply_fills(SNIPPET, result.holes)
    ast.parse(SNIPPET)
    assert after != SNIPPET
