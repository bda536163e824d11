"""Training rows for infilling: a causal stretch of code, and several holes that hang on it.

Context of a `context_blind` model never looks at a hole, so one stretch of T tokens serves many holes at once.
A training row is

    [bos, stretch ...] [window 1][suffix 1] [window 2][suffix 2] ... [padding]

The stretch is causal and carries a next-token loss. Window h starts one token before hole h (with the shift, row i
predicts token i+1) and sees the stretch up to there, itself, and its own suffix; a suffix is causal within itself.
This is the very visibility of `visible_from_segments` for one hole, paid for once per stretch instead of once
per hole. `layouts.py` has the rows of models with full attention.

Holes are spans as people leave them: the rest of a line, a line, a few lines, any run of tokens; now and then two
holes with code between. Their tokens are masked with probability t (t = 1 for a share of them, as at the first
step of a fill, else uniform). Sizes are taught with DreamOn's targets (arXiv 2602.01326): surplus masks at the
end are labelled `delete`, neighbouring masks are merged and labelled `expand`; here merging may repeat, so that
a hole can start far too short.

Legend: T row length, B batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

IGNORE = -100
PREFIX, WINDOW, SUFFIX, PAD = 0, 1, 2, 3  # kinds of row


@dataclass(frozen=True)
class TokenIds:
    """The special ids that the objective writes, and the newline by which lines are found."""

    pad: int
    bos: int
    mask: int
    expand: int
    delete: int
    newline: int


@dataclass(frozen=True)
class InfillShape:
    """How long rows are and what holes they carry; probabilities are shares of holes."""

    layout: str = "hanging"  # the others: layouts.py
    row_length: int = 768
    stretch: int = 384
    suffix: int = 128
    no_suffix: float = 0.08
    two_holes: float = 0.12
    all_masked: float = 0.35
    surplus: float = 0.4  # holes with delete targets
    merged: float = 0.35  # holes with expand targets
    max_hole: int = 96
    keep_suffix_loss: float = 0.3  # suffixes repeat tokens of other stretches: not all of them carry loss
    kinds: dict[str, float] = field(
        default_factory=lambda: {"rest": 0.35, "line": 0.25, "lines": 0.15, "span": 0.2, "long": 0.05}
    )


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


def hole_range(tokens: np.ndarray, shape: InfillShape, ids: TokenIds, rng: np.random.Generator) -> tuple[int, int]:
    """A span [start, end) of `tokens`, start >= 1, as a person would leave it; may be empty (pure deletion)."""
    length = len(tokens)
    kind = rng.choice(list(shape.kinds), p=list(shape.kinds.values()))
    at = int(rng.integers(1, length))
    newlines = np.flatnonzero(tokens == ids.newline)

    def line_end(position: int) -> int:
        i = int(np.searchsorted(newlines, position))
        return int(newlines[i]) if i < len(newlines) else length

    def line_start(position: int) -> int:
        i = int(np.searchsorted(newlines, position))
        return int(newlines[i - 1]) + 1 if i > 0 else 1

    if kind == "rest":
        start, end = at, line_end(at)
    elif kind == "line":
        start, end = line_start(at), line_end(at)
        start += int(end - start > 1 and rng.random() < 0.7)  # mostly after the indentation
    elif kind == "lines":
        start, end = line_start(at), at
        for _ in range(int(rng.integers(2, 6))):
            end = min(line_end(end) + 1, length)
        end -= int(end > start and rng.random() < 0.5)  # with or without the last line end
    elif kind == "span":
        start, end = at, at + int(min(rng.geometric(0.12), 24))
    else:
        start, end = at, at + int(rng.integers(24, shape.max_hole + 1))
    start = max(1, min(start, length - 1))
    return start, max(start, min(end, length, start + shape.max_hole))


def hole_canvas(
    tokens: np.ndarray, shape: InfillShape, ids: TokenIds, rng: np.random.Generator, max_hole: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a hole's rows show, what is to be predicted there (IGNORE where revealed), and the loss weights."""
    labels = tokens.astype(np.int64)
    t = 1.0 if rng.random() < shape.all_masked else rng.random()
    masked = rng.random(len(labels)) < t
    weights = np.ones(len(labels))
    resize = rng.random()
    if resize < shape.merged:
        for _ in range(int(rng.choice([1, 2, 3, 4], p=[0.4, 0.3, 0.2, 0.1]))):
            labels, masked = merge_masks(labels, masked, ids.expand, rng)
        weights = np.ones(len(labels))
    elif resize < shape.merged + shape.surplus or len(labels) == 0:
        surplus = min(int(rng.integers(1, 25)), max_hole - len(labels))
        if surplus > 0:
            labels = np.concatenate([labels, np.full(surplus, ids.delete)])
            masked = np.concatenate([masked, np.ones(surplus, bool)])
            # together the surplus masks weigh as two tokens: enough to learn where to stop, and no flood
            weights = np.concatenate([weights, np.full(surplus, min(1.0, 2.0 / surplus))])
    shown = np.where(masked, ids.mask, labels)
    return shown, np.where(masked, labels, IGNORE), weights


def merge_masks(
    labels: np.ndarray, masked: np.ndarray, expand: int, rng: np.random.Generator, chance: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Merge neighbouring masks in pairs with probability `chance`; a merged mask is labelled `expand`."""
    out_labels, out_masked, i = [], [], 0
    while i < len(labels):
        if i + 1 < len(labels) and masked[i] and masked[i + 1] and rng.random() < chance:
            out_labels.append(expand)
            out_masked.append(True)
            i += 2
        else:
            out_labels.append(int(labels[i]))
            out_masked.append(bool(masked[i]))
            i += 1
    return np.array(out_labels, np.int64), np.array(out_masked, bool)


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
        hole = hole_canvas(tokens[start:end], shape, ids, rng, shape.max_hole)
        after = 0 if rng.random() < shape.no_suffix else int(rng.integers(8, shape.suffix + 1))
        suffix = tokens[end : end + after]
        second = None
        if rng.random() < shape.two_holes and len(suffix) > 24:
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
