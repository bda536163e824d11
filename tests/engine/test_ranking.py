"""Which of several candidates comes first, one reason at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syntax_cases import FILLS

from model_runtime.engine.ranking import ECHO_PENALTY, cost, echo, mean_log_likelihood, rank
from model_runtime.engine.syntax import WHOLE, count_errors
from model_runtime.engine.syntax_table import GRAMMARS
from model_runtime.protocol import HoleFill, TokenInfo


def make_fill(text, confidence=0.9, start=0, end=None):
    """A fill of one token a character; `confidence` is one number or one for each."""
    each = [confidence] * len(text) if isinstance(confidence, float) else confidence
    tokens = [TokenInfo(n, n + 1, c, 0) for n, c in enumerate(each)]
    return HoleFill(start, start if end is None else end, text, each[0] if each else 0.0, "fixed", tokens)


def ranked(prefix, fills, suffix, language="python", hole=""):
    """The texts of one-hole candidates (text, confidence), best first."""
    at = len(prefix)
    candidates = [[make_fill(text, confidence, at, at + len(hole))] for text, confidence in fills]
    return [candidate[0].text for candidate in rank(prefix + hole + suffix, candidates, language)]


@pytest.mark.parametrize("language", GRAMMARS)
def test_what_parses_comes_before_what_is_likelier(language):
    prefix, good, broken, suffix = FILLS[language]
    assert ranked(prefix, [(broken, 0.99), (good, 0.1)], suffix, language, hole=good) == [good, broken]
    assert ranked(prefix, [(broken, 0.99), (good, 0.1)], suffix, None, hole=good) == [broken, good]


def test_without_a_hole_before_the_likelier_is_first():
    assert ranked("x = ", [("1", 0.5), ("2", 0.9), ("3", 0.7)], "\n") == ["2", "3", "1"]


def test_likelihood_is_per_token():
    long, short = make_fill("total + 1", 0.8), make_fill("a", 0.7)
    assert rank("x = \n", [[short], [long]], None) == [[long], [short]]
    assert mean_log_likelihood([long]) == pytest.approx(mean_log_likelihood([make_fill("b", 0.8)]))
    certain, doubtful = make_fill("abc", [0.9, 0.9, 0.0]), make_fill("abd", [0.9, 0.9, 0.1])
    assert rank("", [[certain], [doubtful]], None) == [[doubtful], [certain]]  # a zero is unlikely, not an error


def test_a_text_broken_elsewhere_is_measured_with_its_holes_empty():
    prefix, suffix = "def f(:\n    pass\n\ndef g():\n    return ", "\n"
    assert ranked(prefix, [("a + (", 0.9), ("a + (b)", 0.5)], suffix, hole="a") == ["a + (b)", "a + ("]
    # what the hole held was broken, and the empty hole is not: errors as many as in the original are worse
    assert ranked("def f():\n    return ", [("b +", 0.9), ("b", 0.5)], "\n", hole="a +") == ["b", "b +"]


def test_an_unfinished_line_prefers_what_completes_it():
    assert ranked("x = ", [("f((", 0.9), ("f()", 0.5)], "\ny = 2\n") == ["f()", "f(("]


@pytest.mark.parametrize("hole", ["a", "a +"])
def test_all_that_parse_worse_than_before_are_equally_bad(hole):
    prefix, suffix = "def f():\n    return ", "\n"  # no error with the hole empty, whether or not there was one
    one, two, three = "a +", "a +\nz = = 2", "a) +) (b"
    assert [count_errors(prefix + fill + suffix, "python") for fill in (one, two, three)] == [1, 2, 3]
    fills = [(one, 0.5), (two, 0.7), (three, 0.9)]
    assert ranked(prefix, fills, suffix, hole=hole) == [three, two, one]


@pytest.mark.parametrize(
    "fill", ["total += x\n    return total", "return total", "\n    return total\n\ndef other():\n    pass"]
)
def test_what_repeats_the_suffix_comes_later(fill):
    prefix, suffix = "def f(xs):\n    total = sum(xs)\n    ", "\n    return total\n"
    assert ranked(prefix, [(fill, 0.9), ("total *= 2", 0.6)], suffix) == ["total *= 2", fill]
    assert ranked(prefix, [(fill, 0.9), ("total *= 2", 0.6)], "\n    yield 1\n")[0] == fill


@pytest.mark.parametrize(
    ("prefix", "fill", "suffix", "expected"),
    [
        ("f(", "g(a)", ")\n", 0.0),  # closing brackets of both
        ("x = ", "y", "\n", 0.0),
        ("", "  \n ", "a\n", 0.0),
        ("a\n", "bcdefghi", "\nbcdefghi\n", 1.0),
        ("a\n", "x = 1\nbcd", "\n\n\n    bcd\n", 3 / 8),
        ("a\n", "x(\nbcd,\ne)", "\n  bcd,\n", 3 / 8),  # a whole line of it, then on
        ("a\n", "x(\nbcd,\ne)", "\n  bcd, f\n", 0.0),
        ("f(", "a, bcdefg", "bcdefg)\n", 6 / 8),  # no whole line
        ("", "x\nab\ncd", "\nab\n\ncd\n", 4 / 8),  # several lines
        ("    return ", "return x", "\n", 6 / 8),
        ("self.", "self.x", "\n", 4 / 8),
        ("import os\n", "os.environ", "\n", 0.0),  # a line of its own is measured whole
        ("import os", "\nos.environ", "\n", 0.0),
        ("    a = b\n    ", "a = b\nc", "\n", 2 / 8),
        ("    a = b", "\n    a = b", "\n", 2 / 8),
        ("a = b\r\n", "a = b", "\r\n", 2 / 8),
    ],
)
def test_echo(prefix, fill, suffix, expected):
    assert echo(prefix, fill, suffix) == expected


def test_an_echo_costs_what_it_says():
    clean, echoing = make_fill("abcdefgh", 0.5), make_fill("return x", 0.5)
    assert cost("\nreturn x", [echoing]) - cost("\nreturn x", [clean]) == pytest.approx(ECHO_PENALTY * 7 / 8)


def test_what_repeats_the_line_before_comes_later():
    assert ranked("    return ", [("return x", 0.9), ("x", 0.6)], "\n", None) == ["x", "return x"]


def test_holes_are_judged_together_and_between_themselves():
    text = "a = \nb = \n"
    good = [make_fill("1", 0.5, 4), make_fill("2", 0.5, 9)]
    broken = [make_fill("1", 0.9, 4), make_fill("(", 0.9, 9)]
    assert rank(text, [broken, good], "python") == [good, broken]
    likelier = [make_fill("1", 0.5, 4), make_fill("3", 0.9, 9)]
    assert rank(text, [good, likelier], "python") == [likelier, good]
    # the second fill repeats what stands between the holes
    between = "x()\nwhile_waiting()\n"
    repeating = [make_fill("y()", 0.6, 0), make_fill("while_waiting()", 0.6, 20)]
    other = [make_fill("y()", 0.5, 0), make_fill("z()", 0.5, 20)]
    assert rank(between, [repeating, other], None) == [other, repeating]


def test_duplicates_are_merged_and_the_likeliest_kept():
    fills = [make_fill("a", 0.4), make_fill("b", 0.5), make_fill("a", 0.8), make_fill("a", 0.6)]
    assert rank("", [[fill] for fill in fills], "python") == [[fills[2]], [fills[1]]]
    assert rank("", [[fills[0]], [fills[3]]], "python") == [[fills[3]]]
    two_holes = [[make_fill("a", 0.5, 0), make_fill(text, 0.5, 4)] for text in "bcb"]
    assert len(rank("x = y", two_holes, None)) == 2


def test_empty_fills_are_last_even_behind_broken_ones():
    assert ranked("x = 1", [("", 0.0), ("\n  ", 0.99), (" + ((", 0.1)], "\n") == [" + ((", "", "\n  "]
    half = [make_fill("", 0.9, 0), make_fill("y", 0.1, 3)]
    none = [make_fill("", 0.9, 0), make_fill("", 0.9, 3)]
    assert rank("a\n\n", [none, half], "python") == [half, none]


def test_nothing_and_one():
    assert rank("x", [], "python") == []
    only = [make_fill("((", 0.5)]
    assert rank("x", [only], "python") == [only]


def test_a_large_text_is_judged_around_its_holes():
    lines = "".join(f"def f{n}():\n    return {n}\n\n" for n in range(8000))
    assert len(lines) > WHOLE
    prefix, suffix = lines + "def g(é):\n    return ", "\n\n" + lines
    assert ranked(prefix, [("é + (", 0.9), ("é", 0.2)], suffix) == ["é", "é + ("]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b(", "", "c + 1", " "]), st.sampled_from([0.1, 0.5, 0.9])), max_size=7),
    st.randoms(use_true_random=False),
)
def test_the_order_given_decides_only_ties(fills, random):
    candidates = [[make_fill(text, confidence)] for text, confidence in fills]
    first = rank("x\n", candidates, "python")
    texts = [candidate[0].text for candidate in first]
    assert len(set(texts)) == len(texts)
    assert set(texts) == {text for text, _ in fills}
    assert rank("x\n", candidates, "python") == first
    shuffled = random.sample(candidates, len(candidates))
    again = [c for c in rank("x\n", shuffled, "python") if c[0].text.strip()]
    assert [cost("x\n", c) for c in again] == [cost("x\n", c) for c in first if c[0].text.strip()]


def test_ties_keep_the_order_given():
    assert ranked("x = ", [("2", 0.5), ("1", 0.5), ("3", 0.5)], "\n") == ["2", "1", "3"]
