"""Tasks as a model is asked them: tokens before what is to be written, tokens after it, and how many are masked.

A task in words asks for an answer after its prompt. A mined task asks for an infill: the function's body is the hole,
and the code on both sides is given, as an editor gives it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import RequestError
from training.conversations import Exchange, lay_out
from training.corpus.chat_tasks import ChatTask, acecode, mbpp
from training.corpus.store import replacing
from training.corpus.tasks import Task, folder_places, mine, read_tasks, write_tasks
from training.errors import TrainingError
from training.grpo.recipe import GrpoRecipe, Tasks
from training.mixture import hash_seed
from training.noisy import TokenIds

AnyTask = Task | ChatTask


@dataclass(frozen=True)
class Problem:
    """A task laid out: `length` masks between the tokens `before` and `after`."""

    task: AnyTask
    before: list[int]
    after: list[int]
    length: int

    @property
    def infill(self) -> bool:
        """Whether a hole is filled; else an answer is written."""
        return isinstance(self.task, Task)


def load_tasks(path: Path, selection: str, out: Path, unsafe: bool) -> list[AnyTask]:
    """The tasks of a file, by what its first line holds, or of a folder, mined once into `out`/tasks.jsonl.

    RequestError with one sentence where there is no such file, or no task in it.
    """
    found: list[AnyTask] = []
    if path.is_dir():
        kept = out / "tasks.jsonl"
        if not kept.is_file():
            mined, counts = mine(folder_places(path), unsafe=unsafe)
            if not mined:
                told = ", ".join(f"{count} {why}" for why, count in sorted(counts.items())) or "no function has any"
                raise RequestError(f"no tasks were found in {path}: functions with two examples or tests ({told})")
            out.mkdir(parents=True, exist_ok=True)
            write_tasks(kept, mined)
        found = list(read_tasks(kept))
    elif not path.is_file():
        raise RequestError(f"there are no tasks at {path}: diffill train tasks mines some")
    elif path.suffix == ".parquet":
        found = list(acecode(path, "paper" if selection == "paper" else "repo"))
    else:
        found = of_lines(path, selection)
    if not found:
        raise RequestError(f"{path} holds no tasks")
    return found


def of_lines(path: Path, selection: str) -> list[AnyTask]:
    """The tasks of a jsonl file: mined ones, MBPP's or AceCode's."""
    try:
        line = next((line for line in path.read_text("utf-8").splitlines() if line.strip()), "")
        first = json.loads(line) if line else {}
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}, line 1 is no task: {error}") from error
    keys = set(first) if isinstance(first, dict) else set()
    if not line:
        return []
    if {"prefix", "suffix", "tests"} <= keys:
        return list(read_tasks(path))
    if "test_list" in keys:
        return list(mbpp(path))
    if {"inferences", "test_cases"} <= keys:
        return list(acecode(path, "paper" if selection == "paper" else "repo"))
    told = ", ".join(sorted(keys)) or "no fields"
    raise RequestError(f"{path}, line 1 is no task: it has {told}; mined tasks, MBPP and AceCode are known")


def split(tasks: Sequence[AnyTask], held_out: float, seed: int) -> tuple[list[AnyTask], list[AnyTask]]:
    """Tasks to train on and held-out ones: as mined tasks say themselves, else a share drawn from the seed.

    A problem and its rephrased double (ID/function) stay together.
    """
    if any(isinstance(task, Task) and task.split == "held_out" for task in tasks):
        told = [isinstance(task, Task) and task.split == "held_out" for task in tasks]
    else:
        limit = int(held_out * 2**63)
        told = [hash_seed(seed, "held out", task.id.removesuffix("/function")) < limit for task in tasks]
    return (
        [task for task, held in zip(tasks, told, strict=True) if not held],
        [task for task, held in zip(tasks, told, strict=True) if held],
    )


def narrowed(task: Task, seed: int) -> Task:
    """The task with a run of its body's lines as the hole, as an editor leaves one; every length is equally likely."""
    lines = task.body.split("\n")
    full = [number for number, line in enumerate(lines) if line.strip()]
    rng = np.random.default_rng(hash_seed(seed, "hole", task.id))
    count = int(rng.integers(1, len(full) + 1))
    first = int(rng.integers(0, len(full) - count + 1))
    start, end = full[first], full[first + count - 1] + 1
    before = "".join(f"{line}\n" for line in lines[:start])
    after = "".join(f"\n{line}" for line in lines[end:])
    body = "\n".join(lines[start:end])
    return replace(task, prefix=task.prefix + before, body=body, suffix=after + task.suffix)


