"""Batches as a model is trained on: micro-batch n is a pure function of the recipe, the seed and n.

Noise is drawn for a row by its number in the run, so that neither the number of processes nor the size of a
micro-batch changes what is learned from.

Legend: B rows of a micro-batch, L length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from training.mixture import Mixture
from training.objectives.dreamon import Resizing, line_hole, resize_row
from training.objectives.noise import Noise, conditional_share, draw_masks, draw_t
from training.rows import CleanRow, Rows

Kind = Literal["causal", "masked", "conditional"]


@dataclass(frozen=True)
class TokenIds:
    """Special ids; what a model lacks is None."""

    mask: int | None
    bos: int | None
    eos: int
    pad: int  # of positions that nobody sees
    newline: int | None = None
    expand: int | None = None
    delete: int | None = None


@dataclass
class Batch:
    """Inputs and what is asked of them, [B, L] each but `t_B`."""

    noisy_BL: Tensor
    targets_BL: Tensor
    masked_BL: Tensor  # where the model is asked: [MASK]s, or counted tokens of a causal model
    maskable_BL: Tensor
    present_BL: Tensor
    scale_BL: Tensor  # a factor of the loss's weight
    t_B: Tensor

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(getattr(self, name).to(device, non_blocking=True) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Noising:
    """How clean rows become a stage's examples."""

    kind: Kind
    ids: TokenIds
    noise: Noise
    resizing: Resizing
    ramp_epochs: float = 1.0


def noisy_row(row: CleanRow, how: Noising, epochs_done: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One row of a Batch as arrays, without its first axis."""
    length = len(row.ids_L)
    free_L = np.arange(length) >= row.fixed
    ones_L = np.ones(length, np.float32)
    if how.kind == "causal":
        everywhere = np.ones(length, bool)
        return as_row(row.ids_L, row.ids_L, free_L, free_L, everywhere, ones_L, 1.0)
    mask, pad = how.ids.mask, how.ids.pad
    assert mask is not None
    if how.kind == "conditional" and rng.random() < conditional_share(epochs_done, how.ramp_epochs):
        free_L = np.arange(length) >= row.prompt
    if how.kind == "masked" and rng.random() < how.resizing.share:
        assert how.ids.newline is not None
        assert how.ids.expand is not None
        assert how.ids.delete is not None
        t = draw_t(rng, how.noise.t_min)
        hole = line_hole(row.ids_L, how.ids.newline, how.resizing.max_lines, rng)
        resized = resize_row(row.ids_L, hole, t, how.ids.expand, how.ids.delete, how.resizing, rng)
        count = len(resized.targets_M)

        def filled(values_M: np.ndarray, value: float) -> np.ndarray:
            return np.concatenate([values_M, np.full(length - count, value, values_M.dtype)])

        targets_L, masked_L = filled(resized.targets_M, pad), filled(resized.masked_M, False)
        scale_L, maskable_L = filled(resized.scale_M, 1.0), filled(resized.maskable_M, False)
        noisy_L = np.where(masked_L, mask, targets_L)
        return as_row(noisy_L, targets_L, masked_L, maskable_L, np.arange(length) < count, scale_L, t)
    masks = draw_masks(free_L, how.noise, rng)
    clean_L = np.where(masks.present_L, row.ids_L, pad)
    noisy_L = np.where(masks.masked_L, mask, clean_L)
    return as_row(noisy_L, clean_L, masks.masked_L, masks.maskable_L, masks.present_L, ones_L, masks.t)


def as_row(noisy, targets, masked, maskable, present, scale, t) -> dict[str, np.ndarray]:
    """Name the parts of a row as Batch does."""
    values = noisy, targets, masked, maskable, present, scale, np.float32(t)
    return dict(zip(Batch.__dataclass_fields__, values, strict=True))


class NoisyBatches(Dataset):
    """Micro-batches of one process; `[n]` is the n-th that this process computes."""

    def __init__(
        self, sources: Mapping[str, Rows], mixture: Mixture, how: Noising, micro: int, rank: int, world: int, seed: int
    ):
        self.sources, self.mixture, self.how = sources, mixture, how
        self.micro, self.rank, self.world, self.seed = micro, rank, world, seed
        self.epoch = sum(mixture.sizes.values())  # rows

    def __len__(self) -> int:
        return 1 << 40

    def row(self, number: int) -> dict[str, np.ndarray]:
        """Row `number` of the run, noised."""
        source, index = self.mixture(number)
        rng = np.random.default_rng([self.seed, number])
        return noisy_row(self.sources[source][index], self.how, number / self.epoch, rng)

    def __getitem__(self, number: int) -> Batch:
        first = (number * self.world + self.rank) * self.micro
        rows = [self.row(first + n) for n in range(self.micro)]
        return Batch(**{name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]})
