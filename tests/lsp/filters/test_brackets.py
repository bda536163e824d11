"""A fill closes only what is its to close."""

import pytest
from golden import run

from lsp_server.filters.brackets import brackets

CASES = {
    "closed by the editor": ("print(«a)»)\n", "a"),
    "open for the fill to close": ("print(«a)»\n", "a)"),
    "two for the fill": ("print(f(«a))»\n", "a))"),
    "one too many": ("print(«a))»\n", "a)"),
    "and what comes after it": ("print(«a)\nx = 1»)\n", "a"),
    "closed and opened again": ("f(«a), f(b»)\n", "a), f(b"),
    "of the wrong kind": ("f(«[a)»)\n", "[a"),
    "nothing left": ("f(«)»)\n", None),
    "in a string": ("f(«')'»)\n", "')'"),
    "in the user's string": ("f('«:)»')\n", ":)"),
    "in a comment": ("f(a) # «:)»\n", ":)"),
    "stray before": (")\nf(«a»)\n", "a"),
    "a comprehension": ("x = [«f(a) for a in b]»\n", "f(a) for a in b]"),
}


@pytest.mark.parametrize("name", CASES)
def test_python(name):
    marked, expected = CASES[name]
    assert run(brackets, marked) == expected


@pytest.mark.parametrize(
    ("marked", "language", "expected"),
    [
        ("function f() {\n  foo(«a);\n}»\n}\n", "javascript", "a);"),
        ("function f() {\n  foo(«a);»\n}\n", "javascript", "a);"),
        ("fn f<'a>(x: &'a str) {\n    g(«x)»)\n}\n", "rust", "x"),
        ("if (x) {\n  «y();\n} else {\n  z();»\n}\n", "c", "y();\n} else {\n  z();"),
        ("const re = /[)]/; f(«a)»);\n", "javascript", "a"),
        ("list(«1, 2)»)\n", None, "1, 2"),
    ],
)
def test_other_languages(marked, language, expected):
    assert run(brackets, marked, language) == expected
