"""Training rows for infilling: a causal stretch of code, and several holes that hang on it.

Context of a `context_blind` model never looks at a hole, so one stretch of T tokens serves many holes at once.
A training row is

    [bos, stretch ...] [window 1][suffix 1] [window 2][suffix 2] ... [padding]

The stretch is causal and carries a next-token loss. Window h starts one token before hole h (with the shift, row i
predicts token i+1) and sees the stretch up to there, itself, and its own suffix; a suffix is causal within itself.
This is the very visibility of `visible_from_segments` for one hole, paid for once per stretch instead of once
per hole. `layouts.py` has the rows of models with full attention.

Legend: T row length, B batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.objectives.holes import IGNORE, InfillShape, TokenIds, begun_canvas, hole_canvas, hole_range

PREFIX, WINDOW, SUFFIX, PAD = 0, 1, 2, 3  # kinds of row
BEGUN_SUFFIX = 48  # tokens behind a begun hole at most: few, so that a row has room for many such holes


@dataclass
class Rows:
    """A batch: inputs, what each row may see, and what it is to predict ([B, T] each)."""

    ids: Tensor
    positions: Tensor
    kind: Tensor
    group: Tensor  # 0 the stretch; 1, 2, … a hole with its suffix
    segment: Tensor  # runs of context within a group
    limit: Tensor  # the last position of the stretch that the row sees
    next_labels: Tensor  # next-token targets of context
    mask_labels: Tensor  # targets of masked tokens
    weights: Tensor  # of mask_labels

    def to(self, device: str | torch.device) -> Rows:
        return Rows(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def visible(self) -> Tensor:
        """Boolean [B, T, T]: which key each row looks at."""

        def q(x: Tensor) -> Tensor:
            return x.unsqueeze(2)

        def k(x: Tensor) -> Tensor:
            return x.unsqueeze(1)

        stretch = (k(self.kind) == PREFIX) & (k(self.positions) <= q(self.limit))
        same_group = (k(self.group) == q(self.group)) & (q(self.group) > 0)
        causal = (k(self.segment) == q(self.segment)) & (k(self.positions) <= q(self.positions))
        own = same_group & ((q(self.kind) == WINDOW) | ((k(self.kind) == SUFFIX) & causal))
        return stretch | own | torch.eye(self.ids.shape[1], dtype=torch.bool, device=self.ids.device)


class RowBuilder:
    """Writes one training row into preallocated arrays, left to right."""

    def __init__(self, length: int, ids: TokenIds):
        self.length, self.filled = length, 0
        self.arrays: dict[str, np.ndarray] = {
            "ids": np.full(length, ids.pad, np.int64),
            "positions": np.zeros(length, np.int64),
            "kind": np.full(length, PAD, np.int64),
            "group": np.zeros(length, np.int64),
            "segment": np.zeros(length, np.int64),
            "limit": np.full(length, -1, np.int64),
            "next_labels": np.full(length, IGNORE, np.int64),
            "mask_labels": np.full(length, IGNORE, np.int64),
            "weights": np.zeros(length, np.float32),
        }

    def put(self, count: int, **values: np.ndarray | int | float) -> None:
        part = slice(self.filled, self.filled + count)
        for name, value in values.items():
            self.arrays[name][part] = value
        self.filled += count

    @property
    def room(self) -> int:
        return self.length - self.filled


def put_context(
    row: RowBuilder,
    tokens: np.ndarray,
    following: int,
    position: int,
    group: int,
    segment: int,
    keep_loss: bool,
) -> None:
    """A run of context after a hole: causal within itself, with a next-token loss if `keep_loss`."""
    count = len(tokens)
    if count == 0:
        return
    labels: np.ndarray | int = IGNORE
    if keep_loss:
        labels = np.append(tokens[1:].astype(np.int64), following)
    row.put(
        count,
        ids=tokens,
        positions=np.arange(position, position + count),
        kind=SUFFIX,
        group=group,
        segment=segment,
        next_labels=labels,
    )


def put_window(
    row: RowBuilder,
    before: int,
    hole: tuple[np.ndarray, np.ndarray, np.ndarray],
    position: int,
    group: int,
    limit: int,
) -> None:
    """A hole's window: the token before it, then its rows; row i predicts what stands at i+1."""
    shown, labels, weights = hole
    count = len(shown) + 1
    row.put(
        count,
        ids=np.concatenate([[before], shown]),
        positions=np.arange(position, position + count),
        kind=WINDOW,
        group=group,
        segment=-1,
        limit=limit,
        mask_labels=np.append(labels, IGNORE),
        weights=np.append(weights, 0.0),
    )


def infill_row(
    stretch: np.ndarray, shape: InfillShape, ids: TokenIds, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """One training row of `shape.row_length` from a stretch of tokens (bos is put before it here)."""
    tokens = np.concatenate([[ids.bos], stretch.astype(np.int64)])
    row = RowBuilder(shape.row_length, ids)
    count = len(tokens)
    row.put(
        count,
        ids=tokens,
        positions=np.arange(count),
        kind=PREFIX,
        limit=np.arange(count),
        next_labels=np.append(tokens[1:], IGNORE),
    )
    group = 0
    while row.room > shape.max_hole // 3 and count > 2:
        group += 1
        start, end = hole_range(tokens, shape, ids, rng)
        begun, most = rng.random() < shape.begun, shape.suffix
        if begun:
            hole, most = begun_canvas(tokens[start:end], ids, rng), min(BEGUN_SUFFIX, most)
        else:
            hole = hole_canvas(tokens[start:end], shape, ids, rng, shape.max_hole)
        after = 0 if rng.random() < shape.no_suffix else int(rng.integers(8, most + 1))
        suffix = tokens[end : end + after]
        second = None
        if not begun and rng.random() < shape.two_holes and len(suffix) > 24:
            a = int(rng.integers(4, len(suffix) - 12))
            b = a + int(rng.integers(1, 12))
            second = a, b, hole_canvas(suffix[a:b], shape, ids, rng, 16)
        needed = 1 + len(hole[0]) + len(suffix) + (len(second[2][0]) if second else 0)
        if needed > row.room:
            if row.room < shape.row_length // 6:
                break
            continue
        if not (hole[1] != IGNORE).any():
            continue
        put_window(row, int(tokens[start - 1]), hole, start - 1, group, limit=start - 2)
        position = start + len(hole[0])
        keep = rng.random() < shape.keep_suffix_loss
        following = int(tokens[end + len(suffix)]) if end + len(suffix) < count else IGNORE
        if second is None:
            put_context(row, suffix, following, position, group, 1, keep)
            continue
        a, b, other = second
        put_context(row, suffix[: a - 1], int(suffix[a - 1]), position, group, 1, keep)
        put_window(row, int(suffix[a - 1]), other, position + a - 1, group, limit=start - 2)
        put_context(row, suffix[b:], following, position + a + len(other[0]), group, 2, keep)
    return row.arrays


def stack_rows(rows: list[dict[str, np.ndarray]]) -> Rows:
    """A batch of rows as tensors."""
    return Rows(**{name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]})
