"""`diffill rewrite`: which part is written anew, its outputs and its refusals, with a small engine."""

import io
import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_runtime.protocol import FillRequest, RewriteRequest

CODE = '''\
"""Shapes."""

def area(width, height):
    """Return the area."""
    result = width * height
    return result  # of a rectangle


class Circle:
    def area(self):
        return 3 * self.r ** 2

    @property
    @cached(
        size=3)
    def edge(self):
        def twice(x): return 2 * x; pass
        return twice(3 * self.r)

    async def draw(self, canvas):
        """Draw it."""; await canvas.circle(self.r)

    def planned(self):
        """Not written yet."""


if FAST:
    def sort(items): pass
else:
    def sort(items):
        items.sort()
'''


@pytest.fixture
def file(tmp_path, monkeypatch):
    """shapes.py in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shapes.py"
    path.write_bytes(CODE.encode())
    return path


def test_lines_are_one_range_without_the_last_line_end(run_rewrite, engine, file):
    engine.texts = ["    return width * height"]
    code, out, err = run_rewrite("shapes.py", "--lines", "5:6")
    assert code == 0
    (request,) = engine.requests
    assert isinstance(request, RewriteRequest)
    assert CODE[slice(*request.range)] == "    result = width * height\n    return result  # of a rectangle"
    assert (request.strength, request.seed, request.path) == (1.0, 0, "shapes.py")
    assert out.decode() == (
        "--- a/shapes.py\n+++ b/shapes.py\n@@ -2,8 +2,7 @@\n \n def area(width, height):\n"
        '     """Return the area."""\n-    result = width * height\n-    return result  # of a rectangle\n'
        "+    return width * height\n \n \n class Circle:\n"
    )
    assert err == "diffill: fake, 2 steps, 25 tokens, 6 ms, confidence 0.75\n"
    assert file.read_text() == CODE


def test_only_parts_of_the_range_may_come_back(run_rewrite, engine, file):
    start = CODE.index("width * height")
    engine.parts = [(start, start + 5), (start + 8, start + 14)]
    engine.texts = ["a", "b"]
    code, out, err = run_rewrite("shapes.py", "--lines", "5:6", "--strength", "0.25", "--seed", "7", "--stdout")
    assert (code, out.decode()) == (0, CODE.replace("width * height", "a * b"))
    assert (engine.requests[0].strength, engine.requests[0].seed) == (0.25, 7)
    assert "confidence 0.75 at 5:14, confidence 0.75 at 5:22" in err
    engine.parts = [(0, 3)]  # a fault of ours, not the user's
    assert run_rewrite("shapes.py", "--lines", "5:6")[:2] == (3, b"")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("area", "result = width * height\n    return result"),
        ("Circle.area", "return 3 * self.r ** 2"),
        ("Circle::area", "return 3 * self.r ** 2"),
        ("edge", "def twice(x): return 2 * x; pass\n        return twice(3 * self.r)"),
        ("Circle.edge.twice", "return 2 * x; pass"),
        ("edge.twice", "return 2 * x; pass"),
        ("draw", "await canvas.circle(self.r)"),
    ],
)
def test_a_function_is_its_body_without_signature_and_docstring(run_rewrite, engine, file, name, body):
    engine.texts = ["raise"]
    code, out, _ = run_rewrite("shapes.py", "--function", name, "--strength", "0.5", "--stdout")
    assert code == 0
    (request,) = engine.requests
    text = CODE[slice(*request.range)]
    assert text.removesuffix("  # of a rectangle") == body
    assert out.decode() == CODE[: request.range[0]] + "raise" + CODE[request.range[1] :]


def test_a_body_that_is_not_written_yet_is_filled(run_rewrite, engine, file):
    engine.texts = ["\n        return 1"]
    code, out, _ = run_rewrite("shapes.py", "--function", "planned", "--alternatives", "2", "--stdout")
    place = CODE.index('"""Not written yet."""') + len('"""Not written yet."""')
    (request,) = engine.requests
    assert isinstance(request, FillRequest)
    assert (request.holes, request.alternatives) == ([(place, place)], 2)
    assert (code, out.decode()) == (0, CODE[:place] + "\n        return 1" + CODE[place:])


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_functions_are_found_whatever_the_bytes(run_rewrite, engine, file, mark):
    text = mark + "# 👩 é\r\ndef f(x: 'é'):\r\n\t'''É.'''\r\n\treturn '👩'\r\n"
    file.write_bytes(text.encode())
    assert run_rewrite("shapes.py", "--function", "f", "--stdout")[:2] == (0, text.replace("return '👩'", "x").encode())


def test_standard_input_needs_the_language(run_rewrite, engine, monkeypatch):
    for options, code, answer in (([], 2, b""), (["--language", "go"], 0, b"func f() int { x }\n")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"func f() int { return 1 }\n")))
        got = run_rewrite("-", "--function", "f", "--stdout", *options)
        assert got[:2] == (code, answer)
        if code:
            assert got[2] == "diffill: the language of standard input is unknown; give --language or --lines\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("shapes.py", "one of the arguments --lines --function is required"),
        ("shapes.py --lines 1:2 --function area", "argument --function: not allowed with argument --lines"),
        ("shapes.py --lines 1:2 --lines 4:5", "--lines is given 2 times; one part is rewritten at a time"),
        ("shapes.py --lines 6:5", "--lines 6:5 ends before it starts; give the smaller line first"),
        ("shapes.py --lines 0:5", "--lines 0:5 lies outside the file, whose lines go from 1 to 32"),
        ("shapes.py --lines 5", "--lines takes A:B, two numbers from 1, not '5'"),
        ("shapes.py --lines 2:2", "the range to rewrite is empty"),
        ("shapes.py --lines 1:2 --strength 0", "argument --strength: takes a number above 0 and not above 1, not '0'"),
        (
            "shapes.py --function planned --strength 1.5",
            "argument --strength: takes a number above 0 and not above 1, not '1.5'",
        ),
        ("shapes.py --lines 1:2 --strength much", "argument --strength: takes a number, not 'much'"),
        ("shapes.py --lines 1:2 --model nonesuch", "there is no model 'nonesuch'"),
        ("shapes.py --lines 1:2 --steps 0", "steps is at least 1, not 0"),
        ("missing.py --lines 1:2", "there is no file missing.py"),
        (
            "shapes.py --function Circle.aera",
            "shapes.py has no function 'Circle.aera' with a body; did you mean Circle.area or Circle.draw?",
        ),
        (
            "shapes.py --function AREA",
            "shapes.py has no function 'AREA' with a body; did you mean area or Circle.area?",
        ),
        (
            "shapes.py --function zzz",
            "shapes.py has no function 'zzz' with a body; it has area, Circle.area, Circle.edge, Circle.edge.twice, "
            "Circle.draw and 2 more",
        ),
        (
            "shapes.py --function sort",
            "shapes.py has 2 functions 'sort' (sort in line 28, sort in line 30); give its lines by --lines A:B",
        ),
        ("two.py --function f", "two.py has 2 functions 'f' (A.f in line 2, B.f in line 4); give one of these names"),
        ("none.py --function f", "none.py has no function 'f' with a body"),
        ("notes.txt --function f", "the language of notes.txt is unknown; give --language or --lines"),
        ("notes.txt --function f --language latin", "there is no grammar for the language 'latin'; give --lines"),
    ],
)
def test_bad_use_is_one_sentence_and_exit_code_2(run_rewrite, engine, file, arguments, said):
    file.with_name("notes.txt").write_text("f")
    file.with_name("none.py").write_text("x = 1\n")
    file.with_name("two.py").write_text("class A:\n def f(a): return 1\nclass B:\n def f(a): return 2\n")
    assert run_rewrite(*arguments.split(), "--write") == (2, b"", f"diffill: {said}\n")
    assert engine.requests == []
    assert file.read_text() == CODE


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_shows_the_best_so_far_and_writes_nothing(run_rewrite, engine, file):
    engine.on_step = lambda cancel: os.kill(os.getpid(), signal.SIGINT)
    code, _, err = run_rewrite("shapes.py", "--function", "draw", "--write")
    assert (code, err) == (130, "diffill: interrupted, this is the best so far; shapes.py is unchanged\n")
    assert file.read_text() == CODE


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
def test_the_trace_names_the_parts_when_they_are_known(run_rewrite, engine, file, draw):
    start = CODE.index("width * height")
    engine.parts = [(start, start + 5), (start + 8, start + 14)]
    drawn = draw(lambda: run_rewrite("shapes.py", "--lines", "5:5", "--strength", "0.5", "--trace"))
    assert "part 2" in drawn[: drawn.index("done")]
    assert "hole at 5:22" in drawn[drawn.index("done") :]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["a b", "", "👩", "e\u0301\t", "\u2028x"]), min_size=1, max_size=8),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.sampled_from(["z", "z\n", "é\r\n"]),
    st.data(),
)
def test_what_lies_outside_the_lines_stays_byte_for_byte(run_rewrite, engine, tmp_path, lines, end, bom, text, data):
    first = data.draw(st.integers(1, len(lines)))
    last = data.draw(st.integers(first, len(lines)))
    start = "\ufeff" * bom + "".join(line + end for line in lines[: first - 1])
    old, rest = end.join(lines[first - 1 : last]), "".join(end + line for line in lines[last:])
    path = tmp_path / "it.txt"
    path.write_bytes((start + old + rest).encode())
    engine.texts = [text]
    code, _, err = run_rewrite(path, "--lines", f"{first}:{last}", "--write")
    if start + old + rest == "" or not old:
        assert (code, path.read_bytes()) == (2, (start + old + rest).encode())
    else:
        assert (code, path.read_bytes()) == (0, (start + text + rest).encode()), err


def test_an_instruction_is_passed_on(run_rewrite, engine, tmp_path):
    (tmp_path / "a.py").write_text("x = 1\ny = 2\n")
    code, _, _ = run_rewrite(tmp_path / "a.py", "--lines", "1:1", "--instruction", "name it z", "--stdout")
    assert code == 0
    assert engine.requests[0].instruction == "name it z"
    assert engine.requests[0].strength == 1.0


def test_an_instruction_says_something_and_has_no_strength(run_rewrite, tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    code, _, err = run_rewrite(tmp_path / "a.py", "--lines", "1:1", "--instruction", " ")
    assert (code, "--instruction is empty" in err) == (2, True)
    code, _, err = run_rewrite(tmp_path / "a.py", "--lines", "1:1", "--instruction", "x", "--strength", "0.5")
    assert (code, "do not go together" in err) == (2, True)
