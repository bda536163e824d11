"""What is measured while training: bits a byte of held-out text, and lines given back exactly.

- `bits_per_byte`: of a causal model by the chain rule; of a masked one its bound, the mean over random orders, from one
  number of masks a row, drawn in strata (LLaDA, arXiv 2502.09992, equation 6).
- `bits_per_byte@r`: of masked tokens when a share r is masked.
- `infill_exact`: whole lines masked, their length known, decoded one token a step (`entropy`), given back exactly.

The same rows, masks and lines each time, whatever the number of processes.

Legend: R rows, L length.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from model_runtime.engine.generate import diffusion_generate
from training import parallel
from training.objectives.annealing import annealed_mask
from training.objectives.masked import predicting_rows
from training.stages.recipe import Scoring

LINE_TOKENS = 3, 16  # of a line that is to be given back
CONTEXT = 64  # tokens kept on each side of it
SEED = 20_250_620


@dataclass(frozen=True)
class Held:
    """Held-out rows: clean ids and what may be masked, [R, L] each."""

    ids_RL: np.ndarray
    maskable_RL: np.ndarray


@dataclass(frozen=True)
class Scorer:
    """What is measured on which rows; `bytes_V` is how many bytes of text each id stands for."""

    held: Held
    bytes_V: Tensor
    causal: bool
    mask_id: int | None
    newline: int | None
    settings: Scoring
    micro: int

    def __call__(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """The figures, the same on every process; every process must call."""
        plain: Any = accelerator.unwrap_model(model)
        was_training = plain.training
        plain.eval()
        try:
            with torch.no_grad():
                return self._measure(plain, accelerator)
        finally:
            plain.train(was_training)

    def _measure(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        world, rank = accelerator.num_processes, accelerator.process_index
        count = len(self.held.ids_RL) // world * world
        own = range(rank, count, world)
        if self.causal:
            everything = self.held.maskable_RL
            return {"bits_per_byte": self._bits(model, accelerator, own, everything, np.ones(len(everything)))}
        masked_RL, factor_R = bound_masks(self.held.maskable_RL)
        scores = {"bits_per_byte": self._bits(model, accelerator, own, masked_RL, factor_R, whole=True)}
        for ratio in self.settings.ratios:
            rng = np.random.default_rng([SEED, round(1000 * ratio)])
            masked_RL = self.held.maskable_RL & (rng.random(self.held.maskable_RL.shape) < ratio)
            scores[f"bits_per_byte@{ratio:g}"] = self._bits(model, accelerator, own, masked_RL, np.ones(len(masked_RL)))
        cases = self._lines()[: self.settings.holes // world * world]
        if cases:
            right = sum(self._given_back(model, cases[rank::world], accelerator.device))
            everywhere = parallel.total(torch.tensor(float(right), device=accelerator.device), accelerator)
            scores["infill_exact"] = float(everywhere) / len(cases)
        return scores

    def _bits(
        self,
        model: nn.Module,
        accelerator: Accelerator,
        own: range,
        masked_RL: np.ndarray,
        factor_R: np.ndarray,
        whole: bool = False,
    ) -> float:
        """Bits a byte of the masked tokens; `whole`: over the bytes of all maskable ones."""
        device, sums = accelerator.device, torch.zeros(2, dtype=torch.float64)
        visible = annealed_mask(masked_RL.shape[1], 0.0, 0, device) if self.causal else None
        for start in range(0, len(own), self.micro):
            rows = np.array(own[start : start + self.micro])
            ids_BL = torch.from_numpy(self.held.ids_RL[rows]).to(device)
            masked_BL = torch.from_numpy(masked_RL[rows]).to(device)
            noisy_BL = ids_BL if self.causal else ids_BL.masked_fill(masked_BL, self.mask_id or 0)
            asked_N = predicting_rows(masked_BL, True)
            logits_NV = model(noisy_BL, attention_mask=None if visible is None else visible[None, None], rows=asked_N)
            nats_N = nn.functional.cross_entropy(logits_NV.logits.float(), ids_BL[masked_BL], reduction="none")
            factor_N = torch.from_numpy(factor_R[rows]).to(device)[masked_BL.nonzero()[:, 0]]
            counted_BL = torch.from_numpy(self.held.maskable_RL[rows]).to(device) if whole else masked_BL
            sums[0] += float((nats_N.double() * factor_N).sum())
            sums[1] += float(self.bytes_V.to(device)[ids_BL[counted_BL]].sum())
        nats, size = parallel.total(sums.float().to(device), accelerator).tolist()
        return nats / math.log(2) / max(size, 1)

    def _lines(self) -> list[tuple[np.ndarray, int, int]]:
        """Rows cut around a line, and where the line stands in them; the same lines each time."""
        if self.newline is None or self.settings.holes == 0:
            return []
        rng = np.random.default_rng(SEED)
        cases = []
        for number in range(8 * self.settings.holes):
            row = number % len(self.held.ids_RL)
            ids_L = self.held.ids_RL[row]
            ends = np.flatnonzero(ids_L == self.newline)
            low, high = LINE_TOKENS
            fits = [(a + 1, b) for a, b in itertools.pairwise(ends) if low <= b - a - 1 <= high]
            fits = [(a, b) for a, b in fits if self.held.maskable_RL[row, a:b].all()]
            if fits:
                a, b = fits[int(rng.integers(len(fits)))]
                first, last = max(0, a - CONTEXT), min(len(ids_L), b + CONTEXT)
                cases.append((ids_L[first:last], int(a - first), int(b - first)))
            if len(cases) == self.settings.holes:
                break
        return cases

    def _given_back(
        self, model: nn.Module, cases: Sequence[tuple[np.ndarray, int, int]], device: torch.device
    ) -> list[bool]:
        """Of each case, whether its line came back. Every process decodes the same number of batches and steps."""
        right: list[bool] = []
        width = LINE_TOKENS[1] + 2 * CONTEXT
        for start in range(0, len(cases), self.micro):
            part = cases[start : start + self.micro]
            ids_BL = torch.zeros(len(part), width, dtype=torch.long)
            present_BL = torch.zeros(len(part), width, dtype=torch.long)
            clean = []
            for n, (ids, a, b) in enumerate(part):
                row = torch.from_numpy(ids.copy())
                clean.append(row)
                ids_BL[n, : len(ids)] = row
                ids_BL[n, a:b] = self.mask_id or 0
                present_BL[n, : len(ids)] = 1
            filled = diffusion_generate(
                model, ids_BL.to(device), present_BL.to(device), steps=LINE_TOKENS[1], alg="entropy"
            ).sequences.cpu()
            right += [bool((filled[n, : len(row)] == row).all()) for n, row in enumerate(clean)]
        return right


def bound_masks(maskable_RL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks for the bound, and the factor n/k of each row's nats: k of its n maskable tokens, k in strata over rows."""
    rng = np.random.default_rng(SEED)
    rows = len(maskable_RL)
    levels = (rng.permutation(rows) + rng.random(rows)) / rows
    masked_RL = np.zeros_like(maskable_RL)
    factor_R = np.ones(rows)
    for row, level in enumerate(levels):
        places = np.flatnonzero(maskable_RL[row])
        if len(places):
            count = min(len(places), int(level * len(places)) + 1)
            masked_RL[row, rng.permutation(places)[:count]] = True
            factor_R[row] = len(places) / count
    return masked_RL, factor_R
