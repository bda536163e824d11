"""What a model can do on held-out tasks: pass rate with an interval, form, length, and how it decodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object

from training.corpus.store import replacing
from training.evaluation.passk import bootstrap
from training.grpo.grading import Grader
from training.grpo.problems import Problem
from training.grpo.recipe import Measure
from training.grpo.rollouts import Decoder
from training.jsonl import read_jsonl
from training.mixture import hash_seed
from training.run import Run

RESAMPLES = 2000  # fewer than at the end of an evaluation: training waits
NAMES = ("pass", "tests", "form", "length", "arness_local", "arness_global")


def measure(
    run: Run, held: Sequence[Problem], decoder: Decoder, grader: Grader, settings: Measure, micro: int, seed: int
) -> dict[str, float]:
    """The figures of all held-out problems, the same on every process; their samples are written to the run's folder.

    The seeds do not depend on the step: two measurements differ by the model alone.
    """
    records = samples(run, held, decoder, grader, settings, micro, seed)
    if run.main:
        with replacing(run.folder / f"held-{run.progress.step:06d}.jsonl") as file:
            file.writelines((json.dumps(record, ensure_ascii=False) + "\n").encode() for record in records)
    return summary(records, seed)


def samples(
    run: Run, held: Sequence[Problem], decoder: Decoder, grader: Grader, settings: Measure, micro: int, seed: int
) -> list[dict[str, Any]]:
    """A record of each sample, in the order of the problems, gathered from all processes."""
    at_temperature = replace(decoder, settings=replace(decoder.settings, temperature=settings.temperature))
    rows = [problem for problem in held for _ in range(settings.samples)]
    chunks = [range(first, min(first + micro, len(rows))) for first in range(0, len(rows), micro)]
    accelerator = run.accelerator
    processes, own = accelerator.num_processes, accelerator.process_index
    rounds = -(-len(chunks) // processes)
    found: list[tuple[int, dict[str, Any]]] = []
    run.model.eval()
    model = accelerator.unwrap_model(run.model)
    for number in range(rounds):
        # a process without a chunk repeats the last: sharded models need all of them at every forward
        mine = min(number * processes + own, len(chunks) - 1)
        chunk = chunks[mine]
        with accelerator.autocast():
            some = at_temperature(
                model, [rows[n] for n in chunk], chunk, hash_seed(seed, "measure", mine), accelerator.device
            )
        if number * processes + own >= len(chunks):
            continue
        for at, rollout, reward in zip(chunk, some, grader(some), strict=True):
            told = {"id": rollout.problem.task.id, "text": rollout.text}
            values = {"pass": float(reward.tests == 1), "tests": reward.tests, "form": reward.form}
            found.append((at, told | values | rollout.figures()))
    run.model.train()
    if processes > 1:
        found = gather_object(found)
    return [record for _, record in sorted(found, key=lambda pair: pair[0])]


def summary(records: Sequence[dict[str, Any]], seed: int) -> dict[str, float]:
    """The means over tasks, and of the pass rate the 95 % interval by resampling tasks."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_task.setdefault(record["id"], []).append(record)
    found: dict[str, float] = {}
    for name in NAMES:
        known = [[r[name] for r in some if r[name] is not None] for some in by_task.values()]
        means = [float(np.mean(values)) for values in known if values]
        if means:
            found[name] = float(np.mean(means))
        if name == "pass":
            share = bootstrap(means, seed, RESAMPLES)
            found["pass_low"], found["pass_high"] = share.low, share.high
    return found


def read_samples(path: Path) -> list[dict[str, Any]]:
    """The records that a measurement wrote."""
    return read_jsonl(path)
