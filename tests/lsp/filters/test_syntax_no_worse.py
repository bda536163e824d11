"""A fill parses at least as well as what was there, if need be without its last lines."""

from dataclasses import replace

import pytest
from golden import parse_case, run

from lsp_server.filters.syntax_no_worse import syntax_no_worse

CASES = {
    "parses": ("x = «1»\n", "1"),
    "does not": ("def f():\n    «return return»\n", None),
    "does not on its last line": ("def f():\n    «x = 1\n    y = g(x»\n    return y\n", "x = 1"),
    "does not on its last two lines": ("«x = 1\ny = {\n  2 3»\nprint(x)\n", "x = 1"),
    "opens a block": ("def f(a):\n    «for b in a:»\n", "for b in a:"),
    "opens a bracket at its end": ("def f(a):\n    «g(»\n    return a\n", "g("),
    "opens a bracket and goes on": ("def f(a):\n    «g(a, »\n    return a\n", None),
    "was broken before": ("def f(«a, b»\n", "a, b"),
}


@pytest.mark.parametrize("name", CASES)
def test_python(name):
    marked, expected = CASES[name]
    assert run(syntax_no_worse, marked) == expected


def test_a_block_opened_by_a_brace():
    assert run(syntax_no_worse, "function f(a) {\n  «if (a) {»\n  return a;\n}\n", "javascript") == "if (a) {"


def test_a_marker_is_no_excuse():
    """The text was broken by the marker, not around it."""
    fill, around = parse_case("x = f(«1 2»)\n")
    assert syntax_no_worse(fill, replace(around, replaced="<FILL>")) is None


def test_without_a_grammar_all_passes():
    assert run(syntax_no_worse, "«((»", None) == "(("
