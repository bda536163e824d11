"""The coupled estimator beside those it is compared with, and how each draws its masks.

| estimator | views | a token's log-probability |
|---|---|---|
| `coupled` | all masked; K complementary pairs | (p0 + sum of the pairs' weighted p) / (K + 1) |
| `decoupled` | all masked; 2K independent ones, of shares t and 1 - t | the same sum; a token is in any number |
| `full_mask` | all masked | p0 (d1, arXiv 2504.12216, without masks in the prompt) |
| `nemo` | K complementary pairs | mean over pairs of the p of the view that masks it (NeMo-RL); no weights |

`decoupled` costs as many forwards as `coupled` and has the same expectation.

Legend: B rows, L length, M matrices of numbers (2K).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from training.mixture import hash_seed
from training.objectives.coupled import coupled_views
from training.objectives.views import weighted_log_probs

Kind = Literal["coupled", "decoupled", "full_mask", "nemo"]
LEVELS = (0.2, 0.8)  # of t, as the DiffuCoder repository draws it


@dataclass(frozen=True)
class Fixes:
    """What the DiffuCoder repository does otherwise. None of a field: as `compat` says."""

    attention_mask: bool | None = None  # padding is not seen in the log-probability passes, as in the rollouts
    fresh_masks: bool | None = (
        None  # each inner iteration has masks of its own; there, each micro-batch always the same
    )
    single_iteration: bool | None = None  # one inner iteration with beta above 0 works
    aligned_metrics: bool | None = None  # KL and clip shares of each row with its own mask
    own_masks: bool | None = None  # t and masks for each row; there, one t and one matrix for all micro-batches
    step_divisor: bool | None = None  # tokens of all micro-batches weigh the same; there, all micro-batches do

    def resolved(self, compat: str) -> Fixes:
        """All fields set: what is None is on, or off for `compat` "apple"."""
        chosen = {field.name: getattr(self, field.name) for field in fields(self)}
        return Fixes(**{name: compat != "apple" if value is None else value for name, value in chosen.items()})


@dataclass(frozen=True)
class Draw:
    """The numbers that masks are made of: [M, B, L], and the share t of each row [B] or of all."""

    uniform_MBL: Tensor
    t: float | Tensor

    def to(self, device: torch.device | str) -> Draw:
        return Draw(self.uniform_MBL.to(device), self.t.to(device) if isinstance(self.t, Tensor) else self.t)


def draw_apple(seed: int, rows: int, length: int, parts: int = 1) -> Draw:
    """The repository's draw: one t and a matrix over whole rows, of `rows` / `parts` rows, repeated `parts` times."""
    generator = torch.Generator().manual_seed(seed)
    uniform_BL = torch.rand(rows // parts, length, generator=generator).repeat(parts, 1)
    return Draw(uniform_BL.unsqueeze(0), random.Random(seed).uniform(*LEVELS))


def draw_own(
    seed: int, numbers: Sequence[int], completion_BL: Tensor, pairs: int = 1, limits: tuple[float, float] = LEVELS
) -> Draw:
    """A draw for each row by its number, the same in whatever batch it stands: two matrices for each pair."""
    uniform_MBL = torch.ones(2 * pairs, *completion_BL.shape)
    t_B = torch.empty(len(numbers))
    for row, number in enumerate(numbers):
        rng = np.random.default_rng(hash_seed(seed, "masks", number))
        t_B[row] = rng.uniform(*limits)
        places = completion_BL[row].nonzero().flatten().cpu()
        values = rng.random((2 * pairs, len(places)), dtype=np.float32)
        uniform_MBL[:, row, places] = torch.from_numpy(values)
    return Draw(uniform_MBL, t_B)


def log_probs(
    model: Any,
    input_ids_BL: Tensor,
    completion_BL: Tensor,
    draw: Draw,
    mask_id: int,
    attention_mask: Tensor | None = None,
    kind: Kind = "coupled",
    pairs: int = 1,
    entropies: list[Tensor] | None = None,
) -> Tensor:
    """The estimate of each completion token's log-probability (nats), [B, L], 0 elsewhere.

    The completion may stand anywhere in a row. `draw` holds `pairs` matrices, twice as many for `decoupled`.
    """
    full_BL = completion_BL.bool()
    t_B1 = draw.t.unsqueeze(1) if isinstance(draw.t, Tensor) else draw.t
    views: list[tuple[Tensor, Tensor | float]] = [] if kind == "nemo" else [(full_BL, 1.0)]
    uniforms = draw.uniform_MBL
    if kind in ("coupled", "nemo"):
        for uniform_BL in uniforms[:pairs]:
            _, first_BL, second_BL = coupled_views(full_BL, uniform_BL, draw.t)
            weighted = kind == "coupled"
            views += [(first_BL, 1 / t_B1 if weighted else 1.0), (second_BL, 1 / (1 - t_B1) if weighted else 1.0)]
    elif kind == "decoupled":
        for k in range(pairs):
            views.append((full_BL & (uniforms[2 * k] < t_B1), 1 / t_B1))
            views.append((full_BL & (uniforms[2 * k + 1] < 1 - t_B1), 1 / (1 - t_B1)))
    divisor = {"coupled": pairs + 1, "decoupled": pairs + 1, "full_mask": 1, "nemo": pairs}[kind]
    return weighted_log_probs(model, input_ids_BL, views, divisor, mask_id, attention_mask, entropies)


def mask_index(step: int, micro: int, accumulate: int, iterations: int, fresh: bool) -> int:
    """Which of a generation's masks a micro-batch of an optimizer step takes: the inner iteration's own.

    The repository takes the number of the next micro-batch in the whole run instead, so that with two inner iterations
    and two micro-batches a step, each micro-batch has the same masks in both.
    """
    return step % iterations if fresh else (step * accumulate + micro + 1) % iterations


def misaligned_metrics(
    new_BC: Tensor,
    old_BC: Tensor | None,
    ref_BC: Tensor | None,
    advantages_B: Tensor,
    counted_BC: Tensor,
    clip_low: float,
    clip_high: float,
) -> dict[str, float]:
    """KL and clip shares as the repository logs them: each row's ratios under every row's mask and advantage."""
    ratio_BC = torch.exp(new_BC - (new_BC if old_BC is None else old_BC)).detach()
    counted_BC, count = counted_BC.float(), counted_BC.sum()

    def mean(values_BC: Tensor, chosen_B: Tensor) -> float:
        return float((values_BC * counted_BC[chosen_B].sum(0)).sum() / count)

    found = {
        "clip_low": mean(ratio_BC < 1 - clip_low, advantages_B < 0),
        "clip_high": mean(ratio_BC > 1 + clip_high, advantages_B > 0),
    }
    found["clip"] = found["clip_low"] + found["clip_high"]
    if ref_BC is not None:
        away_BC = (ref_BC - new_BC).detach()
        found["kl"] = mean(away_BC.exp() - away_BC - 1, torch.ones_like(advantages_B, dtype=torch.bool))
    return found
