"""pass@k without bias, and how sure it is: bootstrap over problems, paired where two runs share them.

Legend: N problems, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_runtime.protocol import RequestError

RESAMPLES = 10_000


def pass_at_k(count: int, passed: int, k: int) -> float:
    """The chance that at least one of k samples passes, from `count` samples of which `passed` did.

    1 - C(count - passed, k) / C(count, k), as a product (Chen et al., arXiv 2107.03374). RequestError for k > count.
    """
    if k < 1:
        raise RequestError(f"k of pass@k is at least 1, not {k}")
    if k > count:
        raise RequestError(f"pass@{k} needs at least {k} samples a problem, and there are {count}")
    if count - passed < k:
        return 1.0
    return 1.0 - float(np.prod(1.0 - k / np.arange(count - passed + 1, count + 1)))


@dataclass(frozen=True)
class Share:
    """A mean over problems and its 95 % interval; by a percentile bootstrap over problems."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> Share:
    """The mean of a value a problem, with its interval; problems are drawn again, not samples.

    `resamples` is a multiple of ten.
    """
    values_N = np.asarray(values, dtype=float)
    means_R = resampled_means(values_N, seed, resamples)
    low, high = np.percentile(means_R, (2.5, 97.5))
    return Share(float(values_N.mean()), float(low), float(high))


@dataclass(frozen=True)
class Difference:
    """B minus A: its mean and 95 % interval, the two-sided p, and on how many problems which of the two is better."""

    mean: float
    low: float
    high: float
    p: float
    a_better: int
    b_better: int
    same: int


def paired_bootstrap(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Difference:
    """Compare two values of the same problems, in the same order; each problem keeps its pair in every resample.

    p is twice the share of resamples on the other side of zero, with one added to both counts so that it is never 0.
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"paired values come in pairs, not {len(a)} and {len(b)}")
    difference_N = np.asarray(b, dtype=float) - np.asarray(a, dtype=float)
    means_R = resampled_means(difference_N, seed)
    low, high = np.percentile(means_R, (2.5, 97.5))
    other = min((means_R <= 0).sum(), (means_R >= 0).sum())
    p = min(1.0, 2 * (other + 1) / (len(means_R) + 1))
    worse, better = int((difference_N < 0).sum()), int((difference_N > 0).sum())
    return Difference(
        float(difference_N.mean()), float(low), float(high), float(p), worse, better, len(difference_N) - worse - better
    )


def resampled_means(values_N: np.ndarray, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """The means of so many resamples; a tenth of them at a time, for benchmarks have thousands of problems."""
    rng, shape = np.random.default_rng(seed), (resamples // 10, len(values_N))
    return np.concatenate([values_N[rng.integers(0, len(values_N), shape)].mean(axis=1) for _ in range(10)])
