"""The holes that a model learns to fill: where they are, what they show, and what is asked for.

Holes are spans as people leave them: the rest of a line, a line, a few lines, any run of tokens; now and then two
holes with code between. Their tokens are masked with probability t (t = 1 for a share of them, as at the first
step of a fill, else uniform). Sizes are taught with DreamOn's targets (arXiv 2602.01326): surplus masks at the
end are labelled `delete`, neighbouring masks are merged and labelled `expand`; here merging may repeat, so that
a hole can start far too short. Other holes look as the search from the left sees them (`engine/search.py`): begun, with
a few masks behind whatever is left, which are the next tokens, or `delete` where the hole is at its end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

IGNORE = -100
BEGUN_MASKS = (4.0, 1.0)  # weights of the masks of a begun hole: the search asks for the first


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
    begun: float = 0.0  # holes as the search sees them
    max_hole: int = 96
    keep_suffix_loss: float = 0.3  # suffixes repeat tokens of other stretches: not all of them carry loss
    kinds: dict[str, float] = field(
        default_factory=lambda: {"rest": 0.35, "line": 0.25, "lines": 0.15, "span": 0.2, "long": 0.05}
    )


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


def begun_canvas(
    tokens: np.ndarray, ids: TokenIds, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A hole of which some tokens are written and BEGUN_MASKS masks follow: shown, labels, weights as above."""
    written = int(rng.integers(0, len(tokens) + 1))
    ahead = np.append(tokens[written:].astype(np.int64), [ids.delete] * len(BEGUN_MASKS))[: len(BEGUN_MASKS)]
    shown = np.append(tokens[:written].astype(np.int64), np.full(len(ahead), ids.mask))
    labels = np.append(np.full(written, IGNORE), ahead)
    return shown, labels, np.append(np.zeros(written), BEGUN_MASKS)


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
