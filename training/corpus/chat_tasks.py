"""Problems in words with assertions: AceCode's selection as DiffuCoder made it, and MBPP, from local files.

AceCode-87K gives each problem with completions of several models and the share of tests that each passed. There are two
readings of the selection. The repository keeps problems whose mean is at most the 20th percentile of all problems and
whose standard deviation is at least the 40th; the paper says the bottom 20 % and the top 40 % (the 60th percentile).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from model_runtime.protocol import RequestError
from training.jsonl import read_jsonl
from training.rewards.tests import Test, read_test

MODELS = ("qwen_coder_2.5", "llama3_instruct")  # whose completions are counted
EASIEST, PERCENTILES = 20.0, {"repo": 40.0, "paper": 60.0}


@dataclass(frozen=True)
class ChatTask:
    """A problem for a chat model: the prompt, and the tests that an answer is run on."""

    id: str
    prompt: str
    tests: tuple[Test, ...]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a parquet or jsonl file; RequestError with one sentence when it is broken."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_table(path).to_pylist()
        return read_jsonl(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise RequestError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def field(row: Mapping[str, Any], name: str, path: Path) -> Any:
    """A field of a row; RequestError where it is missing."""
    if row.get(name) is None:
        raise RequestError(f"{path}: a row has no field {name}; it has {', '.join(sorted(row))}")
    return row[name]


def spread(rates: Sequence[Sequence[float]], how: Literal["paper", "repo"]) -> np.ndarray:
    """Which problems (N,) are kept: hard ones on which the completions disagree."""
    means_N = np.array([np.mean(rate) if rate else np.nan for rate in rates])
    deviations_N = np.array([np.std(rate) if rate else np.nan for rate in rates])
    if np.isnan(means_N).all():
        return np.zeros(len(rates), dtype=bool)
    easiest = np.nanpercentile(means_N, EASIEST)
    least = np.nanpercentile(deviations_N, PERCENTILES[how])
    return (means_N <= easiest) & (deviations_N >= least)


def rephrased(question: str, code: str) -> str | None:
    """A problem as a function to complete; None where the best completion does not begin with one."""
    first = code.split("\n")[0].rstrip()
    if "you" in question or not first.startswith("def "):
        return None
    quoted = question.strip().replace('"""', "'''")
    return f'Please complete the following problem:\n```\n{first}\n    """{quoted}"""\n```\n'


def acecode(path: Path, how: Literal["paper", "repo"] = "repo") -> list[ChatTask]:
    """The selected problems of an AceCode file, and those rephrased as functions to complete.

    The prompt shows the first assertion, which is among the tests, as in the repository.
    """
    rows = rows_of(path)
    counted = [
        [answer for answer in field(row, "inferences", path) if answer.get("model_name") in MODELS] for row in rows
    ]
    rates = [[float(answer["pass_rate"]) for answer in answers] for answers in counted]
    tasks: list[ChatTask] = []
    for row, answers, kept in zip(rows, counted, spread(rates, how), strict=True):
        if not kept:
            continue
        question, asserts = field(row, "question", path), field(row, "test_cases", path)
        tests = tuple(read_test(source) for source in asserts)
        if not tests:
            continue
        name = str(row.get("id", len(tasks)))
        tasks.append(ChatTask(name, f"{question}\nTest cases: {asserts[0]}", tests))
        best = max(answers, key=lambda answer: float(answer["pass_rate"]))
        again = rephrased(question, str(best.get("completion", "")))
        if again is not None:
            tasks.append(ChatTask(f"{name}/function", again, tests))
    return tasks


def mbpp(path: Path) -> list[ChatTask]:
    """The problems of an MBPP file; the prompt shows the first assertion, which names the function."""
    tasks = []
    for row in rows_of(path):
        asserts = field(row, "test_list", path)
        if not asserts:
            raise RequestError(f"{path}: the problem {row.get('task_id')} has no tests")
        prompt = f"{field(row, 'text', path)}\nTest cases: {asserts[0]}"
        tasks.append(ChatTask(str(field(row, "task_id", path)), prompt, tuple(map(read_test, asserts))))
    return tasks
