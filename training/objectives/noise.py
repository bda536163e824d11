"""The forward process: which tokens of a row become [MASK]. Pure functions of a numpy generator, one row at a time.

Every pattern masks a maskable token with probability t, so the loss's weights mean the same under each of them.
Patterns: independent tokens (all papers), spans (CoDA, arXiv 2510.03270), an un-noised prefix or suffix as a condition,
truncation to a random length (DiffuCoder, appendix; CoDA).

Legend: L length of a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Noise:
    """How rows are noised; all but `t_min` and the sizes are probabilities of a row. The defaults are DiffuCoder's."""

    t_min: float = 1e-3  # t = t_min + (1 - t_min) u, u uniform
    spans: float = 0.0  # mask runs of tokens instead of single ones
    span_sizes: list[int] = field(default_factory=lambda: [2, 4, 8])
    keep_prefix: float = 0.01  # a random-length prefix stays un-noised
    keep_suffix: float = 0.0
    truncate: float = 0.01  # cut to a random length

    def __post_init__(self) -> None:
        for name in ("spans", "keep_prefix", "keep_suffix", "truncate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies between 0 and 1, not at {getattr(self, name)}")
        if not 0 < self.t_min < 1:
            raise ValueError(f"t_min lies between 0 and 1, not at {self.t_min}")
        if not self.span_sizes or min(self.span_sizes) < 1:
            raise ValueError(f"span_sizes are whole numbers from 1, not {self.span_sizes}")


@dataclass(frozen=True)
class Masks:
    """What the forward process decided of a row: booleans [L] and the noise level."""

    masked_L: np.ndarray
    maskable_L: np.ndarray
    present_L: np.ndarray  # False where the row was cut off: nobody sees these positions
    t: float


def draw_t(rng: np.random.Generator, t_min: float = 1e-3) -> float:
    """A noise level, uniform in [t_min, 1)."""
    return t_min + (1 - t_min) * float(rng.random())


def random_mask(maskable_L: np.ndarray, t: float, rng: np.random.Generator) -> np.ndarray:
    """Each maskable token with probability t, independently."""
    return maskable_L & (rng.random(len(maskable_L)) < t)


def span_mask(maskable_L: np.ndarray, t: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Runs of `size` neighbours, each run with probability t; where the first run begins is random."""
    runs = (np.arange(len(maskable_L)) + int(rng.integers(size))) // size
    return maskable_L & (rng.random(int(runs[-1]) + 1) < t)[runs]


def keep_prefix(maskable_L: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`maskable_L` without a prefix of uniform length 0 … L - 1."""
    return maskable_L & (np.arange(len(maskable_L)) >= int(rng.integers(len(maskable_L))))


def keep_suffix(maskable_L: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`maskable_L` without a suffix of uniform length 0 … L - 1."""
    return keep_prefix(maskable_L[::-1], rng)[::-1]


def truncation(length: int, rng: np.random.Generator) -> np.ndarray:
    """Boolean [L], true up to a uniform length 1 … L."""
    return np.arange(length) < int(rng.integers(1, length + 1))


def draw_masks(maskable_L: np.ndarray, noise: Noise, rng: np.random.Generator) -> Masks:
    """The forward process for one row."""
    t = draw_t(rng, noise.t_min)
    present_L = np.ones(len(maskable_L), bool)
    if rng.random() < noise.truncate:
        present_L = truncation(len(maskable_L), rng)
        maskable_L = maskable_L & present_L
    if rng.random() < noise.keep_prefix:
        maskable_L = keep_prefix(maskable_L, rng)
    if rng.random() < noise.keep_suffix:
        maskable_L = keep_suffix(maskable_L, rng)
    if rng.random() < noise.spans:
        masked_L = span_mask(maskable_L, t, int(rng.choice(noise.span_sizes)), rng)
    else:
        masked_L = random_mask(maskable_L, t, rng)
    return Masks(masked_L, maskable_L, present_L, t)


def conditional_share(epochs_done: float, ramp_epochs: float) -> float:
    """The share of SFT rows whose prompt is never masked: rises from 0 to 1 over the first `ramp_epochs`.

    DiffuCoder adds the condition progressively in its first epoch; 0 ramp epochs mean always conditional.
    """
    return 1.0 if ramp_epochs <= 0 else min(1.0, epochs_done / ramp_epochs)
