"""When a suggestion is asked for by itself, how long that waits, and whether it is a line or a block."""

from __future__ import annotations

import pytest

from lsp_server.documents import Document
from lsp_server.extent import wants_block
from lsp_server.silence import Silence
from lsp_server.triggers import Asked, Debounce, check_trigger


def at_cursor(marked: str, language: str = "python", edits: int = 1) -> tuple[Document, int]:
    """A document and the offset of the bar in its text."""
    offset = marked.index("|")
    return Document("file:///a", language, 1, marked.replace("|", "", 1), edits=edits), offset


def reason(marked: str, asked: Asked | None = None, edits: int = 1) -> str | None:
    document, offset = at_cursor(marked, edits=edits)
    try:
        check_trigger(document, offset, asked or Asked())
    except Silence as silence:
        return silence.reason
    return None


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("retu|", None),
        ("re|tu", "mid_word"),
        ("x = |\n", None),
        ("foo(|)", None),
        ("foo(a, |) + 1", None),
        ("foo(|), [], {'': ''}\n", "mid_line"),
        ("foo(|)]}\"';;;))  )", None),  # closers only, however many
        ("x = | + some_other(1)", "mid_line"),
        ("|", None),
    ],
)
def test_where_a_suggestion_would_be_in_the_way(marked, expected):
    assert reason(marked) == expected


def test_no_suggestion_without_typing():
    assert reason("x = |", edits=0) == "unchanged"
    assert reason("x = |", Asked(edits=1, offset=2), edits=1) == "unchanged"  # the cursor moved, nothing else
    assert reason("x = |", Asked(edits=1, offset=4), edits=1) is None  # asked again for the same
    assert reason("x = |", Asked(edits=1, offset=2), edits=2) is None


def test_waits_between_75_and_125_ms_longer_when_overtaken():
    debounce = Debounce()
    assert debounce.wait(None) == 0.075
    waits = []
    for _ in range(30):
        debounce.note(True)
        waits.append(debounce.wait(None))
    assert waits == sorted(waits)
    assert 0.12 < waits[-1] <= 0.125
    debounce.note(False)
    assert debounce.wait(None) < waits[-1]
    assert debounce.wait(0) == 0
    assert debounce.wait(300) == 0.3


@pytest.mark.parametrize(
    ("marked", "language", "block"),
    [
        ("def f():|\n", "python", True),
        ("def f():\n    |\n\nx = 1\n", "python", True),
        ("def f():\n\n    |\n", "python", True),
        ("if x:  # why|\n", "python", True),
        ("def f():|\n    return 1\n", "python", False),
        ("def f():\n    x = |\n", "python", False),
        ("x = {'a': |}\n", "python", False),
        ("x = '''\nnote:|\n'''\n", "python", False),
        ("# note:|\n", "python", False),
        ("class A:\n    def f(self):\n        |\n    def g(self): pass\n", "python", True),
        ("function f() {|}", "javascript", True),
        ("function f() {\n  |\n}\n", "javascript", True),
        ("function f() {\n  |\n  return 1;\n}\n", "javascript", False),
        ("let x = |", "javascript", False),
        ("while true do|\n", "lua", True),
        ("plain words|", "plaintext", False),
        ("|", "python", False),
    ],
)
def test_a_block_is_wanted_where_one_was_just_opened(marked, language, block):
    assert wants_block(*at_cursor(marked, language)) is block
