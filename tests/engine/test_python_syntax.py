"""Whether a fill parses is told from the smallest stretch that can tell, and never against the truth."""

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_runtime.engine import python_syntax
from model_runtime.engine.python_syntax import Judge, parses

MODULE = '''\
import os


class Shelf:
    """Holds jars."""

    LIMITS = {
        "small": 1,
        "large": 20,
    }

    @property
    def full(self) -> bool:
        return len(self.jars) >= self.LIMITS["large"]

    def put(self, jar, *, force=False):
        if self.full and not force:
            raise ValueError(
                "no room",
                jar,
            )
        try:
            self.jars.append(jar)
        except AttributeError:
            self.jars = [jar]
        return [
            other
            for other in self.jars
            if other is not jar
        ]


def main():
    shelf = Shelf()
    for name in os.listdir("."):
        shelf.put(name)
'''


def cut(text: str, line: str) -> tuple[str, str]:
    """What stands before and after a line's content."""
    before, found, after = text.partition(line)
    assert found
    return before, after


@pytest.mark.parametrize(
    ("line", "fills", "refused"),
    [
        ("self.jars.append(jar)", ["pass", "self.x = (1)"], ["self.jars.append(", "if jar:", "x)", "#"]),
        ("if self.full and not force:", ["for a in b:", "while True:"], ["pass", "if self.full", "else:"]),
        ("try:", ["try:"], ["if x:", "pass"]),
        ("except AttributeError:", ["except:", "except (A, B) as e:", "finally:"], ["pass", "if x:"]),
        ('"small": 1,', ['"x": y,', "**other,"], ['"x": y', "pass", '"x": (1,']),
        ('"no room",', ["x,", "*x,"], ["x", "x)", "x=1,"]),
        ("for other in self.jars", ["for a, b in c"], ["for a in b:", "pass", "other,"]),
        ("]", ["]", "or x]"], ["", ")", "[]"]),
        ("@property", ["@x.y", "x = 1", "@x(1)"], ["@", "x = ("]),
        ("def main():", ["class A:", "async def f(x, *, y):"], ["def main()", "x = 1", "def main(:"]),
        ("class Shelf:", ["class A(B):", "if x:"], ["class Shelf"]),
    ],
)
def test_fills_that_parse_are_told_from_others(line, fills, refused):
    before, after = cut(MODULE, line)
    judge = Judge(before, after)
    assert [fill for fill in [line, *fills] if not judge.accepts(fill, whole=True)] == []
    assert [fill for fill in refused if judge.accepts(fill, whole=True)] == []
    # the file as a whole agrees, but for the lone comment
    assert all(parses(before + fill + after) for fill in [line, *fills])
    assert not any(parses(before + fill + after) for fill in refused if fill != "#")


@pytest.mark.parametrize(
    ("text", "fills", "refused"),
    [
        ("def f(n):\n    if n@\n", [" == 0:", ":", " and f(n):  # so"], [" == 0", " == (:"]),
        ("def f(n):\n    if n@\n    return n\n", [" == 0:"], []),
        ("def f(n):\n    @\n    return n\n", ["n = 1"], ["if n:", "while True:"]),
        ("def f(n):\n    n = 1\n    @\n\n\nx = 1\n", ["return n", "if n:"], ["else:"]),
        ("def f(n):\n    if n@\n        return n\n", [":", " and not f(n):"], [""]),
        ("class A:\n    def f@\n", ["(self):", "(self):\n        if self:"], ["(self)", "(self):\n    if self:"]),
        ("if x:\n    pass\nelse@\n", [":"], ["", " x:"]),
        ("f(x@)\n", [", y"], [":"]),
    ],
)
def test_a_header_may_lack_the_block_that_is_still_to_be_written(text, fills, refused):
    before, _, after = text.partition("@")
    judge = Judge(before, after)
    assert [fill for fill in fills if not (judge.may_begin(fill[:1]) and judge.accepts(fill))] == []
    assert [fill for fill in refused if judge.accepts(fill)] == []


def test_an_error_elsewhere_does_not_matter():
    before, after = cut(MODULE.replace("shelf = Shelf()", "shelf = Shelf("), "self.jars.append(jar)")
    assert not parses(before + "pass" + after)
    judge = Judge(before, after)
    assert judge.accepts("pass")
    assert not judge.accepts("f(")


@pytest.mark.parametrize("text", ["function f(a) {\n    @\n}\n", "a sentence, not code;\n@", "def f(:\n@\n"])
def test_where_nothing_parses_nothing_is_certain(text):
    before, _, after = text.partition("@")
    judge = Judge(before, after)
    assert not judge.accepts("x(")
    assert not judge.certain
    assert judge.may_begin("x")


@pytest.mark.parametrize(
    ("text", "fill", "others"),
    [
        ("def f(a):\n    x = [@ + a), g(a)]\n", "k('n' ", ["k ", "(k(a", "]"]),
        ("def f(a):\n    @ ValueError(a)\n", "raise", ["f", "if", "a +=="]),
        ("from .@, b\n", "c import a", ["c", "a, b"]),
        ("class A:\n    def@:\n" + "        x = 1\n" * 500, " f(self)", [" f", " (self)"]),
    ],
)
def test_a_fill_that_parses_shows_where_to_look(text, fill, others):
    before, _, after = text.partition("@")
    judge = Judge(before, after)
    assert [it for it in others if judge.accepts(it, whole=True)] == []
    assert judge.accepts(fill, whole=True)
    assert judge.certain
    assert [it for it in others if judge.accepts(it, whole=True)] == []


def test_what_heads_a_block_is_known_from_its_beginning():
    judge = Judge(*cut(MODULE, "if self.full and not force:"))
    assert all(judge.may_begin(text) for text in ("", "i", "if", "if x.y", "for", "with open(x) as"))
    assert not any(judge.may_begin(text) for text in ("self", "return", "else", "x"))
    assert Judge(*cut(MODULE, "self.jars.append(jar)")).may_begin("self")


def test_long_stretches_are_left_alone(monkeypatch):
    monkeypatch.setattr(python_syntax, "MOST_LINES", 3)
    monkeypatch.setattr(python_syntax, "OPEN_LINES", 3)
    judge = Judge(*cut(MODULE, "shelf = Shelf()"))
    assert not judge.accepts("x")
    assert not judge.certain


FILES = sorted(Path(ast.__file__).parent.glob("*.py"))[:40]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_stood_there_is_always_accepted(data):
    text = data.draw(st.sampled_from(FILES)).read_text("utf-8")
    if not parses(text):
        return
    lines = text.splitlines(keepends=True)
    number = data.draw(st.integers(0, len(lines) - 1))
    content = lines[number].strip()
    start = sum(map(len, lines[:number])) + len(lines[number]) - len(lines[number].lstrip())
    end = start + len(content)
    if content in ("", "#"):
        return
    judge = Judge(text[:start], text[end:])
    assert judge.accepts(content) or not judge.certain
    assert all(judge.may_begin(content[:n]) for n in range(len(content)))


@given(st.text(" \t\n:()[]#@x'\"=", max_size=40), st.text(" \t\n:()[]#@x'\"=", max_size=40), st.text(max_size=8))
def test_no_text_breaks_it(before, after, fill):
    judge = Judge(before, after)
    judge.accepts(fill)
    judge.may_begin(fill)
