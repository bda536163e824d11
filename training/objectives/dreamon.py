"""Rows that teach how long a hole is: DreamOn's expand and delete targets (arXiv 2602.01326), for full attention.

A hole is a run of whole lines. Its tokens are masked with probability t. Then, as at inference, where the number of
masks is a guess, neighbouring masks are merged, the merged one labelled `expand`, and surplus masks at the end of the
hole are labelled `delete`. What is merged away leaves the row, so positions count on without a gap, as they do when
one mask stands for two tokens.

Legend: L length of the row before, M after; T tokens of the hole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.objectives.holes import merge_masks


@dataclass(frozen=True)
class Resizing:
    """How many rows carry such a hole, and how it is resized. The defaults are DreamOn's."""

    share: float = 0.0  # of rows
    max_delete: int = 64  # surplus masks: uniform from 0
    merge: float = 0.5  # chance of a neighbouring pair
    dynamic: float = 0.5  # of holes whose chance is `merge` times the share of tokens revealed
    max_lines: int = 8

    def __post_init__(self) -> None:
        for name in ("share", "merge", "dynamic"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies between 0 and 1, not at {getattr(self, name)}")
        if self.max_delete < 0 or self.max_lines < 1:
            raise ValueError("max_delete is at least 0, max_lines at least 1")


@dataclass(frozen=True)
class Resized:
    """A row of M positions: what the model is to say, where it is asked, and the weight of each answer."""

    targets_M: np.ndarray
    masked_M: np.ndarray
    maskable_M: np.ndarray  # the hole
    scale_M: np.ndarray
    t: float


def line_hole(ids_L: np.ndarray, newline: int, max_lines: int, rng: np.random.Generator) -> tuple[int, int]:
    """A run of 1 to `max_lines` whole lines [start, end), start >= 1; the whole row where it has no line ends."""
    after_L = np.flatnonzero(ids_L == newline) + 1
    starts = np.concatenate([[1], after_L[(after_L > 1) & (after_L < len(ids_L))]])
    first = int(rng.integers(len(starts)))
    last = first + int(rng.integers(1, max_lines + 1))
    return int(starts[first]), int(starts[last]) if last < len(starts) else len(ids_L)


def resize_row(
    ids_L: np.ndarray,
    hole: tuple[int, int],
    t: float,
    expand: int,
    delete: int,
    how: Resizing,
    rng: np.random.Generator,
) -> Resized:
    """The row with its hole masked at noise `t`, merged and padded with surplus masks, at most as long as before.

    All `delete` targets of a hole together weigh as one token.
    """
    start, end = hole
    labels_T = ids_L[start:end].astype(np.int64)
    masked_T = rng.random(len(labels_T)) < t
    chance = how.merge
    if rng.random() < how.dynamic:
        chance *= 1 - float(masked_T.mean())
    labels_T, masked_T = merge_masks(labels_T, masked_T, expand, rng, chance)
    surplus = int(rng.integers(how.max_delete + 1))
    row = np.concatenate([ids_L[:start], labels_T, np.full(surplus, delete), ids_L[end:]])
    masked = np.zeros(len(row), bool)
    masked[start : start + len(labels_T)] = masked_T
    masked[start + len(labels_T) : start + len(labels_T) + surplus] = True
    maskable = np.zeros(len(row), bool)
    maskable[start : start + len(labels_T) + surplus] = True
    scale = np.ones(len(row), np.float32)
    scale[start + len(labels_T) : start + len(labels_T) + surplus] = 1 / max(surplus, 1)
    m = min(len(row), len(ids_L))
    return Resized(row[:m], masked[:m], maskable[:m], scale[:m], t)
