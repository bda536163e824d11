"""Three ways to lay a stretch of code out as a training row, by the name in a recipe (`InfillShape.layout`).

- `hanging`: a causal stretch with holes that hang on it (`infill.py`), for `context_blind` models.
- `canvas`: one canvas in which every row sees every other, for models with full attention: holes as `holes.py` draws
  them, several at once, or, for half of the rows, tokens masked anywhere with probability t ~ U(0, 1), as masked
  diffusion language models are trained (LLaDA, arXiv 2502.09992).
- `causal`: nothing but the next-token loss, the autoregressive start of a model that is adapted later.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.objectives.holes import IGNORE, InfillShape, TokenIds, hole_canvas, hole_range
from training.objectives.infill import PREFIX, RowBuilder, infill_row, put_window

ANYWHERE = 0.5  # share of canvases whose masks lie anywhere
MOST_HOLES = 4  # of a canvas
HOLE_LENGTH = 32  # at least so many tokens for each

Arrays = dict[str, np.ndarray]
Layout = Callable[[np.ndarray, InfillShape, TokenIds, np.random.Generator], Arrays]


def causal_row(stretch: np.ndarray, shape: InfillShape, ids: TokenIds, rng: np.random.Generator) -> Arrays:
    """One causal stretch [T] with the next token as the target everywhere; bos is put before it here."""
    tokens = np.concatenate([[ids.bos], stretch.astype(np.int64)])[: shape.row_length]
    row, count = RowBuilder(shape.row_length, ids), len(tokens)
    labels = np.append(tokens[1:], IGNORE)
    row.put(count, ids=tokens, positions=np.arange(count), kind=PREFIX, limit=np.arange(count), next_labels=labels)
    return row.arrays


def canvas_row(stretch: np.ndarray, shape: InfillShape, ids: TokenIds, rng: np.random.Generator) -> Arrays:
    """One canvas [T] of a model with full attention; bos is put before the stretch here."""
    tokens = stretch.astype(np.int64)
    if rng.random() < ANYWHERE:
        parts = [noised(tokens, ids, rng)]
    else:
        parts = holes(tokens, shape, ids, rng)
    shown, labels, weights = (np.concatenate(column)[: shape.row_length - 1] for column in zip(*parts, strict=True))
    row = RowBuilder(shape.row_length, ids)
    put_window(row, ids.bos, (shown, labels, weights), 0, 1, limit=-1)
    return row.arrays


def noised(tokens: np.ndarray, ids: TokenIds, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens with masks anywhere: what is shown, the labels, the weights."""
    masked = rng.random(len(tokens)) < rng.random()
    masked[rng.integers(len(tokens))] = True  # nothing masked would teach nothing
    return np.where(masked, ids.mask, tokens), np.where(masked, tokens, IGNORE), np.ones(len(tokens))


def holes(
    tokens: np.ndarray, shape: InfillShape, ids: TokenIds, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The tokens in pieces, context and holes in turn: what is shown, the labels and the weights of each."""
    count = int(rng.integers(1, max(1, min(MOST_HOLES, len(tokens) // HOLE_LENGTH)) + 1))
    pieces = []
    for part in np.array_split(tokens, count):
        start, end = hole_range(part, shape, ids, rng)
        for context in (part[:start], None, part[end:]):
            if context is None:
                pieces.append(hole_canvas(part[start:end], shape, ids, rng, shape.max_hole))
            else:
                pieces.append((context, np.full(len(context), IGNORE), np.ones(len(context))))
    return pieces


LAYOUTS: dict[str, Layout] = {"hanging": infill_row, "canvas": canvas_row, "causal": causal_row}
