"""The filters together: their order, and what holds for any text."""

from dataclasses import replace

import pytest
from golden import check_tokens, make_fill, parse_case
from hypothesis import given
from hypothesis import strategies as st

from lsp_server.filters import FILTERS, Around, apply_filters, around_hole, join
from lsp_server.filters.cut import cut, edit, mean_confidence
from model_runtime.protocol import HoleFill, TokenInfo, apply_fills

GOLDEN = {
    "nothing to object": ("def area(w, h):\n    return «w * h»\n", "python", "w * h", None),
    "indentation, echo and blanks": (
        "def f(items):\n    «   total = 0  \n       for item in items:\n"
        "           total += item\n       return total»\n    return total\n",
        "python",
        "total = 0\n    for item in items:\n        total += item",
        None,
    ),
    "a bracket bares an echo": ("print(«name)\n)»)\n", "python", "name", None),
    "a line again": ("    self.count = 0\n    «self.count = 0»\n", "python", None, "repeats_line_above"),
    "a comment": ("x = 1\n«# Now do it»\n", "python", None, "empty_or_comment"),
    "broken": ("x = f(«1 2»)\n", "python", None, "syntax_no_worse"),
    "the suffix again": ("«return_value = 1»\nreturn_value = 1\n", "python", None, "repeats_suffix"),
    "an unknown language": ("name: «value  »\n", None, "value", None),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    marked, language, text, reason = GOLDEN[name]
    fill, around = parse_case(marked, language)
    filtered, dropped_by = apply_filters(fill, around)
    assert (filtered and filtered.text, dropped_by) == (text, reason)


PIECES = ["x", "foo", "return ", "(", ")", "[", "]", "{", "}", '"', "'", '"""', "#", "//", ":", ";", "\\", " = ", ", "]
BLANKS = [
    " ",
    "    ",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\n    ",
    "\n\t",
    "\n  x",
    "\n    return x",
    "🙂",
    "é",
    "\u2028",
    "\x0c",
]
TEXT = st.lists(st.sampled_from(PIECES + BLANKS), max_size=12).map("".join)
LANGUAGE = st.sampled_from(["python", "javascript", "rust", "go", None])


@given(prefix=TEXT, text=TEXT, suffix=TEXT, replaced=st.sampled_from(["", "<FILL>", "pass"]), language=LANGUAGE)
def test_any_text(prefix, text, suffix, replaced, language):
    """No filter raises, tokens stay in order and within the text, and filtered twice is filtered once."""
    fill, around = make_fill(text, len(prefix)), Around(prefix, suffix, language, None, replaced)
    for filter_ in FILTERS:
        filtered = filter_(fill, around)
        if filtered is not None:
            check_tokens(filtered)
            again = filter_(filtered, around)
            assert again is None or again.text == filtered.text or filter_.__name__.startswith("repeats"), filter_
    assert fill == make_fill(text, len(prefix))
    filtered, reason = apply_filters(fill, around)
    if filtered is None:
        assert reason in {filter_.__name__ for filter_ in FILTERS}
        return
    check_tokens(filtered)
    assert (filtered.start, filtered.end, reason) == (fill.start, fill.end, None)
    assert apply_filters(filtered, around) == (filtered, None)


@given(text=TEXT, ends=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_a_cut_keeps_the_tokens_that_are_left(text, ends):
    start, end = sorted(min(n, len(text)) for n in ends)
    fill = make_fill(text)
    shorter = cut(fill, start, end)
    assert shorter.text == text[start:end]
    check_tokens(shorter)
    assert "".join(shorter.text[t.start : t.end] for t in shorter.tokens) == shorter.text


def test_an_edit_moves_tokens():
    fill = HoleFill(
        0, 0, "a\n  b c", 0.5, "fixed", [TokenInfo(0, 1, 0.2, 1), TokenInfo(1, 5, 0.8, 2), TokenInfo(6, 7, 0.9, 3)]
    )
    edited = edit(fill, [(2, 4, "\t")])
    assert edited.text == "a\n\tb c"
    assert [edited.text[t.start : t.end] for t in edited.tokens] == ["a", "\n\tb", "c"]
    assert [t.confidence for t in edited.tokens] == [0.2, 0.8, 0.9]


def test_confidence_is_that_of_the_tokens_left():
    fill = replace(make_fill("a b"), tokens=[TokenInfo(0, 1, 0.9, 1), TokenInfo(2, 3, 0.1, 1)])
    assert cut(fill, 0, 1).confidence == pytest.approx(0.9)
    assert mean_confidence([], 0.7) == 0.7
    assert mean_confidence([TokenInfo(0, 1, 0.0, 1)], 1) > 0


def test_around_a_hole_the_others_are_filled():
    text = "a = <FILL>\nb = <FILL>\nc = <FILL>\n"
    fills = [HoleFill(n, n + 6, value, 1, "fixed") for n, value in ((4, "1"), (15, "22"), (26, "333"))]
    around = around_hole(text, fills, 1, path="it.py")
    assert around == Around("a = 1\nb = ", "\nc = 333\n", "python", "it.py", "<FILL>")


def test_fills_of_parts_join_to_one_of_the_whole():
    text = "x = old(a) + b\n"
    fills = [replace(make_fill("new"), start=4, end=7), replace(make_fill("cc"), start=13, end=14)]
    joined = join(text, (4, 14), fills)
    assert (joined.start, joined.end, joined.text) == (4, 14, "new(a) + cc")
    assert [joined.text[t.start : t.end] for t in joined.tokens] == ["new", "cc"]
    assert apply_fills(text, [joined]) == apply_fills(text, fills)
