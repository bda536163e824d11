"""Context far from the hole, kept between fills of a model with full attention: an approximation with a fixed rule.

Under full attention keys and values of all text depend on all text, so that none of what was computed at one key is
exact at the next. What is near the hole is therefore computed anew in every fill, with its first step. What is far is
encoded with MASKS masks in the place of the near context and the hole, as the context of a first step sees a hole, and
kept under a digest of its tokens. The border moves in steps of STEP tokens, so most keys find all that is far.

What counts as near depends on the text alone, and what is found equals what would be encoded: an answer never depends
on what was filled before. `keep_bytes=0` (`diffill serve --keep-context 0`) computes all of the context in every fill.
docs/decoding.md has the measured difference.
"""

from __future__ import annotations

import hashlib

import numpy as np

from model_runtime.backends.interface import HOLE, Backend, Window
from model_runtime.engine.kept import KeptContext, Pair

STEP = 64  # tokens: how far the border before the hole moves at a time
MARGIN = 16  # tokens before the hole that are near at least, and tokens behind it that are near
MASKS = 8  # in the place of the near context and the hole


def near_rows(before: int, after: int) -> np.ndarray:
    """Which of `before` rows in front of a hole and `after` rows behind it are near: boolean [before + after]."""
    near_C = np.zeros(before + after, bool)
    near_C[max(0, before - MARGIN) // STEP * STEP : before + MARGIN] = True
    return near_C


def encode_far(backend: Backend, ids_C: np.ndarray, before: int, kept: KeptContext) -> tuple[np.ndarray, Pair | None]:
    """Which rows of a context [C] are far from the hole behind its first `before` rows, and their keys and values."""
    far_C = ~near_rows(before, len(ids_C) - before)
    if not far_C.any():
        return far_C, None
    ids_F, front = ids_C[far_C], int(far_C[:before].sum())
    key = hashlib.sha256(b"far %d " % front + ids_F.tobytes()).digest()
    return far_C, kept.find(key, len(ids_F), lambda: encode_around(backend, ids_F, front))


def encode_around(backend: Backend, ids_F: np.ndarray, front: int) -> Pair:
    """Keys and values of tokens [F] that stand around MASKS masks, behind the first `front` of them."""
    ids_L = np.insert(ids_F, front, [backend.facts.mask_id] * MASKS)
    window = Window(
        ids_BW=ids_L[None],
        positions_BW=np.arange(len(ids_L))[None],
        segments_BW=np.full((1, len(ids_L)), HOLE),
        rows_BR=np.zeros((1, 1), np.int64),
        bias_CV=np.zeros((1, backend.facts.vocabulary), np.float32),
        bias_rows_BR=np.zeros((1, 1), np.int64),
    )
    _, k, v = backend.window(window)
    text_L = np.ones(len(ids_L), bool)
    text_L[front : front + MASKS] = False
    return backend.keep(k, text_L), backend.keep(v, text_L)
