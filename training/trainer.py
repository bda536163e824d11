"""The training loop of base, adapt, midtrain and sft: micro-batches in, checkpoints, logs and scores out.

A step's loss is one quotient over all micro-batches and processes: the divisor is known from the masks before the
first forward, so accumulation and the number of processes change nothing but the order of sums.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training import parallel
from training.data import batches
from training.errors import TrainingError, memory_told
from training.logs import Logs
from training.mixture import hash_seed
from training.noisy import Batch, NoisyBatches
from training.objectives.annealing import annealed_mask, opened_share
from training.objectives.masked import (
    Normalise,
    Weight,
    normaliser,
    predicting_rows,
    token_weights,
)
from training.run import Run
from training.scoring import Scorer

OnStep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Objective:
    """The loss of a stage: how tokens weigh, what a row sees, and from which row a token is predicted."""

    weight: Weight
    normalise: Normalise
    causal: bool = False
    anneal_steps: int = 0
    seed: int = 0
    shift: bool = True

    def opened(self, step: int) -> float:
        """The share of attention to later tokens that is open at a step."""
        return 0.0 if self.causal else opened_share(step, self.anneal_steps)

    def visible(self, batch: Batch, step: int) -> Tensor | None:
        """Which key each row sees, boolean [B or 1, 1, L, L]; None: all."""
        length, device = batch.noisy_BL.shape[1], batch.noisy_BL.device
        visible_LL = annealed_mask(length, self.opened(step), hash_seed(self.seed, "annealing", step), device)
        if bool(batch.present_BL.all()):
            return None if visible_LL is None else visible_LL[None, None]
        present_B1L = batch.present_BL.unsqueeze(1)
        seen_BLL = present_B1L if visible_LL is None else present_B1L & visible_LL
        return (seen_BLL | torch.eye(length, dtype=torch.bool, device=device)).unsqueeze(1)

    def sums(self, model: Any, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Of a micro-batch's cross-entropies (nats): the weighted sum, with its gradient, and the plain sum."""
        masked_BL = batch.masked_BL
        asked_N = predicting_rows(masked_BL, self.shift)
        logits_NV = model(batch.noisy_BL, attention_mask=self.visible(batch, step), rows=asked_N).logits
        scale_B, _ = normaliser(masked_BL, batch.maskable_BL, self.normalise)
        weights_BL = token_weights(masked_BL, batch.t_B, self.weight) * scale_B.unsqueeze(1) * batch.scale_BL
        nats_N = F.cross_entropy(logits_NV.float(), batch.targets_BL[masked_BL], reduction="none")
        return (nats_N * weights_BL[masked_BL]).sum(), nats_N.detach().sum()

    def divisor(self, batch: Batch) -> Tensor:
        """This micro-batch's part of the divisor (a scalar). Tokens that share a weight count as their scale says."""
        masked_BL, maskable_BL = batch.masked_BL, batch.maskable_BL
        if self.normalise == "masked":
            return (masked_BL * batch.scale_BL).sum()
        return normaliser(masked_BL, maskable_BL, self.normalise)[1].sum()


def train(
    run: Run, dataset: NoisyBatches, objective: Objective, scorer: Scorer | None, logs: Logs, on_step: OnStep | None
) -> bool:
    """Train until the recipe's steps are done, early stopping, or a signal; False if a signal stopped it.

    `on_step` is called with each step's record on every process.
    """
    recipe, accelerator, progress = run.recipe, run.accelerator, run.progress
    accumulate = recipe.batch.rows // (recipe.batch.micro * accelerator.num_processes)
    supply = batches(dataset, progress.step * accumulate, recipe.data.workers)
    knobs = recipe.batch.micro, recipe.data.length, recipe.gradient_checkpointing
    vocabulary = run.config.vocab_size
    began = logged = time.perf_counter()
    waited = 0.0
    logged_step = progress.step
    while progress.step < run.steps and not progress.done:
        before = time.perf_counter()
        parts = take(supply, accumulate, vocabulary, accelerator.device)
        waited += time.perf_counter() - before
        with memory_told(*knobs):
            record = one_step(run, parts, objective)
        now = time.perf_counter()
        if progress.step % recipe.logging.every == 0 or progress.step == run.steps or on_step is not None:
            seconds = (now - logged) / max(1, progress.step - logged_step)
            progress.seconds += now - logged
            record |= {
                "tokens": progress.tokens,
                "seconds": round(progress.seconds, 2),
                "seconds_per_step": round(seconds, 4),
                "tokens_per_s": round(record.pop("step_tokens") / seconds),
                "waiting": round(waited / max(1e-9, now - began), 4),
            }
            logged, logged_step = now, progress.step
            logs.step(record, shown=progress.step % recipe.logging.every == 0)
            if on_step is not None:
                on_step(record)
        stopped = agree(run.stopping, run)
        last = progress.step == run.steps
        if scorer is not None and (last or due(progress.step, recipe.scoring.every)) and not stopped:
            scores = scorer(run.model, accelerator)
            logs.scores(progress.step, progress.tokens, scores)
            judge(run, scores, logs)
            logged += time.perf_counter() - now  # measuring is no training time
            began += time.perf_counter() - now
        if stopped or last or progress.done or due(progress.step, recipe.checkpoints.every):
            saving = time.perf_counter()
            run.save()
            logged += time.perf_counter() - saving
            began += time.perf_counter() - saving
        if stopped:
            return False
    return True


