"""Benchmarks by name: the format of each, and where its owner keeps the data. No data is part of this repository."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_runtime.protocol import RequestError
from training.evaluation.benchmarks import bigcodebench, humaneval, infilling, mbpp, mined, santacoder
from training.evaluation.benchmarks.problem import Problem, Record, read_records

Read = Callable[[Record, str], Problem]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: how a record becomes a problem, the fields it needs, and (owner/name, files) on the Hub."""

    name: str
    read: Read
    fields: tuple[str, ...]
    hub: tuple[str, str] | None = None


_INFILLING = ("loubnabnl/humaneval_infilling", "data/HumanEval-{}.jsonl")
_BIGCODE = ("bigcode/bigcodebench", "data/v0.1.4-*.parquet")
_BIGCODE_HARD = ("bigcode/bigcodebench-hard", "data/v0.1.4-*.parquet")


def _infilling(name: str, file: str, read: Read) -> Benchmark:
    return Benchmark(f"infilling-{name}", read, infilling.FIELDS, (_INFILLING[0], _INFILLING[1].format(file)))


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("humaneval", humaneval.read_base, humaneval.FIELDS, ("openai/openai_humaneval", "*/test-*.parquet")),
        Benchmark("humaneval+", humaneval.read_plus, humaneval.FIELDS, ("evalplus/humanevalplus", "data/*.parquet")),
        Benchmark("mbpp", mbpp.read_base, mbpp.FIELDS, ("google-research-datasets/mbpp", "full/test-*.parquet")),
        Benchmark("mbpp+", mbpp.read_plus, mbpp.FIELDS, ("evalplus/mbppplus", "data/*.parquet")),
        _infilling("single-line", "SingleLineInfilling", infilling.read_line),
        _infilling("multi-line", "MultiLineInfilling", infilling.read),
        _infilling("random-span", "RandomSpanInfilling", infilling.read),
        _infilling("random-span-light", "RandomSpanInfillingLight", infilling.read),
        Benchmark(
            "santacoder-fim", santacoder.read, santacoder.FIELDS, ("bigcode/santacoder-fim-task", "data/*.parquet")
        ),
        Benchmark("bigcodebench-complete", bigcodebench.read_complete, bigcodebench.FIELDS, _BIGCODE),
        Benchmark("bigcodebench-complete-hard", bigcodebench.read_complete, bigcodebench.FIELDS, _BIGCODE_HARD),
        Benchmark("bigcodebench-instruct", bigcodebench.read_instruct, bigcodebench.FIELDS, _BIGCODE),
        Benchmark("bigcodebench-instruct-hard", bigcodebench.read_instruct, bigcodebench.FIELDS, _BIGCODE_HARD),
        Benchmark("tasks", mined.read, mined.FIELDS),
        Benchmark("tasks-line", mined.read_line, mined.FIELDS),
    )
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name; RequestError that says the nearest one where there is none."""
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    spelled = name.lower().replace("_", "-").removesuffix("plus").rstrip("-") + "+" * name.lower().endswith("plus")
    near = difflib.get_close_matches(spelled, BENCHMARKS, n=1, cutoff=0.4)
    meant = f"; did you mean {near[0]}?" if near else f"; they are {', '.join(BENCHMARKS)}"
    raise RequestError(f"there is no benchmark {name!r}{meant}")


def read_problems(benchmark: Benchmark, path: Path, languages: Sequence[str] = ("python",)) -> list[Problem]:
    """All problems of a file or folder in their order, those of `languages`; RequestError with one sentence.

    Of mined tasks only held-out ones are problems, if any are.
    """
    problems: list[Problem] = []
    for where, record in read_records(path):
        try:
            problems.append(benchmark.read(record, where))
        except RequestError as error:
            raise RequestError(f"{error}{_other_format(benchmark, where, record)}") from None
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise RequestError(f"{path} holds the problem {problem.id} twice")
        seen.add(problem.id)
    chosen = [problem for problem in problems if problem.language in languages]
    if not chosen:
        raise RequestError(f"{path} holds no problem in {' or '.join(languages)}")
    held_out = [problem for problem in chosen if problem.split == "held_out"]
    return held_out or chosen


def _other_format(benchmark: Benchmark, where: str, record: Record) -> str:
    """What to add to an error: the fields that the format has, and another benchmark that can read the record."""
    for other in BENCHMARKS.values():
        if other.fields != benchmark.fields:
            try:
                other.read(record, where)
            except RequestError:
                continue
            return f"; {benchmark.name} has {', '.join(benchmark.fields)}, and this looks like {other.name}"
    return f"; {benchmark.name} has {', '.join(benchmark.fields)}"


def fetch(benchmark: Benchmark) -> Path:
    """The benchmark's files from its owner's place on the Hub, in the Hub's own cache; RequestError if that fails."""
    if benchmark.hub is None:
        raise RequestError(f"{benchmark.name} is not downloaded: diffill train tasks makes it; give --data")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    owner, pattern = benchmark.hub
    try:
        folder = Path(snapshot_download(owner, repo_type="dataset", allow_patterns=[pattern]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RequestError(f"{owner} could not be downloaded ({reason}); give a local copy with --data") from error
    if not any(folder.glob(pattern)):
        raise RequestError(f"{owner} has no files {pattern} any more; give a local copy with --data")
    return folder


def fingerprint(path: Path) -> str:
    """SHA-256 of the data, by which results of the same benchmark are known to be comparable."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()
