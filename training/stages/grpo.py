"""Stage grpo: reinforcement by the tests that a model's own completions pass (coupled-GRPO, DiffuCoder stage 4).

A generation: groups of completions of some problems, graded in sandboxes, and a few optimizer steps on them, each with
masks of its own. Checkpoints lie between generations, so a run that goes on needs no rollouts of before.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_runtime.models.dream import DreamModel
from training import parallel
from training.errors import TrainingError, memory_told
from training.grpo.curves import draw_rewards
from training.grpo.grading import Grader, Known
from training.grpo.measure import measure
from training.grpo.problems import Problem, read_problems, write_used
from training.grpo.recipe import GrpoRecipe
from training.grpo.reference import Reference
from training.grpo.rollouts import Decoder, Rollout
from training.grpo.update import Updater, make_micros
from training.logs import Logs
from training.mixture import hash_seed, shuffled
from training.models import CHAT_PAD, TURN_END, Files, token_ids
from training.objectives.coupled import leave_one_out_advantages
from training.recipe import as_plain, git_commit, save_resolved
from training.rewards.pool import RewardPool
from training.run import STOPPED, Run
from training.stages import sft
from training.stages.stage import digest, parameters, text_tokenizer
from training.trainer import OnStep, agree, due


def run_grpo(
    recipe: GrpoRecipe,
    out: Path,
    device: str | None = None,
    unsafe: bool = False,
    on_step: OnStep | None = None,
    known: Known | None = None,
) -> int:
    """Run the stage in `out`, or go on with it exactly; the exit code: 0, or 143 if a signal stopped it.

    `unsafe` runs candidates without a sandbox. `on_step` is called with each step's record on every process. `known`:
    rewards of earlier runs on the same tasks.
    """
    with RewardPool(recipe.rewards.workers, unsafe) as pool:
        accelerator = parallel.start_processes(device, recipe.precision)
        check_sizes(recipe, accelerator.num_processes)
        model, files = begin_model(recipe, out)
        ids, tokenizer = token_ids(model, files), text_tokenizer(files)
        assert ids.mask is not None
        with accelerator.main_process_first():
            train, held, dropped = read_problems(recipe, tokenizer, ids, out, unsafe)
        steps = recipe.schedule.steps or max(1, round((recipe.schedule.epochs or 1) * len(train) / recipe.prompts))
        if recipe.schedule.steps is None:
            steps *= recipe.objective.iterations
        path = recipe.tasks.path
        assert path is not None
        data = {"tasks": digest(out / "tasks.jsonl" if path.is_dir() else path)}
        facts = {"commit": git_commit(), "data": data, "steps": steps, "processes": accelerator.num_processes}
        ends = {files.id_of(TURN_END), files.id_of(CHAT_PAD), ids.eos}
        apple = recipe.objective.compat == "apple"
        ends = {files.id_of(TURN_END)} if apple else ends
        decoder = Decoder(
            recipe.rollouts, tokenizer, ids.mask, ids.pad, frozenset(i for i in ends if i is not None), apple
        )
        grader = Grader(pool, recipe.rewards, recipe.tasks.packages, apple, known)
        torch.manual_seed(recipe.seed + accelerator.process_index)  # for dropout alone
        with Run(recipe, accelerator, model, files, out, steps, facts) as run:
            stage = Stage(run, recipe, decoder, grader, train, held, ids.pad, ids.mask)
            return stage.run_all(dropped, on_step)


class Stage:
    """A run of grpo on one process."""

    def __init__(
        self,
        run: Run,
        recipe: GrpoRecipe,
        decoder: Decoder,
        grader: Grader,
        train: Sequence[Problem],
        held: Sequence[Problem],
        pad: int,
        mask: int,
    ):
        self.run, self.recipe, self.decoder, self.grader = run, recipe, decoder, grader
        self.train, self.pad = train, pad
        most = recipe.measure.tasks
        self.held = [held[n * len(held) // most] for n in range(most)] if len(held) > most > 0 else held[:most]
        # without a penalty for leaving it nobody asks a reference
        reference = Reference(run.model, recipe.reference) if recipe.objective.beta > 0 else None
        if reference is not None:
            run.companions.append(reference)
        self.updater = Updater(run, recipe, reference, mask)
        self.micro = recipe.rollouts.micro or recipe.batch.micro

    def run_all(self, dropped: dict[str, int], on_step: OnStep | None) -> int:
        """Restore, train, log; the exit code."""
        run, recipe, out = self.run, self.recipe, self.run.folder
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        resumed = run.restore()
        if run.main:
            if not resumed:
                (out / "log.jsonl").unlink(missing_ok=True)
            save_resolved(out / "recipe.yaml", recipe, run.facts)
            write_used(out / "used.json", self.train, self.held)
        title = f"grpo {parameters(run.plain) / 1e6:.1f} M"
        logs = Logs(out, recipe.logging, run.main, title, run.steps, run.progress.step, as_plain(recipe))
        left_out = "".join(f"; left out: {count} {why}" for why, count in dropped.items())
        logs.say(f"{len(self.train)} tasks to train on, {len(self.held)} held out{left_out}")
        if resumed:
            logs.say(f"going on from step {run.progress.step} of {run.steps}")
        try:
            self.grader.probe(self.train)
            if not resumed:
                self.measure(logs)
            finished = self.loop(logs, on_step)
        finally:
            logs.close()
        if run.main:
            draw_rewards([(recipe.objective.estimator, [out / "log.jsonl"])], out / "curve.svg")
        logs.say(f"{'done' if finished else 'stopped'} at step {run.progress.step}: {run.checkpoints()[-1]}")
        return 0 if finished else STOPPED

    def loop(self, logs: Logs, on_step: OnStep | None) -> bool:
        """Generations until the steps are done or a signal came; False for the latter."""
        run, recipe, progress = self.run, self.recipe, self.run.progress
        iterations = recipe.objective.iterations
        knobs = recipe.batch.micro, recipe.rollouts.tokens, recipe.gradient_checkpointing
        while progress.step < run.steps:
            began = time.perf_counter()
            first = progress.step
            generation = first // iterations
            with memory_told(*knobs):
                rollouts = self.roll_out(generation)
                advantages, told = self.judge(rollouts)
                own = self.own_rows()
                micros = make_micros(
                    rollouts,
                    advantages[own.start : own.stop],
                    recipe.batch.micro,
                    self.pad,
                    run.accelerator.device,
                    even=recipe.objective.compat == "apple",
                )
                told["entropy"] = self.updater.prepare(micros, generation)
                steps = range(first, min(first + iterations, run.steps))
                for _ in steps:
                    record = self.updater.step(micros) | told
                    seconds = time.perf_counter() - began
                    began = time.perf_counter()
                    progress.seconds += seconds
                    record |= {
                        "tokens": progress.tokens,
                        "seconds": round(progress.seconds, 2),
                        "seconds_per_step": round(seconds, 4),
                        "tokens_per_s": round(record.pop("step_tokens") / seconds),
                    }
                    logs.step(record, shown=due(progress.step, recipe.logging.every))
                    if on_step is not None:
                        on_step(record)
            self.watch(told["unequal"])
            stopped = agree(run.stopping, run)
            last = progress.step == run.steps
            done = range(first + 1, progress.step + 1)
            if last or (not stopped and any(due(step, recipe.measure.every) for step in done)):
                self.measure(logs)
            if stopped or last or any(due(step, recipe.checkpoints.every) for step in done):
                run.save()
            if stopped and not last:
                return False
        return True

    def own_rows(self) -> range:
        """The rows of a generation that this process makes and learns from."""
        count = self.recipe.batch.rows // self.run.accelerator.num_processes
        first = self.run.accelerator.process_index * count
        return range(first, first + count)

    def roll_out(self, generation: int) -> list[Rollout]:
        """This process's completions of a generation."""
        recipe, accelerator = self.recipe, self.run.accelerator
        chosen = [self.problem(generation * recipe.prompts + n) for n in range(recipe.prompts)]
        rows = [problem for problem in chosen for _ in range(recipe.rollouts.group)]
        own, found = self.own_rows(), []
        self.run.model.eval()
        model = accelerator.unwrap_model(self.run.model)
        for first in range(own.start, own.stop, self.micro):
            places = range(first, first + self.micro)
            numbers = [generation * len(rows) + place for place in places]
            seed = hash_seed(recipe.seed, "rollouts", generation, first)
            with accelerator.autocast():
                found += self.decoder(model, [rows[p] for p in places], numbers, seed, accelerator.device)
        self.run.model.train()
        return found

    def problem(self, number: int) -> Problem:
        """The problem that the run asks as its n-th: all in a random order, then in another."""
        epoch, index = divmod(number, len(self.train))
        return self.train[shuffled(index, len(self.train), hash_seed(self.recipe.seed, "tasks", epoch))]

    def judge(self, rollouts: Sequence[Rollout]) -> tuple[Tensor, dict[str, Any]]:
        """The advantages [rows] of the whole generation, and figures of its rollouts, on every process."""
        run, recipe = self.run, self.recipe
        rewards = self.grader(rollouts)
        figures = [rollout.figures() for rollout in rollouts]
        columns = [self.grader.total(rewards).tolist()]
        columns += [[float(r.tests == 1) for r in rewards], [r.tests for r in rewards], [r.form for r in rewards]]
        columns += [[f[name] for f in figures] for name in ("length", "arness_local", "arness_global")]
        columns += [[float(r.passes) for r in rollouts]]
        local = torch.tensor([[float("nan") if v is None else v for v in column] for column in columns])
        every = run.accelerator.gather(local.T.contiguous().to(run.accelerator.device)).cpu()
        objective, group = recipe.objective, recipe.rollouts.group
        advantages = leave_one_out_advantages(every[:, 0], group, objective.scale)
        if objective.advantage == "mean":
            advantages = advantages * (group - 1) / group
        spread = every[:, 0].view(-1, group).std(1)
        names = "reward", "pass", "tests", "form", "length", "arness_local", "arness_global", "passes"
        told: dict[str, Any] = {name: float(every[:, n].nanmean()) for n, name in enumerate(names)}
        told = {name: None if value != value else value for name, value in told.items()}
        return advantages, told | {"reward_std": float(spread.mean()), "unequal": float((spread > 1e-6).float().mean())}

    def watch(self, unequal: float) -> None:
        """TrainingError when no group had rewards that differ for as long as the recipe's patience."""
        progress, patience = self.run.progress, self.recipe.rewards.patience
        progress.worse = 0 if unequal > 0 else progress.worse + 1
        if patience and progress.worse >= patience:
            raise TrainingError(
                f"in {patience} generations all completions of a problem got the same reward, so nothing is learned: "
                "take tasks that the model passes sometimes, a higher rollouts.temperature or a larger rollouts.group; "
                + self.run.last_kept()
            )

    def measure(self, logs: Logs) -> None:
        """Measure on the held-out tasks and log it."""
        run, recipe = self.run, self.recipe
        if self.held:
            scores = measure(run, self.held, self.decoder, self.grader, recipe.measure, self.micro, recipe.seed)
            logs.scores(run.progress.step, run.progress.tokens, scores)


def check_sizes(recipe: GrpoRecipe, processes: int) -> None:
    """TrainingError where rows do not divide evenly over processes and chunks."""
    rows = recipe.batch.rows
    for name, micro in (("batch.micro", recipe.batch.micro), ("rollouts.micro", recipe.rollouts.micro)):
        if micro and rows % (micro * processes):
            raise TrainingError(f"batch.rows {rows} is no multiple of {name} {micro} times {processes} processes")


def begin_model(recipe: GrpoRecipe, out: Path) -> tuple[DreamModel, Files]:
    """The model that the run begins with, or goes on with (under adapters, the one that it began with)."""
    kept = sorted((out / "checkpoints").glob("step-????????"))
    source = kept[-1] if kept and recipe.lora is None else recipe.init
    if source is None:
        raise TrainingError("grpo needs init: a model that fills masks, best one that sft has made")
    model, files = sft.prepare(source)
    if files.tokenizer.id_to_token(model.config.mask_token_id) is None:
        raise TrainingError(
            f"the tokenizer of {source} has no token {model.config.mask_token_id}, the mask of its "
            "config.json: they do not belong together; run the stage adapt"
        )
    return model, files
