"""Problems in words: AceCode's selection in both readings, and MBPP's format."""

from __future__ import annotations

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from model_runtime.protocol import RequestError
from training.corpus.chat_tasks import acecode, mbpp, rephrased, spread


def row(
    number: int, rates: list[float], question: str = "Add two numbers.", completion: str = "def add(a, b):\n  return a"
):
    answers = [{"model_name": "qwen_coder_2.5", "completion": completion, "pass_rate": rate} for rate in rates]
    answers.append({"model_name": "another", "completion": "x", "pass_rate": 1.0})
    return {
        "id": f"p{number}",
        "question": question,
        "test_cases": [f"assert add({number}, 1) == 2"],
        "inferences": answers,
    }


def test_hard_problems_with_different_answers_are_kept():
    rates = [
        [0.0, 0.0],
        [0.0, 0.2],
        [0.0, 0.4],
        [1.0, 1.0],
        [0.9, 1.0],
        [0.5, 1.0],
        [0.8, 0.9],
        [0.7, 0.9],
        [0.0, 0.1],
        [],
    ]
    means = np.array([np.mean(rate) for rate in rates[:-1]])
    deviations = np.array([np.std(rate) for rate in rates[:-1]])
    for how, percentile in (("repo", 40), ("paper", 60)):
        expected = (means <= np.percentile(means, 20)) & (deviations >= np.percentile(deviations, percentile))
        assert spread(rates, how).tolist() == [*expected.tolist(), False]


def test_the_paper_keeps_fewer_than_the_repository(tmp_path):
    choose = np.random.default_rng(0)
    rows = [row(n, choose.beta(0.5, 1.5, 8).round(2).tolist(), "What do you add?") for n in range(200)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    repo, paper = acecode(tmp_path / "a.parquet", "repo"), acecode(tmp_path / "a.parquet", "paper")
    assert 0 < len(paper) < len(repo) < 40
    assert {task.id for task in paper} < {task.id for task in repo}


def test_prompts_show_one_assertion_and_functions_are_asked_for_again(tmp_path):
    rows = [row(n, [0.5 + n / 20, 0.5 + n / 20 + 0.4 * (n > 3)]) for n in range(9)] + [row(9, [0.0, 0.4])]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(values) + "\n" for values in rows))
    first, again = acecode(tmp_path / "a.jsonl")
    assert first.prompt == "Add two numbers.\nTest cases: assert add(9, 1) == 2"
    assert again.id == "p9/function"
    assert again.prompt == (
        'Please complete the following problem:\n```\ndef add(a, b):\n    """Add two numbers."""\n```\n'
    )
    assert first.tests == again.tests
    assert first.tests[0].source == "add(9, 1)"


@pytest.mark.parametrize(("question", "code"), [("Can you add?", "def f(): pass"), ("Add.", "x = 1"), ("Add.", "")])
def test_others_are_not_rephrased(question, code):
    assert rephrased(question, code) is None


def test_mbpp_problems_are_read(tmp_path):
    values = {"text": "Add.", "code": "", "task_id": 5, "test_list": ["assert add(1, 1) == 2", "assert add(0, 1) == 1"]}
    (tmp_path / "m.jsonl").write_text(json.dumps(values) + "\n")
    (task,) = mbpp(tmp_path / "m.jsonl")
    assert (task.id, task.prompt, len(task.tests)) == ("5", "Add.\nTest cases: assert add(1, 1) == 2", 2)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.parquet", "PAR1", "a.parquet cannot be read"),
        ("a.jsonl", "{", "a.jsonl cannot be read"),
        ("a.jsonl", '{"question": "x"}', "no field inferences; it has question"),
        ("none.jsonl", None, "none.jsonl cannot be read"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=message) as told:
        acecode(tmp_path / name)
    assert "\n" not in str(told.value)
