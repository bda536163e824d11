"""Which shape of model a time budget trains best: each is tried for a few steps, and its loss at the end predicted.

The prediction is the parametric fit of Hoffmann et al. (arXiv 2203.15556, approach 3): E + A/N^0.34 + B/D^0.28 for N
parameters and D tokens. Its constants are those of English text; here only the order of close shapes is taken from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

A, ALPHA, B, BETA = 406.4, 0.34, 410.7, 0.28
TRIED_SECONDS = 45.0  # all shapes together


@dataclass(frozen=True)
class Trial:
    """A shape, its parameters, and how fast it trained."""

    shape: dict[str, Any]
    parameters: int
    tokens_per_second: float

    def predicted(self, seconds: float) -> float:
        """The loss above the irreducible one after `seconds` of training."""
        return A / self.parameters**ALPHA + B / max(self.tokens_per_second * seconds, 1.0) ** BETA


def choose(trials: Sequence[Trial], seconds: float) -> Trial:
    """The trial with the least predicted loss after `seconds`."""
    return min(trials, key=lambda trial: trial.predicted(seconds))


def speed(step: Callable[[], int], seconds: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Tokens a second of `step`, which trains once and returns its tokens, over about `seconds`.

    The first third warms up (kernels are chosen, memory is claimed) and does not count.
    """
    start = clock()
    step()
    while clock() - start < seconds / 3:
        step()
    began, tokens = clock(), 0
    while tokens == 0 or clock() - start < seconds:
        tokens += step()
    return tokens / (clock() - began)
