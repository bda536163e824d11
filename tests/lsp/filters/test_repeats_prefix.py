"""A fill that starts the line anew is cut to what is missing."""

import pytest
from golden import run

from lsp_server.filters.repeats_prefix import repeats_prefix

CASES = {
    "the keyword": ("def f(x):\n    return «return x»\n", "x"),
    "the word being typed": ("pri«print(1)»\n", "nt(1)"),
    "the whole line": ("total = sum(«total = sum(items)»\n", "items)"),
    "the object": ("self.items.«items.append(x)»\n", "append(x)"),
    "the line above and the indentation": ("def f():\n    foo(bar)\n    «foo(bar)\n    baz()»\n", "baz()"),
    "a blank twice": ("x = « 1»\n", "1"),
    "a bracket": ("print(«(a)»\n", "a)"),
    "a nested call": ("f(«f(a)»)\n", "f(a)"),
    "a word that only begins alike": ("for i in i«i»tems:\n    pass\n", "i"),
    "indentation": ("if x:\n    «    y»\n", "    y"),
    "all of it": ("import numpy«numpy»\n", None),
}


@pytest.mark.parametrize("name", CASES)
def test_python(name):
    marked, expected = CASES[name]
    assert run(repeats_prefix, marked) == expected


def test_without_a_grammar_letters_decide():
    assert run(repeats_prefix, "export PATH=«export PATH=/bin»\n", None) == "/bin"
    assert run(repeats_prefix, "a=«a=1»\n", None) == "a=1"
