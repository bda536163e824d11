"""Errors counted, windows cut and functions found, in every language that has a grammar."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syntax_cases import FILLS, FUNCTIONS

from model_runtime.engine import syntax
from model_runtime.engine.syntax import (
    count_errors,
    functions,
    language_of,
    parse_window,
    parses_no_worse,
)
from model_runtime.engine.syntax_table import EXTENSIONS, FUNCTION_QUERIES, GRAMMARS, NAMES

COMMENTS = {language: "# {}\n" if language == "python" else "// {}\n" for language in GRAMMARS}


def test_every_language_has_cases_a_query_and_an_extension():
    assert set(FILLS) == set(FUNCTIONS) == set(FUNCTION_QUERIES) == set(GRAMMARS) == set(EXTENSIONS.values())
    assert set(NAMES.values()) <= set(GRAMMARS)


@pytest.mark.parametrize("language", GRAMMARS)
def test_a_broken_fill_has_errors_and_a_good_one_has_none(language):
    prefix, good, broken, suffix = FILLS[language]
    assert count_errors(prefix + good + suffix, language) == 0
    assert count_errors(prefix + broken + suffix, language) > 0
    assert parses_no_worse(prefix + good + suffix, prefix + good + "  " + suffix, language)
    assert not parses_no_worse(prefix + good + suffix, prefix + broken + suffix, language)
    assert parses_no_worse(prefix + broken + suffix, prefix + good + suffix, language)


def test_missing_nodes_count():
    assert count_errors("int f() { return 1 }", "c") == 1  # a MISSING semicolon and no ERROR


@pytest.mark.parametrize(
    ("path", "language", "expected"),
    [
        ("a/b.py", None, "python"),
        ("types.pyi", None, "python"),
        ("a.b.TSX", None, "tsx"),
        ("m.mjs", None, "javascript"),
        ("view.jsx", None, "javascript"),
        ("m.cts", None, "typescript"),
        ("x.h", None, "cpp"),
        ("x.c", None, "c"),
        ("x.C", None, "cpp"),
        ("notes.txt", None, None),
        ("Makefile", None, None),
        (None, None, None),
        (None, "Rust", "rust"),
        (None, "typescriptreact", "tsx"),
        ("x.py", "c++", "cpp"),
        ("x.py", "ruby", None),  # a name that is given decides
        ("x.py", "", "python"),
    ],
)
def test_language_of(path, language, expected):
    assert language_of(path, language) == expected


def test_only_the_grammar_that_is_used_is_imported():
    code = (
        "import sys; from model_runtime.engine import ranking, syntax\n"
        "assert not [name for name in sys.modules if name.startswith('tree_sitter')]\n"
        "syntax.count_errors('x = 1', 'python')\n"
        "print(sorted(name for name in sys.modules if name.startswith('tree_sitter') and '.' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['tree_sitter', 'tree_sitter_python']"


@pytest.mark.parametrize("language", GRAMMARS)
def test_functions_are_found_with_their_ranges(language):
    text, expected = FUNCTIONS[language]
    assert count_errors(text, language) == 0
    found = functions(text, language)
    assert [function.name for function in found] == [name for name, *_ in expected]
    for function, (name, first, signature, body, last) in zip(found, expected, strict=True):
        whole = text[function.start : function.end]
        assert whole.startswith(first), name
        assert whole.endswith(last), name
        assert text[: function.signature_end].endswith(signature), name
        assert text[slice(*function.body)] == body, name
        assert function.start < function.signature_end <= function.body[0] <= function.body[1] <= function.end


def test_docstrings():
    text, _ = FUNCTIONS["python"]
    found = {f.name: f.docstring and text[slice(*f.docstring)] for f in functions(text, "python")}
    assert found == {
        "outer": '"""Says\n    what."""',
        "outer.inner": None,
        "A.B.value": None,
        "tight": None,
        "described": '"text"',
        "undone": '"""Only words."""',
    }


@pytest.mark.parametrize("statement", ['b"bytes"', 'rb"bytes"', 'f"{x}"', 'Rf"{x}"', "x", '"a" + "b"'])
def test_what_is_no_docstring(statement):
    [function] = functions(f"def f():\n    {statement}\n", "python")
    assert function.docstring is None
    [function] = functions('def f():\n    # of f\n    r"""words"""\n    pass\n', "python")
    assert function.docstring is not None


def test_bodies_at_the_edges():
    text = "def f():  # why\n    # how\n    pass\n"
    assert text[slice(*functions(text, "python")[0].body)] == "# how\n    pass"
    text = "def f():\n\nx = 1\n"  # no body: what replaces it goes behind the colon
    assert functions(text, "python")[0].body == (8, 8)
    text = 'def f():\r\n    """D."""\r\n\r\n    return 1\r\n'
    assert text[slice(*functions(text, "python")[0].body)] == "return 1"
    text = "void f() {\n}\nvoid g() {\r\n\tg();\r\n}\n"
    f, g = functions(text, "c")
    assert (text[slice(*f.body)], text[slice(*g.body)]) == ("\n", "g();")


def test_a_body_whose_brace_is_missing_keeps_its_last_character():
    text = "void f() { if (a) { b(); }"
    assert [text[slice(*function.body)] for function in functions(text, "c")] == ["if (a) { b(); }"]


@given(
    language=st.sampled_from(sorted(GRAMMARS)),
    before=st.text(st.sampled_from("😀é漢a \u200b\U0001f469\u200d\U0001f4bb"), max_size=12),
    bom=st.booleans(),
)
def test_offsets_hold_whatever_characters_stand_before(language, before, bom):
    text, _ = FUNCTIONS[language]
    shifted = "\ufeff" * bom + COMMENTS[language].format(before) + text
    extra = len(shifted) - len(text)
    for plain, moved in zip(functions(text, language), functions(shifted, language), strict=True):
        assert moved.name == plain.name
        assert moved.start == plain.start + extra
        assert moved.end == plain.end + extra
        assert moved.signature_end == plain.signature_end + extra
        assert moved.body == (plain.body[0] + extra, plain.body[1] + extra)
        assert (moved.docstring is None) == (plain.docstring is None)


def test_offsets_hold_with_wide_characters_inside():
    text = 'def größe(ü="😀"):\n    """Größe 😀."""\n    return "😀" + ü  # 漢\n'
    [function] = functions(text, "python")
    assert function.name == "größe"
    assert text[slice(*(function.docstring or (0, 0)))] == '"""Größe 😀."""'
    assert text[slice(*function.body)] == 'return "😀" + ü  # 漢'
    assert count_errors("x = '\ud800'\n", "python") >= 0  # a lone surrogate is no reason to fail
    assert functions("# \ud800\ndef f(): pass\n", "python")[0].start == 4


@given(st.text(st.sampled_from("def f(a):\n \t{}()[];='\"\\#/*é😀"), max_size=80), st.sampled_from(sorted(GRAMMARS)))
def test_any_text_can_be_asked_about(text, language):
    assert count_errors(text, language) >= 0
    for function in functions(text, language):
        assert 0 <= function.start < function.signature_end <= function.body[0]
        assert function.body[0] <= function.body[1] <= function.end <= len(text)


def test_a_large_text_is_parsed_around_the_change_from_line_to_line(monkeypatch):
    text = "".join(f"def f{n}(a):\n    return (a +\n        {n})\n\n" for n in range(6000))
    assert len(text) > 2 * syntax.WHOLE
    at = text.index("def f3000")
    low, high = parse_window(text, at, at + 15)
    assert text[low - 1] == "\n"
    assert text[low:].startswith("def f")
    assert text[high:].startswith("def f")
    assert syntax.REACH * 0.9 < at - low <= syntax.REACH
    assert syntax.REACH <= high - at < syntax.REACH * 1.1
    assert count_errors(text[low:high], "python") == 0
    assert parse_window(text[:1000], 10, 20) == (0, 1000)
    assert parse_window("x" * (2 * syntax.WHOLE), syntax.WHOLE, syntax.WHOLE)[0] == syntax.WHOLE - syntax.REACH

    parsed = []
    count = syntax.count_errors
    monkeypatch.setattr(
        syntax, "count_errors", lambda text, language: (parsed.append(len(text)), count(text, language))[1]
    )
    body = text.index("return", at)
    broken = text[:body] + "return (((" + text[body + 6 :]
    assert not parses_no_worse(text, broken, "python")
    assert parses_no_worse(broken, text, "python")
    assert parses_no_worse(text, text[:body] + "yield" + text[body + 6 :], "python")
    assert max(parsed) < 2.2 * syntax.REACH
