"""Functions, classes and blocks at a cursor, and the places that wait to be filled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_server.functions import (
    enclosing_block,
    enclosing_class,
    enclosing_function,
    find_holes,
    find_markers,
    indented_lines,
    line_span,
)

PYTHON = '''\
import os


class Stock:
    """Things."""

    def add(self, name):
        if name:
            self.items.append(name)  # ü🙂
            self.count += 1
        else:
            raise ValueError(name)
        return self

    def sub(self): return 1


def main():
    stock = Stock()
    for i in range(3):
        stock.add(i)
    print(stock)

a = 1
b = 2
'''
SCRIPT = """\
class K {
  f(a) {
    if (a) { b(); } else {
      c(a);
      d();
    }
  }
}
const g = (x) => {
};
top();
next();
"""


def at(text, place):
    return text.index(place)


def cut(text, span):
    return None if span is None else text[span[0] : span[1]]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("import", None),
        ("self.count", "Stock.add"),
        ("def add", "Stock.add"),
        ("return 1", "Stock.sub"),
        ("a = 1", None),
    ],
)
def test_the_function_at_a_cursor(place, name):
    function = enclosing_function(PYTHON, "python", at(PYTHON, place))
    assert (function and function.name) == name


def test_the_innermost_function():
    text = "def outer():\n    def inner():\n        x\n    y\n"
    assert enclosing_function(text, "python", at(text, "x")).name == "outer.inner"
    assert enclosing_function(text, "python", at(text, "y")).name == "outer"


def test_the_class_at_a_cursor():
    assert cut(PYTHON, enclosing_class(PYTHON, "python", at(PYTHON, "self.count"))).startswith("class Stock:")
    assert enclosing_class(PYTHON, "python", at(PYTHON, "a = 1")) is None
    assert cut(SCRIPT, enclosing_class(SCRIPT, "javascript", at(SCRIPT, "d()"))).startswith("class K {")


@pytest.mark.parametrize(
    ("place", "block"),
    [
        ("self.count", "self.items.append(name)  # ü🙂\n            self.count += 1"),
        ("if name", "self.items.append(name)  # ü🙂\n            self.count += 1"),
        ("else", "raise ValueError(name)"),
        ("for i", "stock.add(i)"),
        ("print(stock)", "stock = Stock()\n    for i in range(3):\n        stock.add(i)\n    print(stock)"),
        ("return 1", "return 1"),
        ("b = 2", "a = 1\nb = 2"),
        ('"""Things', '"""Things."""'),
    ],
)
def test_the_block_at_a_cursor(place, block):
    assert cut(PYTHON, enclosing_block(PYTHON, "python", at(PYTHON, place))) == block


@pytest.mark.parametrize(
    ("place", "block"),
    [
        ("c(a)", "c(a);\n      d();"),
        ("b()", "b();"),
        ("else", "c(a);\n      d();"),
        ("f(a)", "if (a) { b(); } else {\n      c(a);\n      d();\n    }"),
        ("const g", None),
        ("top", SCRIPT.rstrip()),
    ],
)
def test_the_block_at_a_cursor_in_braces(place, block):
    assert cut(SCRIPT, enclosing_block(SCRIPT, "javascript", at(SCRIPT, place))) == block


def test_a_block_without_a_grammar():
    text = "a:\r\n  b\r\n  c\r\n\r\n  d\r\n"
    assert cut(text, enclosing_block(text, None, at(text, "c"))) == "b\r\n  c"
    assert cut(text, enclosing_block(text, None, 0)) == "a:\r\n  b\r\n  c"
    assert enclosing_block(text, None, at(text, "\r\n  d")) is None


UNFINISHED = {
    "an ellipsis": ("python", "def f(a):\n    ...\n", ["..."]),
    "with a docstring": ("python", 'def f(a):\n    """Says."""\n    ...  # later\n', ["...  # later"]),
    "on the signature's line": ("python", "def f(a): ...\n", [" ..."]),
    "pass and TODO": ("python", "def f():\n    pass  # TODO: this\n\n\nx = 1\n", ["pass  # TODO: this"]),
    "TODO and pass": ("python", "def f():\n    # TODO: this\n    pass\n", ["# TODO: this\n    pass"]),
    "not implemented": ("python", "def f():\n    raise NotImplementedError\n", ["raise NotImplementedError"]),
    "not implemented yet": (
        "python",
        "class A:\n    def f(self):\n        raise NotImplementedError('yet')\n    def g(self):\n        ...\n",
        ["raise NotImplementedError('yet')", "..."],
    ),
    "pass by intent": ("python", "def f():\n    pass\n", []),
    "more than that": ("python", "def f():\n    ...\n    return 1\n", []),
    "abstract": ("python", "class A:\n    @abc.abstractmethod\n    def f(self):\n        ...\n", []),
    "an overload": ("python", "@overload\ndef f(a: int): ...\n", []),
    "a protocol": ("python", "class A(typing.Protocol):\n    def f(self): ...\n", []),
    "a marker in it": ("python", "def f():\n    <FILL>\n", ["<FILL>"]),
    "several": ("python", "def f():\n    ...\nx = <FILL>\ndef g():\n    ...\n", ["...", "<FILL>", "..."]),
    "todo!": ("rust", "fn f() -> u8 { todo!() }\n", ["todo!()"]),
    "a comment": ("javascript", "function f() {\n  // TODO sort\n}\n", ["// TODO sort"]),
    "an error": (
        "typescript",
        'function f(): void {\n  throw new Error("not implemented");\n}\n',
        ['throw new Error("not implemented");'],
    ),
    "panic": ("go", 'package m\nfunc f() {\n\tpanic("not implemented")\n}\n', ['panic("not implemented")']),
    "an operation": (
        "java",
        "class A { int f() {\n  throw new UnsupportedOperationException();\n} }\n",
        ["throw new UnsupportedOperationException();"],
    ),
    "only markers": (None, "a: <FILL>\nb: ...\n", ["<FILL>"]),
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_holes(name):
    language, text, holes = UNFINISHED[name]
    assert [cut(text, span) for span in find_holes(text, language)] == holes


def test_holes_of_a_selection():
    text = "a = <FILL>\nb = <FILL>\nc = <FILL>\n"
    assert find_holes(text, "python", (12, 14)) == []
    assert find_holes(text, "python", (12, 17)) == [(15, 21)]
    assert find_markers(text) == [(4, 10), (15, 21), (26, 32)]


def test_a_stub_file_is_finished():
    assert find_holes("def f(): ...\n", "python", path="/x/it.pyi") == []


@given(
    text=st.lists(
        st.sampled_from(["def f():", "if x:", "{", "}", "\n", "\r\n", "\r", "    ", "🙂", "x", "...", " ", "<FILL>"])
    ).map("".join),
    at_=st.integers(0, 60),
    language=st.sampled_from(["python", "javascript", None]),
)
def test_any_text(text, at_, language):
    offset = min(at_, len(text))
    start, end = line_span(text, offset)
    assert start <= offset <= end or text[offset - 1 : offset + 1] == "\r\n"
    for span in (enclosing_block(text, language, offset), indented_lines(text, offset)):
        assert span is None or (0 <= span[0] < span[1] <= len(text) and text[span[0] : span[1]].strip())
    position = 0
    for low, high in find_holes(text, language):
        assert position <= low < high <= len(text)
        position = high
