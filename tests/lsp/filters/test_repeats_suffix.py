"""What the suffix says is not said twice; what only looks like it stays."""

import pytest
from golden import parse_case, run

from lsp_server.filters.repeats_suffix import repeats_suffix

CASES = {
    "the next line": ("def f():\n    «x = 1\n    return x»\n    return x\n", "x = 1"),
    "the next line behind an empty one": ("def f():\n    «x = 1\n    return x»\n\n    return x\n", "x = 1"),
    "two lines": ("«a = 1\nbb = 2\ncc = 3»\nbb = 2\ncc = 3\n", "a = 1"),
    "the next line and inventions after it": (
        "def f(items):\n    «total = 0\n    return total, items\n\ndef g():\n    pass»\n    return total, items\n",
        "total = 0",
    ),
    "the rest of the line": ("for «name in names:» in names:\n    pass\n", "name"),
    "a bracket that is closed": ("print(«a, b)»)\n", "a, b"),
    "two brackets that are closed": ("print(f(«a, b))»))\n", "a, b"),
    "a quote that is closed": ('x = "«hello"»"\n', "hello"),
    "a line at the cursor's line": ("x = 1\n«y = 2\nreturn_value = x»return_value = x\n", "y = 2\n"),
    "all of it": ("x = «compute(1)»compute(1)\n", None),
    "its own bracket": ("print(«f(a)»)\n", "f(a)"),
    "a bracket of its own and one that is closed": ("print(«f(a))»)\n", "f(a)"),
    "an end within a word": ("x = «data»a\n", "data"),
    "the same line at another indentation": (
        "def f(x):\n    if x:\n        «return None»\n    return None\n",
        "return None",
    ),
    "nothing": ("x = «1»\n", "1"),
}


@pytest.mark.parametrize("name", CASES)
def test_python(name):
    marked, expected = CASES[name]
    assert run(repeats_suffix, marked) == expected


@pytest.mark.parametrize(
    ("marked", "language", "expected"),
    [
        ("if (x) {«\n  a();\n}»\n}\n", "javascript", "\n  a();"),
        ("if (x) {\n  if (y) {«\n    a();\n  }»\n}\n", "javascript", "\n    a();\n  }"),
        ('{"key": "«value"»"}', None, "value"),
        ("name: «one two»\n", None, "one two"),
        ('echo «"$file"»\n', None, '"$file"'),
    ],
)
def test_other_languages(marked, language, expected):
    assert run(repeats_suffix, marked, language) == expected


def test_tokens_end_with_the_text():
    fill, around = parse_case("def f():\n    «x = 1\n    return x»\n    return x\n")
    shorter = repeats_suffix(fill, around)
    assert [shorter.text[t.start : t.end] for t in shorter.tokens] == ["x", " ", "=", " ", "1"]
