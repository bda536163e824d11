"""The steps of a corpus as datatrove pipelines, on this machine, Slurm or Ray: the same functions, the same bytes.

Every machine must see the folder of the corpus and the inputs under the same path. datatrove keeps which tasks are
done, so that the command given again starts only what is missing; the files of a killed task are whole or not there.
"""

from __future__ import annotations

import json
import pickle
import subprocess
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger
from rich.console import Console

from model_runtime.protocol import RequestError
from training.corpus import pipeline
from training.corpus.inputs import Inputs
from training.corpus.judge import judge_task
from training.corpus.recipe import Recipe
from training.corpus.store import replacing
from training.corpus.tokenizer import load_tokenizer


class Step(PipelineStep):
    """One step of a corpus. What it works on lies in the folder `out`; nothing flows from step to step in memory."""

    type = "corpus"

    def __init__(self, recipe: Recipe, out: Path):
        super().__init__()
        self.recipe, self.out = recipe, out

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Any:
        """Does the share of task `rank` of `world_size`."""
        with self.track_time():
            self.work(rank, world_size)
        return ()

    def work(self, rank: int, world_size: int) -> None:
        """What a step does."""
        raise NotImplementedError


class Judge(Step):
    """Reads and judges the inputs."""

    name = "read and judge"

    def work(self, rank: int, world_size: int) -> None:
        inputs, held_out = read_plan(self.out)
        for number in range(rank, len(inputs.tasks), world_size):
            stem = pipeline.stem_of(self.out, number)
            if not stem.with_suffix(".json").is_file():
                judge_task(self.recipe, inputs.tasks[number], stem, held_out)
                self.stat_update("pieces")


class Choose(Step):
    """Takes copies out, orders the documents, and makes the tokenizer."""

    name = "choose"

    def work(self, rank: int, world_size: int) -> None:
        chosen = pipeline.choose(self.recipe, self.out, len(read_plan(self.out)[0].tasks))
        pipeline.make_tokenizer(self.recipe, self.out, chosen, Console(stderr=True))


class Encode(Step):
    """Writes the shards of tokens."""

    name = "encode"

    def work(self, rank: int, world_size: int) -> None:
        shards = read_chosen(self.out)["shards"]
        for job in pipeline.shard_jobs(self.out, shards):
            if job[1] % world_size == rank:
                pipeline.pack_shard(*job)
                self.stat_update("shards")


class Index(Step):
    """Writes the index and the report."""

    name = "index"

    def work(self, rank: int, world_size: int) -> None:
        left_out = read_plan(self.out)[0].left_out
        tokenizer = load_tokenizer(self.out / "tokenizer.json")
        pipeline.write_index(self.recipe, self.out, read_chosen(self.out), tokenizer, left_out)


def read_plan(out: Path) -> tuple[Inputs, Any]:
    """The inputs that the submitting process listed, and the runs of words that are held out."""
    return pickle.loads((out / "work" / "inputs.pickle").read_bytes())


def read_chosen(out: Path) -> dict[str, Any]:
    """What the step Choose left."""
    return json.loads((out / "work" / "chosen.json").read_text("utf-8"))


def executor(recipe: Recipe, step: Step, tasks: int, logs: Path, before: Any) -> Any:
    """The datatrove executor of one step, which waits for the one `before`."""
    cluster = recipe.cluster
    workers = cluster.workers if cluster.workers > 0 else -1
    if cluster.executor == "local":
        from datatrove.executor.local import LocalPipelineExecutor

        at_once = tasks if workers < 0 else min(workers, tasks)
        return LocalPipelineExecutor([step], tasks=tasks, workers=at_once, logging_dir=str(logs), depends=before)
    common: dict[str, Any] = {"tasks": tasks, "workers": workers, "logging_dir": str(logs), "depends": before}
    common |= {"cpus_per_task": cluster.cpus_per_task, "mem_per_cpu_gb": cluster.mem_per_cpu_gb}
    if cluster.executor == "ray":
        from datatrove.executor.ray import RayPipelineExecutor

        return RayPipelineExecutor([step], **common)
    from datatrove.executor.slurm import SlurmPipelineExecutor

    if not cluster.partition:
        raise RequestError("cluster.partition is needed for slurm")
    return SlurmPipelineExecutor(
        [step],
        time=cluster.time,
        partition=cluster.partition,
        qos=cluster.qos,
        env_command=cluster.setup,
        job_name=f"corpus-{step.name.split()[0]}",
        slurm_logs_folder=str(logs / "slurm"),
        mail_type="NONE",
        **common,
    )


def executors(recipe: Recipe, out: Path, logs: Path) -> list[Any]:
    """The executors of all steps, in order, each waiting for the one before."""
    tasks = recipe.cluster.tasks
    chain: list[Any] = []
    for step, count in ((Judge, tasks), (Choose, 1), (Encode, tasks), (Index, 1)):
        before = chain[-1] if chain else None
        chain.append(executor(recipe, step(recipe, out), count, logs / step.__name__.lower(), before))
    return chain


def build_on_cluster(recipe: Recipe, out: Path, quiet: bool = True) -> dict[str, Any] | None:
    """Runs or queues the steps; the report where they ran here, None where they were queued."""
    out = out.resolve()
    inputs, held_out, made_of = pipeline.plan(recipe)
    if not pipeline.start(out, made_of):
        with replacing(out / "work" / "inputs.pickle") as file:
            pickle.dump((inputs, held_out), file)
        if quiet:
            logger.remove()
        # the logs say which tasks are done: those of another recipe or of a removed corpus say nothing of this one
        logs = (recipe.cluster.logs or out / "logs").resolve() / made_of
        chain = executors(recipe, out, logs)
        for number in range(len(chain)) if recipe.cluster.executor == "local" else (len(chain) - 1,):
            try:
                chain[number].run()  # the last one of a queue launches those that it waits for
            except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
                raise RequestError(f"the step {chain[number].pipeline[0].name} failed: {error}") from error
    if recipe.cluster.executor == "slurm" and not (out / "report.json").is_file():
        return None
    return json.loads((out / "report.json").read_text("utf-8"))