def take(supply: Iterator[Any], count: int, vocabulary: int, device: torch.device) -> list[Batch]:
    """The micro-batches of a step; TrainingError for an id that the model has no row for."""
    parts = [next(supply) for _ in range(count)]
    for part in parts:
        highest = int(part.targets_BL.max())
        if highest >= vocabulary:
            raise TrainingError(
                f"the data holds token {highest}, the model's vocabulary has {vocabulary} rows: "
                "the corpus was made with another tokenizer"
            )
    return [part.to(device) for part in parts]


def one_step(run: Run, parts: list[Batch], objective: Objective) -> dict[str, Any]:
    """Forward and backward over the micro-batches, then the optimizer; the step's record."""
    accelerator, step = run.accelerator, run.progress.step
    figures = objective.divisor, lambda part: part.present_BL.sum(), lambda part: part.masked_BL.sum()
    counts = torch.stack([sum_of(parts, figure) for figure in figures])
    divisor, tokens, asked = parallel.total(counts, accelerator).tolist()
    divisor = max(divisor, 1.0)
    losses = torch.zeros(2, device=accelerator.device)
    for number, part in enumerate(parts, 1):
        weighted, plain = objective.sums(run.model, part, step)
        run.backward(weighted / divisor, last=number == len(parts))
        losses += torch.stack([weighted.detach() / divisor, plain / max(asked, 1.0)])
    value, nats = parallel.total(losses, accelerator).tolist()
    if not math.isfinite(value):
        raise TrainingError(run.lost(f"the loss is {value}"))
    norm, rate = run.update()
    run.progress.tokens += int(tokens)
    return {
        "step": run.progress.step,
        "loss": value,
        "nats": nats,
        "norm": norm,
        "rate": rate,
        "opened": objective.opened(step),
        "step_tokens": tokens,
    }


def sum_of(parts: list[Batch], figure: Callable[[Batch], Tensor]) -> Tensor:
    """The sum of a figure over micro-batches, float64."""
    return torch.stack([figure(part).double() for part in parts]).sum()


def judge(run: Run, scores: dict[str, float], logs: Logs) -> None:
    """Remember the best measurement; end the run when the recipe's patience is over."""
    rule, progress = run.recipe.early_stop, run.progress
    if rule is None:
        return
    if rule.figure not in scores:
        raise TrainingError(f"early_stop.figure is one of {', '.join(scores)}, not {rule.figure!r}")
    value = scores[rule.figure] * (1 if rule.goal == "max" else -1)
    if progress.best is None or value > progress.best + rule.margin:
        progress.best, progress.best_step, progress.worse = value, progress.step, 0
        place = run.save()
        if run.main:
            (run.folder / "best.json").write_text(f'{{"checkpoint": "{place.name}", "{rule.figure}": {abs(value)}}}\n')
    else:
        progress.worse += 1
        if progress.worse >= rule.patience:
            progress.done = True
            logs.say(f"stopped early: {rule.figure} was best at step {progress.best_step}")


def agree(flag: bool, run: Run) -> bool:
    """Whether any process has the flag set."""
    return bool(parallel.total(torch.tensor(float(flag), device=run.accelerator.device), run.accelerator))


def due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps happens at this one."""
    return every > 0 and step % every == 0
