"""A run of a benchmark: what was asked for, every sample as a line of jsonl, and going on where it was killed.

A run folder holds `run.json` (the settings and where they ran), `samples.jsonl` and, once all is there, `summary.json`.
Samples are made in batches whose members and seeds depend on the settings alone, and a run that goes on drops what is
behind the last whole batch and makes it again. So being killed changes nothing but the times.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from model_runtime.protocol import RequestError
from training.corpus.clean import parse
from training.corpus.store import NO_SPACE, write_json
from training.evaluation.benchmarks.problem import Problem
from training.evaluation.decoders import Decoder, Written
from training.evaluation.echoes import echoes
from training.evaluation.grading import Grade, Grader
from training.evaluation.prompts import gold_program, program
from training.rewards.pool import RewardPool

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What decides a run's samples. `data` and `weights` are fingerprints; `batch` is part of it, because draws are."""

    benchmark: str
    data: str
    problems: int
    model: str
    weights: str
    decoder: str
    chat: bool
    length: str
    temperatures: tuple[float, ...]
    seeds: tuple[int, ...]
    samples: int
    max_new_tokens: int
    steps: int | None
    alg: str
    top_p: float | None
    batch: int


@dataclass(frozen=True)
class Batch:
    """Samples that are made together: their problems, and of each the number of the sample."""

    number: int
    temperature: float
    seed: int
    members: tuple[tuple[Problem, int], ...]


def batches(plan: Plan, problems: Sequence[Problem]) -> Iterator[Batch]:
    """All batches of a plan in their order; none spans two temperatures or seeds."""
    number = 0
    for temperature, seed in itertools.product(plan.temperatures, plan.seeds):
        members = [(problem, sample) for problem in problems for sample in range(plan.samples)]
        for start in range(0, len(members), plan.batch):
            yield Batch(number, temperature, seed, tuple(members[start : start + plan.batch]))
            number += 1


def run(
    plan: Plan,
    problems: Sequence[Problem],
    decoder: Decoder,
    pool: RewardPool,
    folder: Path,
    about: Row,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Row]:
    """All samples of the plan, those from `folder` and the rest made now; RequestError with one sentence.

    `about` says where this ran and is not compared. `progress` hears how many samples there are, and of how many.
    """
    begin(plan, folder, about)
    decoder.check(problems)
    whole, grader = list(batches(plan, problems)), Grader()
    total = sum(len(batch.members) for batch in whole)
    with samples_file(folder / "samples.jsonl") as file:
        rows, done = kept_rows(file, whole)
        progress(len(rows), total)
        waiting: tuple[Batch, list[Written], list[Future[Grade]]] | None = None
        for batch in [*whole[done:], None]:
            made = None
            if batch is not None:  # graded while the next batch is written
                made = written_batch(batch, plan, decoder, pool, grader)
            if waiting is not None:
                found = rows_of(*waiting, decoder, plan.chat)
                append(file, found)
                rows += found
                progress(len(rows), total)
            waiting = made
    return rows


def written_batch(
    batch: Batch, plan: Plan, decoder: Decoder, pool: RewardPool, grader: Grader
) -> tuple[Batch, list[Written], list[Future[Grade]]]:
    """Write a batch and hand it to the sandboxes."""
    problems = [problem for problem, _ in batch.members]
    written = decoder.write(problems, batch.temperature, f"{batch.seed}/{batch.temperature}/{batch.number}")
    graded = [
        pool.submit(grader, problem, sample.text, program(problem, sample.text, plan.chat))
        for problem, sample in zip(problems, written, strict=True)
    ]
    return batch, written, graded


def rows_of(
    batch: Batch, written: Sequence[Written], graded: Sequence[Future[Grade]], decoder: Decoder, chat: bool
) -> list[Row]:
    """What is recorded of each sample of a batch."""
    rows = []
    for (problem, number), sample, future in zip(batch.members, written, graded, strict=True):
        grade = future.result()
        row: Row = {"task_id": problem.id, "temperature": batch.temperature, "seed": batch.seed, "sample": number}
        row |= {"batch": batch.number, "passed": grade.passed, "suites": grade.suites, "why": grade.why}
        row |= {"text": sample.text, "tokens": sample.tokens, "ms": round(sample.ms, 2)}
        row |= {"parses": parse(program(problem, sample.text, chat)) is not None}
        if problem.shape == "infill" and problem.gold is not None:
            row |= {"exact": sample.text.strip() == problem.gold.strip()}
            row |= {"gap": sample.tokens - len(decoder.tokenizer.encode(problem.gold))}
            row |= {"echo": echoes(sample.text, problem.suffix) and not echoes(problem.gold, problem.suffix)}
        rows.append(row | {"order": sample.order, "steps": sample.steps})
    return rows


