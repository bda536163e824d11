"""One generation's optimizer steps: batches of rollouts, the log-probabilities they are compared with, and the loss.

A step's loss is one mean over the counted tokens of all micro-batches and processes, so neither changes what is learned
(the DiffuCoder repository gives each micro-batch the same weight: `fixes.step_divisor`).

Legend: B rows of a micro-batch, L length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from training import parallel
from training.errors import TrainingError
from training.grpo.recipe import GrpoRecipe
from training.grpo.reference import Reference
from training.grpo.rollouts import Rollout, stack_left
from training.mixture import hash_seed
from training.objectives.coupled import grpo_loss
from training.objectives.estimators import (
    Draw,
    Fixes,
    draw_apple,
    draw_own,
    log_probs,
    mask_index,
    misaligned_metrics,
)
from training.run import Run

FIGURES = ("loss", "kl", "clip_low", "clip_high", "clip", "ratio")
SEEDS = 4096  # of masks in the DiffuCoder repository


@dataclass
class Micro:
    """Rollouts that go through the model together, [B, L] each but the advantages [B]."""

    ids_BL: Tensor
    present_BL: Tensor
    completion_BL: Tensor  # what was generated
    counted_BL: Tensor  # of that, what the loss counts
    advantages_B: Tensor
    numbers: list[int]
    draws: list[Draw] = field(default_factory=list)  # of each inner iteration
    old: list[Tensor | None] = field(default_factory=list)
    ref: list[Tensor | None] = field(default_factory=list)


def make_micros(
    rollouts: Sequence[Rollout], advantages: Tensor, size: int, pad: int, device: torch.device, even: bool
) -> list[Micro]:
    """The rollouts in micro-batches of `size`, padded on the left; `even`: all to one width."""
    width = max(len(rollout.ids) for rollout in rollouts) if even else 0
    micros = []
    for first in range(0, len(rollouts), size):
        some = rollouts[first : first + size]
        ids_BL, present_BL = stack_left([rollout.ids for rollout in some], pad, width)
        completion_BL = torch.zeros_like(present_BL)
        counted_BL = torch.zeros_like(present_BL)
        for row, rollout in enumerate(some):
            start = ids_BL.shape[1] - len(rollout.ids) + rollout.start
            completion_BL[row, start : start + rollout.length] = True
            counted_BL[row, start : start + rollout.counted] = True
        tensors = ids_BL, present_BL, completion_BL, counted_BL, advantages[first : first + size]
        ids, present, completion, counted, weights = (tensor.to(device) for tensor in tensors)
        numbers = [rollout.number for rollout in some]
        micros.append(Micro(ids, present, completion, counted, weights, numbers))
    return micros


class Updater:
    """The optimizer steps of a run."""

    def __init__(self, run: Run, recipe: GrpoRecipe, reference: Reference | None, mask: int):
        self.run, self.recipe, self.reference, self.mask = run, recipe, reference, mask
        self.objective = recipe.objective
        self.fixes: Fixes = recipe.objective.fixes.resolved(recipe.objective.compat)

    def draw(self, micro: Micro, generation: int, iteration: int) -> Draw:
        """The masks of a micro-batch in an inner iteration."""
        seed, objective = self.recipe.seed, self.objective
        if self.fixes.own_masks:
            own = hash_seed(seed, "iteration", iteration)
            found = draw_own(own, micro.numbers, micro.completion_BL, objective.pairs, objective.levels)
        else:
            generator = torch.Generator().manual_seed(hash_seed(seed, "mask seeds", generation))
            seeds = torch.randint(0, SEEDS, (objective.iterations,), generator=generator).tolist()
            found = draw_apple(seeds[iteration], *micro.ids_BL.shape)
        return found.to(micro.ids_BL.device)

    def estimate(self, micro: Micro, iteration: int, entropies: list[Tensor] | None = None) -> Tensor:
        """The log-probabilities [B, L] by the model as it is."""
        return log_probs(
            self.run.model,
            micro.ids_BL,
            micro.completion_BL,
            micro.draws[iteration],
            self.mask,
            micro.present_BL if self.fixes.attention_mask else None,
            self.objective.estimator,
            self.objective.pairs,
            entropies,
        )

    @torch.no_grad()
    def prepare(self, micros: Sequence[Micro], generation: int) -> float:
        """Draw the masks, and compute what the policy of the rollouts and the reference say; return the mean entropy.

        With one inner iteration the policy of the rollouts is the one in training, and its ratio is 1.
        """
        self.run.model.eval()
        entropies: list[Tensor] = []
        iterations = range(self.objective.iterations)
        for micro in micros:
            micro.draws = [self.draw(micro, generation, iteration) for iteration in iterations]
            micro.old = [self.estimate(micro, iteration, entropies) for iteration in iterations]
            if len(iterations) == 1:
                micro.old = [None]
        if self.reference is not None:
            with self.reference.in_place():
                for micro in micros:
                    micro.ref = [self.estimate(micro, iteration) for iteration in iterations]
        self.run.model.train()
        sums = torch.stack([torch.cat(entropies).double().sum(), torch.tensor(float(sum(map(len, entropies))))])
        total, count = parallel.total(sums.to(self.run.accelerator.device), self.run.accelerator).tolist()
        return total / max(count, 1.0)

    def step(self, micros: Sequence[Micro]) -> dict[str, Any]:
        """One optimizer step over the micro-batches; its record."""
        run, objective = self.run, self.objective
        accelerator, number = run.accelerator, run.progress.step
        counted = torch.stack([micro.counted_BL.sum() for micro in micros]).sum()
        tokens = float(parallel.total(counted.double(), accelerator))
        sums = torch.zeros(len(FIGURES), dtype=torch.float64)
        for place, micro in enumerate(micros):
            at = mask_index(number, place, len(micros), objective.iterations, self.fixes.fresh_masks is True)
            new_BL = self.estimate(micro, at)
            old_BL, ref_BL = micro.old[at], micro.ref[at] if micro.ref else None
            clips = objective.clip_low, objective.clip_high
            loss, metrics = grpo_loss(
                new_BL, old_BL, ref_BL, micro.advantages_B, micro.counted_BL, *clips, objective.beta
            )
            if not self.fixes.aligned_metrics:
                metrics |= misaligned_metrics(new_BL, old_BL, ref_BL, micro.advantages_B, micro.counted_BL, *clips)
            share = float(micro.counted_BL.sum()) / max(tokens, 1.0)
            if not self.fixes.step_divisor:
                share = 1 / (len(micros) * accelerator.num_processes)
            run.backward(loss * share, last=place == len(micros) - 1)
            found = [float(loss.detach()), *(metrics[name] for name in FIGURES[1:])]
            sums += torch.tensor(found, dtype=torch.float64) * share
        values = parallel.total(sums.to(accelerator.device), accelerator).tolist()
        figures = dict(zip(FIGURES, values, strict=True))
        if not math.isfinite(figures["loss"]):
            raise TrainingError(run.lost(f"the loss is {figures['loss']}"))
        norm, rate = run.update()
        run.progress.tokens += int(tokens)
        if self.reference is not None:
            self.reference.follow(run.progress.step)
        return {"step": run.progress.step, **figures, "norm": norm, "rate": rate, "step_tokens": tokens}
