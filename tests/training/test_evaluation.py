"""The held-out infill evaluation: which holes it cuts, how it measures, and what the baselines answer."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import random
import sys
import tokenize
import types

import numpy as np
import pytest

from model_runtime.protocol import FillResult, HoleFill, TokenInfo
from training.corpus.tokenizer import encode_plain, train_tokenizer
from training.evaluation import calibration, metrics
from training.evaluation.baselines import NgramBaseline, NgramCounts, copy_previous_line
from training.evaluation.holes import (
    BLOCK_LINES,
    SPAN_CHARACTERS,
    HoldoutHole,
    candidate_ranges,
    code_lines,
    read_package,
    sample_holes,
)
from training.evaluation.infill import Prediction, embedded_predictor, evaluate, main, summarize

SOURCE = '''"""Module docstring,
over lines."""

import os


class Thing:
    "One line of prose."

    table = """
data = 1
"""

    def method(self, value):  # a comment
        """Return it."""
        # only a comment
        if value > 2:
            return call(value)
        elif value:
            self.total += value

        print(
            "two", "lines"
        )
        for item in value:
            yield item
        return os.path.join(
            f"{value}",
            "end",
        )


def after():
    "another docstring"
    pass
'''


# Holes


def contents(text: str) -> dict[str, str]:
    return {text[line.start : line.end]: line.subkind for line in code_lines(text)}


def test_code_lines_are_code_and_nothing_else():
    assert contents(SOURCE) == {
        "import os": "import",
        "class Thing:": "definition",
        "if value > 2:": "condition",
        "return call(value)": "return",
        "elif value:": "condition",
        "self.total += value": "assignment",
        "print(": "call",
        '"two", "lines"': "other",
        ")": "other",
        "for item in value:": "other",
        "yield item": "other",
        "return os.path.join(": "return",
        'f"{value}",': "other",
        '"end",': "other",
        "def after():": "definition",
        "pass": "other",
    }


def test_an_f_string_over_lines_is_data():
    assert contents('x = 1\ny = f"""\n{x}\ntext\n"""\nz = 2\n') == {
        "x = 1": "assignment",
        "z = 2": "assignment",
    }


def test_offsets_count_code_points_and_leave_trailing_blanks_out():
    text = 'if 1:\n\tface = "🙂é"; other = 1  \n'
    line = code_lines(text)[-1]
    assert text[line.start : line.end] == 'face = "🙂é"; other = 1'
    assert [text[start:end] for start, end in line.tokens][:3] == ["face", "=", '"🙂é"']


def test_line_holes_are_whole_lines_outside_of_prose():
    holes = sample_holes(count=300, seed=3)
    assert len({(hole.path, hole.start) for hole in holes}) == 300
    prose: dict[str, list[tuple[int, int]]] = {}
    for hole in holes:
        before, after = hole.prefix.rpartition("\n")[2], hole.suffix.partition("\n")[0]
        assert not before.strip()
        assert not after.strip()
        assert hole.truth == hole.truth.strip()
        assert len(hole.truth) >= 4
        assert "\n" not in hole.truth
        assert "#" not in [token.string[:1] for token in line_tokens(hole.truth)]
        if hole.path not in prose:
            prose[hole.path] = docstring_rows(hole.text)
        row = hole.prefix.count("\n") + 1
        assert not any(first <= row <= last for first, last in prose[hole.path])
        assert "/tests/" not in hole.path
        assert hole.path.startswith(hole.package + "/")


def line_tokens(line: str) -> list[tokenize.TokenInfo]:
    found: list[tokenize.TokenInfo] = []
    with contextlib.suppress(tokenize.TokenError, IndentationError):  # a bracket that another line closes
        found.extend(tokenize.generate_tokens(io.StringIO(line).readline))
    return found


def docstring_rows(text: str) -> list[tuple[int, int]]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, documented) and ast.get_docstring(node)]
    return [(node.body[0].lineno, node.body[0].end_lineno or 0) for node in nodes]


def test_the_same_seed_gives_the_same_holes():
    kinds = ("line", "block", "span")
    first = sample_holes(count=31, seed=7, kinds=kinds)
    assert first == sample_holes(count=31, seed=7, kinds=kinds)
    assert first != sample_holes(count=31, seed=8, kinds=kinds)
    assert [hole.kind for hole in first] == ["line"] * 11 + ["block"] * 10 + ["span"] * 10


def test_blocks_are_whole_statements_or_clauses():
    for hole in sample_holes(("toolz",), count=100, kinds=("block",)):
        lines = hole.truth.split("\n")
        indent = len(hole.prefix) - len(hole.prefix.rstrip(" "))
        assert BLOCK_LINES[0] <= len(lines) <= BLOCK_LINES[1]
        assert all(line.startswith(" " * indent) and line.strip() for line in lines[1:])
        clauses = (
            "try:",
            "except",
            "else:",
            "elif ",
            "finally:",
        )  # may be cut from the rest of their statement
        if not any(line[indent:].startswith(clauses) for line in [" " * indent + lines[0], *lines[1:]]):
            ast.parse("\n".join([lines[0], *(line[indent:] for line in lines[1:])]))


def test_blocks_of_a_known_file():
    text = "def f(a):\n    if a:\n        b = 1\n    return a\n"
    assert [text[start:end] for start, end, _ in candidate_ranges(text, "block", random.Random(0))] == [
        "def f(a):\n    if a:\n        b = 1\n    return a",
        "if a:\n        b = 1",
        "if a:\n        b = 1\n    return a",
    ]


def test_spans_keep_to_token_borders():
    for hole in sample_holes(("more_itertools",), count=200, kinds=("span",)):
        assert SPAN_CHARACTERS[0] <= len(hole.truth) <= SPAN_CHARACTERS[1]
        assert "\n" not in hole.truth
        word_before, word_after = hole.prefix[-1:].isalnum(), hole.suffix[:1].isalnum()
        assert not (word_before and hole.truth[0].isalnum())
        assert not (word_after and hole.truth[-1].isalnum())


def test_unknown_packages_and_kinds_are_refused():
    with pytest.raises(ValueError, match="not installed"):
        read_package("no_such_package_anywhere")
    with pytest.raises(ValueError, match="kind of hole"):
        sample_holes(kinds=("word",))
    with pytest.raises(ValueError, match="there are"):
        sample_holes(("toolz",), count=10**6)


# Metrics


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("a🙂b", "ab", 1),
        ("ab", "ba", 2),
    ],
)
def test_levenshtein(a, b, distance):
    assert metrics.levenshtein(a, b) == metrics.levenshtein(b, a) == distance


def test_exact_match_forgives_blanks_at_the_right_end_only():
    assert metrics.exact_match("return x  \n", "return x")
    assert not metrics.exact_match(" return x", "return x")


def test_edit_similarity():
    assert metrics.edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert metrics.edit_similarity("", "  ") == 1.0


def test_syntax_is_no_worse_than_before():
    assert metrics.valid_syntax("if x:\n    ", "pass", "\n", "return")
    assert not metrics.valid_syntax("if x:\n    ", "pass)", "\n", "pass")
    assert metrics.valid_syntax("if x:\n    ", "pass)", "\n)(", "pass")
    assert not metrics.parses("x = '\0'")


def test_tokens_are_correct_where_the_texts_align():
    ranges = metrics.correct_ranges("return value", "return (value")
    assert metrics.token_correct(0, 6, ranges)
    assert metrics.token_correct(7, 12, ranges)
    assert not metrics.token_correct(6, 12, ranges)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # The last two are worked in Newcombe (1998), Statistics in Medicine 17, table I.
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
    ],
)
def test_wilson_interval(successes, trials, low, high):
    assert metrics.wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_keeps_to_the_ends_exactly():
    assert metrics.wilson_interval(0, 1000)[0] == 0.0
    assert metrics.wilson_interval(114, 114)[1] == 1.0
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)


# Baselines


def test_copy_previous_line():
    assert copy_previous_line("a = 1\n    b = 2  \n\n    ", "\n") == "b = 2"
    assert copy_previous_line("    ", "\n") == ""


CORPUS = [
    f"def get_{name}(self):\n    value = self.{name}\n    return value\n\n" for name in ("left", "right", "top", "size")
] * 8 + ["for index in range(count):\n    print(index)\n    total += index\n"] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CORPUS, 300)


@pytest.fixture(scope="module")
def counts(tokenizer):
    tokens = [token for text in CORPUS for token in encode_plain(tokenizer, text)]
    return NgramCounts.count(np.array(tokens, dtype=np.uint16), tokenizer.get_vocab_size())


def test_counts_are_those_of_a_plain_count(counts):
    tokens = counts.tokens[6:].tolist()
    for position in (0, 5, 40, len(tokens) - 1):
        context = tokens[max(0, position - 6) : position]
        runs = counts.followers(context)
        assert len(runs) == len(context)
        for size, run in enumerate(runs, start=1):
            places = range(size, len(tokens))
            expected = [tokens[i] for i in places if tokens[i - size : i] == context[-size:]]
            # The padding before the corpus may be seen as context, but only of tokens that it precedes.
            assert run.tolist() == np.bincount(expected, minlength=counts.vocabulary).tolist()


def test_the_distribution_sums_to_one(counts, tokenizer):
    baseline = NgramBaseline(counts, tokenizer)
    for context in ([], encode_plain(tokenizer, "def get_left(self):\n"), [299, 298, 297]):
        p = baseline.distribution(context, np.array([*encode_plain(tokenizer, "value = "), 65535, 7]))
        assert p.min() > 0
        assert p.sum() == pytest.approx(1.0)


def test_the_obvious_continuation(counts, tokenizer):
    predict = NgramBaseline(counts, tokenizer).predict
    assert predict("def get_top(self):\n    value = self.top\n    ", "\n\n") == "return value"
    assert predict("for index in range(count):\n    ", "\n    total += index\n") == "print(index)"
    assert predict("for index in ", "\n    print(index)\n") == "range(count):"


def test_what_stands_around_the_hole_counts(counts, tokenizer):
    prefix = "    frob = zip\n    quux(frob)\n" * 3 + "    frob = zip\n    "
    assert NgramBaseline(counts, tokenizer).predict(prefix, "\n    frob = zip\n") == "quux(frob)"


def test_the_baseline_ends_a_line_and_writes_no_special_token(counts, tokenizer):
    fill = NgramBaseline(counts, tokenizer, beam=1).predict("🙂 = <|mask|>\n", "")
    assert fill
    assert "\n" not in fill
    assert "<|" not in fill


def test_counts_are_saved_and_loaded(counts, tmp_path):
    counts.save(tmp_path / "deep" / "counts.npz")
    loaded = NgramCounts.load(tmp_path / "deep" / "counts.npz")
    context = counts.tokens[20:26].tolist()
    assert np.array_equal(loaded.followers(context), counts.followers(context))
    assert loaded.vocabulary == counts.vocabulary


# The report


def test_a_predictor_sees_the_text_around_and_nothing_else():
    seen = []
    holes = sample_holes(("toolz",), count=4)
    evaluate(lambda *texts, **told: seen.append((texts, told)) or "", holes)
    assert seen == [((hole.prefix, hole.suffix), {}) for hole in holes]
    seen.clear()
    evaluate(lambda *texts, **told: seen.append(told) or "", holes, oracle=True)
    assert seen == [{"length": len(hole.truth)} for hole in holes]


@pytest.mark.parametrize(("length", "oracle"), [("expand", False), ("fixed:oracle", True)])
def test_the_embedded_predictor_asks_the_engine(length, oracle, monkeypatch):
    requests = []

    class Engine:
        @classmethod
        def load(cls, model):
            assert model == "somewhere"
            return cls()

        def fill(self, request):
            request.check()
            requests.append(request)
            token = TokenInfo(start=0, end=4, confidence=0.7, step=0)
            fill = HoleFill(*request.holes[0], text="pass", confidence=0.7, length_policy="", tokens=[token])
            return FillResult([fill], [], "complete", 1, "fake", 0, {})

    module = types.ModuleType("model_runtime.engine.engine")
    module.Engine = Engine
    monkeypatch.setitem(sys.modules, "model_runtime.engine.engine", module)
    holes = sample_holes(("toolz",), count=3)
    report = evaluate(embedded_predictor("somewhere", length, 1), holes, lambda text: 2 * len(text), oracle)
    assert [row.fill for row in report.rows] == ["pass"] * 3
    assert [len(row.tokens) for row in report.rows] == [1] * 3
    for request, hole in zip(requests, holes, strict=True):
        assert request.text == hole.prefix + hole.suffix
        assert request.holes == [(hole.start, hole.start)]
        assert request.max_lines == 1
        assert request.length == (f"fixed:{2 * len(hole.truth)}" if oracle else length)


def test_a_report_holds_rows_and_a_summary_of_every_kind():
    text = "import os\nvalue = 1\nreturn_ = value\n"
    holes = [
        HoldoutHole("toolz", "toolz/x.py", text, 0, 9, "line", "import"),
        HoldoutHole("toolz", "toolz/x.py", text, 10, 19, "line", "assignment"),
    ]
    fill = Prediction("value = 2", 0.5, ((0, 5, 0.9), (8, 9, 0.4)))
    report = evaluate(lambda prefix, suffix: fill if prefix else "import os  ", holes, predictor="mine", seed=1)
    first, second = report.rows
    assert (first.exact, first.similarity, first.valid) == (True, 1.0, True)
    assert (second.exact, second.similarity) == (False, pytest.approx(8 / 9))
    assert second.tokens == [(0.9, True), (0.4, False)]
    assert [(line["subkind"], line["count"], line["exact"]) for line in summarize(report.rows)] == [
        ("all", 2, 0.5),
        ("assignment", 1, 0.0),
        ("import", 1, 1.0),
    ]
    stored = json.loads(json.dumps(report.to_json()))
    assert stored["predictor"] == "mine"
    assert "cores" in stored["hardware"]
    assert list(stored["packages"]) == ["toolz"]
    assert len(stored["rows"]) == 2
    assert "text" not in stored["rows"][0]


def test_the_command_ends_with_one_line_of_json(tokenizer, tmp_path, capsys):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    out = tmp_path / "report.json"
    options = ["--count", "6", "--kinds", "line,span", "--packages", "toolz", "--pack", str(tmp_path)]
    assert main([*options, "--predictors", "copy", "--json", str(out)]) == 0
    (last,) = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["predictor"] == "copy"
    assert [line["count"] for line in last["summary"] if line["subkind"] == "all"] == [3, 3]
    assert len(json.loads(out.read_text())[0]["rows"]) == 6
    assert main([*options, "--predictors", "guess"]) == 2
    assert "guess" in capsys.readouterr().err


# Calibration


def test_reliability_of_known_pairs():
    pairs = [(0.95, True)] * 9 + [(0.95, False)] + [(0.25, False)] * 5 + [(0.25, True)] * 5 + [(1.0, True)] * 10
    curve = calibration.reliability(pairs)
    assert [(one.count, one.correct) for one in curve if one.count] == [(10, 0.5), (20, 0.95)]
    assert curve[9].confidence == pytest.approx(0.975)
    assert calibration.expected_calibration_error(curve) == pytest.approx((10 * 0.25 + 20 * 0.025) / 30)
    assert calibration.expected_calibration_error(calibration.reliability([])) == 0.0


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_command_draws_the_curve(suffix, tmp_path, capsys):
    row = {"tokens": [[0.9, True], [0.2, False]], "confidence": 0.4, "exact": False}
    (tmp_path / "report.json").write_text(json.dumps([{"predictor": "embedded", "rows": [row] * 5}]))
    picture = tmp_path / f"curve.{suffix}"
    assert calibration.main([str(tmp_path / "report.json"), "--picture", str(picture)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["count"] == 10
    assert picture.read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")
    assert calibration.main([str(tmp_path / "report.json"), "--unit", "fill"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"] == pytest.approx(0.4)
    assert calibration.main([str(tmp_path / "report.json"), "--predictor", "copy"]) == 2