def begin(plan: Plan, folder: Path, about: Row) -> None:
    """Write run.json, or make sure that the one that is there asks for the same."""
    path, wanted = folder / "run.json", json.loads(json.dumps(asdict(plan)))
    if path.is_file():
        known = read_json(path).get("plan", {})
        differing = [name for name, value in wanted.items() if known.get(name) != value]
        if differing:
            name = differing[0]
            raise RequestError(
                f"{folder} holds a run with another {name} ({known.get(name)!r}, not {wanted[name]!r}): "
                "give another --out, or the settings it was begun with"
            )
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{folder} cannot be made: {error.strerror or error}") from error
    write_json(path, {"plan": wanted, "about": about})


def read_json(path: Path) -> Row:
    """A JSON object of a run; RequestError where it is none."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RequestError(f"{path.parent} is no run of diffill eval: it has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise RequestError(f"{path} is not a JSON object")
    return value


@contextlib.contextmanager
def samples_file(path: Path) -> Iterator[IO[bytes]]:
    """The file of samples, for this process alone; RequestError when the disk is full."""
    try:
        with path.open("a+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RequestError(f"another process is writing {path}: wait for it, or give another --out") from None
            yield file  # type: ignore[misc]
    except OSError as error:
        if error.errno in NO_SPACE:
            raise RequestError(
                f"no space is left for {path}: free some and give the same command again, it goes on from there"
            ) from error
        raise RequestError(f"{path} cannot be written: {error.strerror or error}") from error


def append(file: IO[bytes], rows: Sequence[Row]) -> None:
    """Add rows and bring them to the disk."""
    raw = b"".join((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass") for row in rows)
    while raw:
        raw = raw[file.write(raw) :]
    os.fsync(file.fileno())


def kept_rows(file: IO[bytes], whole: Sequence[Batch]) -> tuple[list[Row], int]:
    """The rows of the whole batches in a file and how many batches that are; what is behind them is cut off."""
    file.seek(0)
    lines = file.read().split(b"\n")[:-1]
    rows: list[Row] = []
    done = at = 0
    for batch in whole:
        part = lines[len(rows) : len(rows) + len(batch.members)]
        try:
            found = [json.loads(line) for line in part]
        except ValueError:
            break
        if len(found) < len(batch.members):
            break
        names = [(row.get("task_id"), row.get("sample"), row.get("batch")) for row in found if isinstance(row, dict)]
        if names != [(problem.id, sample, batch.number) for problem, sample in batch.members]:
            raise RequestError(f"{file.name} holds samples that this run does not ask for: give another --out")
        rows += found
        done, at = done + 1, at + sum(len(line) + 1 for line in part)
    file.truncate(at)
    return rows, done


def grade_gold(problems: Sequence[Problem], pool: RewardPool, path: Path) -> dict[str, bool]:
    """Whether the benchmark's own answers pass here, by problem: what no model can exceed. Kept in `path`."""
    return grade_texts({problem.id: problem.gold for problem in problems}, problems, pool, path)


def grade_nothing(problems: Sequence[Problem], pool: RewardPool, path: Path) -> dict[str, bool]:
    """Whether a hole passes with `pass` in it, by problem: what is reached without knowing anything. Kept in `path`."""
    texts = {p.id: idle(p.gold) for p in problems if p.shape == "infill" and p.gold is not None}
    return grade_texts(texts, problems, pool, path)


def idle(text: str) -> str:
    """The statement that does nothing, indented and ended as `text` is."""
    indent = text[: len(text) - len(text.lstrip(" \t"))]
    return f"{indent}pass" + "\n" * text.endswith("\n")


def grade_texts(
    texts: Mapping[str, str | None], problems: Sequence[Problem], pool: RewardPool, path: Path
) -> dict[str, bool]:
    """Whether these fills or answers pass, by problem; those of None and of no text are left out."""
    wanted = {problem.id: problem for problem in problems if texts.get(problem.id) is not None}
    if path.is_file():
        known = read_json(path)
        if set(known) == set(wanted):
            return known
    grader = Grader()
    futures = {
        name: pool.submit(grader, problem, texts[name] or "", gold_program(replace(problem, gold=texts[name])) or "")
        for name, problem in wanted.items()
    }
    found = {name: future.result().passed for name, future in futures.items()}
    write_json(path, found)
    return found