def lay_out_tasks(
    tasks: Sequence[AnyTask],
    tokenizer: TextTokenizer,
    ids: TokenIds,
    settings: Tasks,
    answer_tokens: int,
    seed: int = 0,
) -> tuple[list[Problem], Counter[str]]:
    """The problems, and how many tasks were left out for what reason."""
    problems: list[Problem] = []
    dropped: Counter[str] = Counter()
    for task in tasks:
        if isinstance(task, Task):
            chosen = narrowed(task, seed) if settings.hole == "lines" else task
            problems.append(of_hole(chosen, tokenizer, ids, settings))
            continue
        start = [] if ids.bos is None else [ids.bos]
        before = start + lay_out(Exchange(task.prompt, ""), tokenizer, settings.system).prompt
        if len(before) > settings.prompt_tokens:
            dropped[f"prompts of more than {settings.prompt_tokens} tokens"] += 1
        else:
            problems.append(Problem(task, before, [], answer_tokens))
    return problems, dropped


def of_hole(task: Task, tokenizer: TextTokenizer, ids: TokenIds, settings: Tasks) -> Problem:
    """A mined task as a hole between what `context_tokens` leave of the file; three quarters of them before it."""
    prefix, suffix = tokenizer.encode(task.prefix), tokenizer.encode(task.suffix)
    room = settings.context_tokens - 1
    after = suffix[: max(room // 4, room - len(prefix))]
    before = prefix[max(0, len(prefix) - (room - len(after))) :]
    length = settings.hole_tokens or max(1, round(len(tokenizer.encode(task.body)) * (1 + settings.slack)))
    # never empty: with the shift, the first token of a hole is predicted from the one before it
    return Problem(task, [ids.eos if ids.bos is None else ids.bos, *before], after, length)


def read_problems(
    recipe: GrpoRecipe, tokenizer: TextTokenizer, ids: TokenIds, out: Path, unsafe: bool
) -> tuple[list[Problem], list[Problem], Counter[str]]:
    """The problems of a recipe's tasks to train on, those held out, and what was left out."""
    if recipe.tasks.path is None:
        raise TrainingError("grpo needs tasks: give --tasks PATH, or tasks.path in the recipe")
    tasks = load_tasks(recipe.tasks.path, recipe.tasks.selection, out, unsafe)
    if any(not task.tests for task in tasks):
        raise TrainingError(
            f"{recipe.tasks.path} holds a task without tests: {next(t.id for t in tasks if not t.tests)}"
        )
    parts = [
        lay_out_tasks(some, tokenizer, ids, recipe.tasks, recipe.rollouts.tokens, recipe.seed)
        for some in split(tasks, recipe.tasks.held_out, recipe.seed)
    ]
    (train, dropped), (held, more) = parts
    if not train:
        told = ", ".join(f"{count} {why}" for why, count in dropped.items()) or "all are held out"
        raise TrainingError(f"{recipe.tasks.path} leaves no task to train on: {told}")
    if recipe.objective.compat == "apple" and any(problem.infill for problem in (*train, *held)):
        raise TrainingError("compat apple appends answers to prompts: it cannot fill holes")
    return train, held, dropped + more


def write_used(path: Path, train: Sequence[Problem], held: Sequence[Problem]) -> None:
    """Write which tasks are trained on and which held out, by their ids."""
    with replacing(path) as file:
        named = {"train": [p.task.id for p in train], "held_out": [p.task.id for p in held]}
        file.write((json.dumps(named, ensure_ascii=False) + "\n").encode())
