"""Windows as a backend may get them, and what a model in torch makes of them."""

from __future__ import annotations

import numpy as np
import torch

from model_runtime.backends.interface import BANNED, HOLE, PADDING, Past, Window


def random_window(facts, batch, width, past, rows, biases, seed):
    """A window with random ids, ascending positions, a hole in the middle, and lines that ban most ids."""
    rng = np.random.default_rng(seed)
    total = width + past
    order = np.stack([np.sort(rng.permutation(total + 5)[:total]) for _ in range(batch)])
    in_past = np.zeros(total, bool)
    in_past[rng.permutation(total)[:past]] = True
    segments = np.full((batch, width), HOLE)
    past_segments = np.full((batch, past), HOLE)
    if facts.context_blind:
        segments[:, : width // 3] = 0
        past_segments = rng.integers(0, 2, (batch, past))
    segments[0, width - width // 4 :] = PADDING
    bias = np.zeros((biases, facts.vocabulary), np.float32)
    bias[1:] = np.where(rng.random((biases - 1, facts.vocabulary)) < 0.7, BANNED, 0.0)
    shape = (facts.layers, 1, facts.kv_heads, past, facts.head_width)
    return Window(
        ids_BW=rng.integers(0, facts.vocabulary, (batch, width)),
        positions_BW=order[:, ~in_past],
        segments_BW=segments,
        rows_BR=rng.integers(0, width, (batch, rows)),
        bias_CV=bias,
        bias_rows_BR=rng.integers(0, biases, (batch, rows)),
        past=Past(
            rng.normal(size=shape).astype(np.float32),
            rng.normal(size=shape).astype(np.float32),
            order[:, in_past],
            past_segments,
        ),
        targets_BR=rng.integers(0, facts.vocabulary, (batch, rows)),
    )


def expected_window(model, window):
    """Log-probabilities [B, R, V] in numpy from the model's logits, and its keys and values."""
    given = [window.ids_BW, window.positions_BW, window.segments_BW, window.past.k_N1KPD, window.past.v_N1KPD]
    given += [window.past.positions_BP, window.past.segments_BP, window.rows_BR]
    with torch.no_grad():
        logits, k, v = model.window(*(torch.from_numpy(array) for array in given))
    biased = logits.double().numpy() + window.bias_CV.astype(np.float64)[window.bias_rows_BR]
    top = biased.max(axis=-1, keepdims=True)
    log_probs = biased - top - np.log(np.exp(biased - top).sum(axis=-1, keepdims=True))
    return log_probs, k.numpy(), v.numpy()


SHAPES = [  # batch, window, past, rows, lines of bias
    (1, 1, 0, 1, 1),
    (1, 6, 0, 4, 2),
    (1, 9, 1, 1, 1),
    (1, 4, 30, 4, 3),
    (2, 5, 12, 3, 2),
    (3, 17, 0, 8, 2),
    (4, 8, 8, 20, 5),
]
