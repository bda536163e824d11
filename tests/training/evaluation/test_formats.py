"""The formats that benchmarks come in, on problems of our own: what is read, and that their own answers pass."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")

from model_runtime.protocol import RequestError
from training.evaluation.benchmarks import BENCHMARKS, fetch, find_benchmark, read_problems
from training.evaluation.benchmarks.humaneval import assertions
from training.evaluation.benchmarks.mbpp import RESTORED
from training.evaluation.benchmarks.problem import Problem, Program
from training.evaluation.grading import Grade, Grader
from training.evaluation.prompts import gold_program, program
from training.rewards import sandbox

needs_sandbox = pytest.mark.skipif(sandbox.why_not() is not None, reason=str(sandbox.why_not()))
OWN = Path(__file__).parents[3] / "examples/evaluation"
FILES = {
    "humaneval": "humaneval",
    "humaneval+": "humaneval-plus",
    "mbpp": "mbpp",
    "mbpp+": "mbpp-plus",
    "infilling-single-line": "infilling-single-line",
    "infilling-multi-line": "infilling-multi-line",
    "infilling-random-span": "infilling-random-span",
    "infilling-random-span-light": "infilling-random-span",
    "santacoder-fim": "santacoder-fim",
    "bigcodebench-complete": "bigcodebench",
    "bigcodebench-complete-hard": "bigcodebench",
    "bigcodebench-instruct": "bigcodebench",
    "bigcodebench-instruct-hard": "bigcodebench",
}


def problems(name: str) -> list[Problem]:
    return read_problems(find_benchmark(name), OWN / f"{FILES[name]}.jsonl")


def grade(problem: Problem, text: str, chat: bool = False) -> Grade:
    return Grader()(problem, text, program(problem, text, chat))


def test_every_benchmark_has_problems_of_our_own():
    assert set(FILES) | {"tasks", "tasks-line"} == set(BENCHMARKS)


@needs_sandbox
@pytest.mark.parametrize("name", FILES)
def test_own_answers_pass_and_others_do_not(name):
    grader = Grader()
    for problem in problems(name)[:3]:
        assert problem.gold is not None
        assert grader(problem, problem.gold, gold_program(problem) or "").passed
        assert not grade(problem, "    pass\n" if problem.shape != "instruct" else "def nothing():\n    pass\n").passed


@needs_sandbox
def test_chat_answers_are_read_up_to_the_fence():
    first = problems("humaneval")[0]
    body = first.prompt + (first.gold or "")
    assert grade(first, body + "```\nThis uses two comparisons.", chat=True).passed
    assert grade(first, "Sure:\n```python\n" + body + "```", chat=True).passed
    assert grade(first, body + "print(clamp(1, 2, 3))\n```", chat=True).passed
    assert not grade(first, "def clamp(value, low, high):\n    return value\n```", chat=True).passed


@needs_sandbox
def test_plus_tests_fail_what_base_tests_let_pass():
    problem = problems("humaneval+")[4]
    almost = "    return items != [2, 1]\n"
    assert grade(problem, almost).suites == {"base": True, "plus": False}


@needs_sandbox
def test_bigcodebench_runs_unittest_with_patches_and_says_what_failed():
    problem = problems("bigcodebench-complete")[1]
    wrong = grade(problem, '    return ",".join(sorted(json.loads(text)))\n')
    assert not wrong.passed
    assert "AssertionError" in wrong.why


def test_humaneval_checks_become_assertions_whose_answers_stay_outside():
    check = "def check(candidate):\n    assert candidate([1]) == [2]\n    assert True\n"
    check += "    assert abs(candidate(0.5) - 1) < 1e-6\n"
    found = assertions(check, "twice")
    assert [(test.source, test.compare, test.expected) for test in found] == [
        ("twice([1])", "==", [2]),
        ("abs(twice(0.5) - 1)", "<", 1e-6),
    ]
    loop = "def check(candidate):\n    for n in range(3):\n        assert candidate(n) == n\n"
    assert assertions(loop, "same") == ()


@needs_sandbox
def test_checks_with_loops_run_as_they_are():
    record = json.loads((OWN / "humaneval.jsonl").read_text().splitlines()[0])
    record["test"] = "def check(candidate):\n    for n in range(3):\n        assert candidate(n, 1, 2) == max(1, n)\n"
    problem = find_benchmark("humaneval").read(record, "here")
    assert isinstance(problem.suites["base"], Program)
    assert grade(problem, record["canonical_solution"]).passed
    assert not grade(problem, "    return value\n").passed


@needs_sandbox
def test_the_hubs_form_of_evalplus():
    """There `test` holds the inputs of both suites; MBPP+ also has `code` and `test_list`."""
    base = json.loads((OWN / "humaneval.jsonl").read_text().splitlines()[2])
    loop = (
        "import numpy as np\n\n\ndef check(candidate):\n"
        "    inputs = [[[1, 2]], [[0.5]]]\n    results = [[1, 3], [0.5]]\n"
        "    for arguments, expected in zip(inputs, results):\n"
        "        assert np.allclose(candidate(*arguments), expected)\n"
    )
    problem = find_benchmark("humaneval+").read(base | {"test": loop}, "here")
    assert grade(problem, base["canonical_solution"]).passed
    assert not grade(problem, "    return numbers\n").passed
    row = json.loads((OWN / "mbpp.jsonl").read_text().splitlines()[1])
    row |= {
        "prompt": row.pop("text"),
        "test_imports": ["import math"],
        "test": f"{row['test_list'][0]}\nassert math.pi\n",
    }
    problem = find_benchmark("mbpp+").read(row | {"test": "import math\n" + row["test"]}, "here")
    assert set(problem.suites) == {"base", "plus"}
    assert grade(problem, row["code"]).passed


def test_inputs_that_json_cannot_hold_are_restored():
    assert RESTORED[2]([[1, 2], [3]]) == [(1, 2), (3,)]
    assert RESTORED[63]([[[1, 2], [3, 4]]]) == [[(1, 2), (3, 4)]]
    assert RESTORED[115]([[[1, 2], []]]) == [[{1, 2}, {}]]
    assert RESTORED[124](["1.5", "2j"]) == [1.5, 2j]
    assert RESTORED[580]([[1, [2]]]) == ((1, (2,)),)
    assert RESTORED[722]([{"a": [1, 2]}, 3]) == [{"a": (1, 2)}, 3]


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".json", ".parquet"])
def test_other_files_hold_the_same(suffix, tmp_path):
    records = [json.loads(line) for line in (OWN / "santacoder-fim.jsonl").read_text().splitlines()]
    path = tmp_path / f"data{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(records))
    elif suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    else:
        path.write_bytes(gzip.compress((OWN / "santacoder-fim.jsonl").read_bytes()))
    found = read_problems(find_benchmark("santacoder-fim"), path)
    assert [problem.gold for problem in found] == [problem.gold for problem in problems("santacoder-fim")]
    assert [p.language for p in read_problems(find_benchmark("santacoder-fim"), path, ("javascript",))] == [
        "javascript"
    ]


def test_mined_tasks_are_problems_and_held_out_ones_come_first(tmp_path):
    test = {"kind": "display", "source": "double(2)\n", "expected": "4\n", "compare": "==", "before": [], "options": 0}
    task = {"id": "m.double", "module": "m", "function": "double", "split": "train", "tests": [test]}
    task |= {"prefix": "def double(x):\n", "body": "    y = x\n    return x + y", "suffix": "\n", "package": "p"}
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(task | change) + "\n" for change in ({}, {"id": "n", "split": "held_out"})))
    (problem,) = read_problems(find_benchmark("tasks"), path)
    assert (problem.id, problem.shape, problem.gold) == ("n", "infill", task["body"])
    path.write_text(json.dumps(task) + "\n")
    assert [problem.id for problem in read_problems(find_benchmark("tasks"), path)] == ["m.double"]
    (line,) = read_problems(find_benchmark("tasks-line"), path)
    assert line.gold in task["body"].split("\n")
    assert line.prompt + line.gold + line.suffix == problem.prompt + problem.gold + problem.suffix
    assert line.max_lines == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty: it holds no problem"),
        ("{", "cannot be read"),
        ("[1]\n", "record 1 is list, not an object with fields"),
        ('{"task_id": "a"}\n', r"record 1: the field prompt is missing; humaneval has task_id, prompt, entry_point"),
        ('{"prompt": 3, "entry_point": "f", "task_id": "a"}\n', "the field prompt is int, not text"),
    ],
)
def test_files_that_are_not_benchmarks(content, message, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(content)
    with pytest.raises(RequestError, match=message):
        read_problems(find_benchmark("humaneval"), path)


@pytest.mark.parametrize("name", ["infilling-multi-line", "bigcodebench-instruct", "tasks"])
def test_every_field_that_a_format_has_must_be_there(name):
    """One that is not used, too: a record without it is of another kind."""
    benchmark = find_benchmark(name)
    whole = dict.fromkeys(benchmark.fields, "x") | ({"tests": []} if name == "tasks" else {})
    assert benchmark.read(whole, "here").id == "x"
    for field in benchmark.fields:
        with pytest.raises(RequestError, match=f"here: the field {field} is missing"):
            benchmark.read({key: value for key, value in whole.items() if key != field}, "here")


def test_the_file_of_another_benchmark_is_named():
    with pytest.raises(RequestError, match=r"this looks like mbpp$"):
        read_problems(find_benchmark("humaneval"), OWN / "mbpp.jsonl")
    with pytest.raises(RequestError, match=r"this looks like bigcodebench-complete$"):
        read_problems(find_benchmark("mbpp"), OWN / "bigcodebench.jsonl")


def test_other_mistakes_about_data(tmp_path):
    with pytest.raises(RequestError, match=r"no benchmark 'humanevalplus'; did you mean humaneval\+\?"):
        find_benchmark("humanevalplus")
    with pytest.raises(RequestError, match="no benchmark 'xyzzy'; they are humaneval, "):
        find_benchmark("xyzzy")
    with pytest.raises(RequestError, match="there is no file"):
        read_problems(find_benchmark("mbpp"), tmp_path / "absent.jsonl")
    with pytest.raises(RequestError, match=r"has no file that ends in \.jsonl"):
        read_problems(find_benchmark("mbpp"), tmp_path)
    (tmp_path / "table.csv").write_text("a,b\n")
    with pytest.raises(RequestError, match="the formats that benchmarks come in"):
        read_problems(find_benchmark("mbpp"), tmp_path / "table.csv")
    line = (OWN / "mbpp.jsonl").read_text().splitlines()[0]
    (tmp_path / "twice.jsonl").write_text(f"{line}\n{line}\n")
    with pytest.raises(RequestError, match="holds the problem 9001 twice"):
        read_problems(find_benchmark("mbpp"), tmp_path / "twice.jsonl")
    with pytest.raises(RequestError, match="is not downloaded: diffill train tasks makes it"):
        fetch(find_benchmark("tasks"))
