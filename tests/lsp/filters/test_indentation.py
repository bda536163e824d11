"""A fill takes on the indentation of its file, and leaves what is outside the hole alone."""

import pytest
from golden import parse_case, run

from lsp_server.filters.indentation import indent_unit, indentation

CASES = {
    "three spaces too many": (
        "def f():\n    x = 1\n    «   y = 2\n       z = 3»\n    return x\n",
        "y = 2\n    z = 3",
    ),
    "two columns a level in a file of four": (
        "def f():\n    «if x:\n      return 1\n    return 2»\n",
        "if x:\n        return 1\n    return 2",
    ),
    "written as if at column 0": (
        "def f():\n    «if x:\n    return 1\nreturn 2»\n",
        "if x:\n        return 1\n    return 2",
    ),
    "spaces in a file of tabs": (
        "def f():\n\tg()\n\t«if x:\n        return 1\n    return 2»\n",
        "if x:\n\t\treturn 1\n\treturn 2",
    ),
    "tabs in a file of spaces": (
        "def f():\n    g()\n    «if x:\n\t\treturn 1\n\treturn 2»\n",
        "if x:\n        return 1\n    return 2",
    ),
    "misaligned after a bracket": (
        "def f():\n    «x = [\n      1,\n    ]\n     y = 2\n   z = 3»\n",
        "x = [\n      1,\n    ]\n    y = 2\n    z = 3",
    ),
    "ends where the block that follows would be left": (
        "def f():\n    a = 1\n    «y = 2\n\ndef g():\n    pass»\n    return a\n",
        "y = 2",
    ),
    "below an opener, two columns": ("def f():«\n  return 1»\n\n\ndef g():\n    pass\n", "\n    return 1"),
    "the inside of a string": (
        "def f():\n    '''doc\n  «odd\n      more'''\n    x = 1»\n",
        "odd\n      more'''\n    x = 1",
    ),
    "after a call on two lines": ("foo(a,\n    b)\n«x = 1»\n", "x = 1"),
    "leaving a function at its end": (
        "def f():\n    «return 1\n\n\ndef g():\n    return 2»\n\n\nf()\n",
        "return 1\n\n\ndef g():\n    return 2",
    ),
    "else of the branch above": (
        "def f(x):\n    if x:\n        «return 1\n    else:\n        return 2»\n",
        "return 1\n    else:\n        return 2",
    ),
    "the cursor deeper than any level": ("x = 1\n      «y = 2\n      z = 3»\n", "y = 2\n      z = 3"),
    "a file that is not indented": ("x = 1\n«if x:\n  y = 2»\n", "if x:\n    y = 2"),
    "CRLF": ("def f():\r\n    «if x:\r\n      y()»\r\n", "if x:\r\n        y()"),
}
BRACED = {
    "spaces in a file of tabs": (
        "function f() {\n\t«if (a) {\n    b();\n  }»\n\tg();\n}\n",
        "if (a) {\n\tb();\n  }",
    ),
    "calls that go on": (
        "function f() {\n  g();\n  «a\n    .b()\n    .c();»\n}\n",
        "a\n    .b()\n    .c();",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_python(name):
    marked, expected = CASES[name]
    assert run(indentation, marked) == expected


@pytest.mark.parametrize("name", ["calls that go on"])
def test_braces(name):
    marked, expected = BRACED[name]
    assert run(indentation, marked, "javascript") == expected


@pytest.mark.xfail(strict=True, reason="tabs count four columns, and a fill of two columns a level looks half as deep")
def test_two_columns_in_a_file_of_tabs():
    assert run(indentation, BRACED["spaces in a file of tabs"][0], "javascript") == "if (a) {\n\t\tb();\n\t}"


def test_a_fill_that_needs_nothing_is_the_same_object():
    fill, around = parse_case("def f():\n    «return 1»\n")
    assert indentation(fill, around) is fill


def test_without_a_style_other_languages_stay():
    assert run(indentation, "«a:\n - b»", None) == "a:\n - b"


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("x\n", None),
        ("if x:\n  y\n", "  "),
        ("if x:\n\ty\n", "\t"),
        ("a = 1\n    b\n", "    "),
        ("f(\n   a\n)\n", "   "),
    ],
)
def test_units(text, unit):
    assert indent_unit(text) == unit
