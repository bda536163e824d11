"""What EvalPlus compares otherwise than by equality, pass@k, and what an answer's code is."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")

from hypothesis import given
from hypothesis import strategies as st

from model_runtime.protocol import RequestError
from training.evaluation.benchmarks.problem import Exact, Inputs, Problem
from training.evaluation.echoes import echoes
from training.evaluation.grading import Grader, agrees, literal, values
from training.evaluation.passk import bootstrap, paired_bootstrap, pass_at_k
from training.evaluation.prompts import chat_prompt, definitions, program
from training.rewards import sandbox

needs_sandbox = pytest.mark.skipif(sandbox.why_not() is not None, reason=str(sandbox.why_not()))
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=8,
)


def suite(entry: str, family="mbpp", atol: float = 0.0, inputs=(), reference: str = "") -> Inputs:
    return Inputs(entry, tuple(inputs), reference, atol, family)


@pytest.mark.parametrize(
    ("entry", "family", "atol", "arguments", "found", "expected", "same"),
    [
        ("f", "mbpp", 0, (), 3, 3, True),
        ("f", "mbpp", 0, (), 3, 4, False),
        ("f", "humaneval", 0, (), 0.1 + 0.2, 0.3, True),  # floats always have a tolerance
        ("f", "humaneval", 0, (), [0.1 + 0.2], [0.3], True),
        ("f", "humaneval", 0, (), [0.3], [0.3, 0.1], False),
        ("f", "humaneval", 0, (), (0.1 + 0.2,), [0.3], False),  # of another type
        ("f", "humaneval", 0, (), 1, 1.0, True),
        ("f", "humaneval", 1e-3, (), 1.0005, 1.0, True),
        ("f", "humaneval", 1e-3, (), 1.1, 1.0, False),
        ("similar_elements", "mbpp", 0, (), (2, 1), (1, 2), True),
        ("similar_elements", "humaneval", 0, (), (2, 1), (1, 2), False),
        ("are_equivalent", "mbpp", 0, (), False, True, True),
        ("sum_div", "mbpp", 0, (), 0, 7, True),
        ("sum_div", "mbpp", 0, (), 1, 7, False),
        ("surface_Area", "mbpp", 0, (3, 4), round(9 + 6 * math.sqrt(1.5**2 + 16)), 33, True),
        ("digit_distance_nums", "mbpp", 0, (23, 156), 1 + 3 + 3, 1, True),
        ("find_zero", "humaneval", 1e-4, ([1, 2],), -0.5, 99, True),
        ("find_zero", "humaneval", 1e-4, ([1, 2],), 0.5, 0.5, False),
    ],
)
def test_results_agree_as_evalplus_has_it(entry, family, atol, arguments, found, expected, same):
    assert agrees(suite(entry, family, atol), arguments, found, expected) is same


@given(PLAIN)
def test_literals_make_the_value_anew(value):
    assert eval(literal(value), {"__builtins__": {}}) == value


def test_literals_of_what_has_no_spelling():
    made = eval(literal([math.inf, -math.inf, math.nan, {1}, set()]), {"__builtins__": {}})
    assert made[:2] == [math.inf, -math.inf]
    assert math.isnan(made[2])
    assert made[3:] == [{1}, set()]


@needs_sandbox
def test_values_of_many_inputs_come_in_chunks_and_errors_end_them():
    many = suite("f", inputs=[(n,) for n in range(150)])
    assert values(many, "def f(n):\n    return n * n\n", 0, False) == [n * n for n in range(150)]
    assert values(many, "def f(n):\n    return 1 // (n - 140)\n", 0, False).startswith("error: ZeroDivisionError")
    assert values(many, "def f(n):\n    return f\n", 0, False).startswith("error: TypeError")
    assert values(many, "import os\ndef f(n):\n    os._exit(0)\n", 0, False) == "exit"
    matches = suite("check_str", inputs=[("ab",), ("x",)])
    code = "import re\ndef check_str(text):\n    return re.match('a', text)\n"
    assert values(matches, code, 0, False) == [True, False]


@needs_sandbox
def test_a_reference_that_does_not_run_is_an_error_of_the_data():
    broken = Problem("Own/0", "instruct", "", {"base": suite("f", inputs=[(1,)], reference="def g(): pass")})
    with pytest.raises(
        RequestError, match="the reference solution of Own/0 does not run on its inputs: error: NameError"
    ):
        Grader()(broken, "", "def f(n): return n")


def test_exact_match_runs_nothing():
    problem = Problem("a", "infill", "x = (", {"exact": Exact("1 + 2\n")}, suffix=")")
    assert Grader()(problem, " 1 + 2", "").passed
    assert Grader()(problem, "1 + 3", "").why == "wrong"


@given(st.integers(1, 12), st.data())
def test_pass_at_k_is_the_mean_over_all_choices(count, data):
    passed, k = data.draw(st.integers(0, count)), data.draw(st.integers(1, count))
    samples = [n < passed for n in range(count)]
    over_all = statistics.fmean(any(choice) for choice in itertools.combinations(samples, k))
    assert pass_at_k(count, passed, k) == pytest.approx(over_all)


def test_pass_at_k_needs_k_samples():
    with pytest.raises(RequestError, match="pass@10 needs at least 10 samples a problem, and there are 4"):
        pass_at_k(4, 2, 10)
    with pytest.raises(RequestError, match="at least 1, not 0"):
        pass_at_k(4, 2, 0)


def test_intervals():
    share = bootstrap([1.0] * 30 + [0.0] * 70)
    assert share.mean == pytest.approx(0.3)
    assert share.low == pytest.approx(0.21, abs=0.015)  # 1.96 standard errors are 0.09
    assert share.high == pytest.approx(0.39, abs=0.015)
    assert bootstrap([1.0] * 5).low == 1.0


def test_pairs_see_what_two_intervals_cannot():
    a = [0.0] * 50 + [1.0] * 50
    b = [0.0] * 40 + [1.0] * 60
    found = paired_bootstrap(a, b)
    assert (found.mean, found.a_better, found.b_better, found.same) == (pytest.approx(0.1), 0, 10, 90)
    assert found.low > 0
    assert found.p < 0.01
    turned = paired_bootstrap(b, a)
    assert (turned.mean, turned.high) == (pytest.approx(-0.1), pytest.approx(-found.low))
    same = paired_bootstrap(a, a)
    assert (same.mean, same.p) == (0.0, 1.0)
    with pytest.raises(ValueError):
        paired_bootstrap([1.0], [])


def test_prompts_are_those_of_the_paper():
    complete = Problem("a", "complete", "def f(x):\n    '''Do.'''\n", {})
    assert (
        chat_prompt(complete).prompt == "Please complete the following problem:\n```\ndef f(x):\n    '''Do.'''\n```\n"
    )
    assert chat_prompt(complete).answer == "Here is the code to solve this problem:\n```python\n"
    words = Problem("a", "instruct", '"""\nWrite f.\n"""\n', {})
    assert chat_prompt(words).prompt == '```\n"""\nWrite f.\n"""\n```\n'


def test_code_of_answers():
    answer = "import re\n\n\n@cache\ndef f(x):\n    return x\n\n\nprint(f(1))\nassert f(1)\nLIMIT = 3\n"
    assert definitions(answer) == "import re\n@cache\ndef f(x):\n    return x\nLIMIT = 3\n"
    assert definitions("def f(x):\n    return x\ndef g(:\n    ...") == "def f(x):\n    return x\n"
    assert definitions("not code at all") == "not code at all"
    complete = Problem("a", "complete", "def f(x):\n", {}, stops=("\ndef ", "\nprint"))
    assert program(complete, "    return x\n\ndef g():\n    pass\n", False) == "def f(x):\n    return x\n"
    assert program(complete, "    y = x\n    return (y\n", False) == "def f(x):\n    y = x\n"
    hole = Problem("a", "infill", "x = [", {}, suffix="]\n")
    assert program(hole, "1, 2", True) == "x = [1, 2]\n"


def test_echoes_of_the_suffix():
    suffix = "\n    return total\n"
    assert echoes("    total = 1\n    return total", suffix)
    assert echoes("    total = 1\n\n  return total\n", suffix)
    assert not echoes("    total = 1", suffix)
    assert not echoes("    return total\n    x = 1", suffix)
    assert not echoes("x(\n)", ")\n")  # too short to be one
    assert not echoes("", suffix)
    assert not echoes("x", "")
