"""Backends without a model: numpy, deterministic, and a record of what they were asked."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from model_runtime.backends.interface import CANDIDATES, HOLE, PADDING, Candidates, Window
from model_runtime.models.families import ModelFacts


def fake_facts(**changes) -> ModelFacts:
    """Facts that fit the small tokenizer of tests/conftest.py: 380 ids, eight more in the head."""
    facts = {
        "name": "fake",
        "mask_id": 2,
        "vocabulary": 388,
        "tokenizer_size": 380,
        "context_length": 128,
        "layers": 1,
        "kv_heads": 1,
        "head_width": 1,
        "shift": True,
        "context_blind": True,
        "bos_id": 1,
        "pad_id": 0,
        "expand_id": 3,
        "delete_id": 4,
        "start_masks": 4,
        "probe_bias": ((1, 0.1), (2, 0.1), (4, 0.1), (8, 0.1)),
    }
    return ModelFacts(**facts | changes)


def reduce(logits_RV: np.ndarray, bias_RV: np.ndarray, targets_R: np.ndarray | None) -> tuple:
    """One batch row of candidates: ids, log-probabilities, margin, entropy, log-probabilities of targets."""
    biased = logits_RV + bias_RV
    top = biased.max(axis=1, keepdims=True)
    log_probs = biased - top - np.log(np.exp(biased - top).sum(axis=1, keepdims=True))
    ids = np.argsort(-log_probs, axis=1, kind="stable")[:, :CANDIDATES]
    best = np.take_along_axis(log_probs, ids, axis=1)
    entropy = -(np.exp(log_probs) * np.maximum(log_probs, -1e4)).sum(axis=1)
    asked = None if targets_R is None else np.take_along_axis(log_probs, targets_R[:, None], axis=1)[:, 0]
    return ids, best, np.exp(best[:, 0]) - np.exp(best[:, 1]), entropy, asked


class FakeBackend:
    """Logits are a hash of everything a row sees; keys and values are the ids, so that a past can be read again.

    Whatever is computed from the cache therefore equals what is computed whole, as in a context_blind model, and
    differs as soon as one id, position or order differs.
    """

    name = "fake"

    def __init__(self, facts: ModelFacts | None = None, sharpness: float = 3.0):
        self.facts = facts or fake_facts()
        self.sharpness = sharpness
        self.windows: list[Window] = []

    def logits(self, ids_T: np.ndarray, at: int) -> np.ndarray:
        """Logits [V] of the row at index `at` of everything that is visible to it, in order of position."""
        seed = zlib.crc32(np.append(ids_T, at).astype(np.int64).tobytes())
        return np.random.default_rng(seed).normal(0, self.sharpness, self.facts.vocabulary)

    def window(self, window: Window) -> tuple[Candidates, np.ndarray, np.ndarray]:
        self.windows.append(window)
        self.check(window)
        batch = window.ids_BW.shape[0]
        parts = [self.row_of_batch(window, b) for b in range(batch)]
        ids, best, margin, entropy, asked = (
            None if column[0] is None else np.stack(column) for column in zip(*parts, strict=True)
        )
        cached = window.ids_BW.astype(np.float32)[None, :, None, :, None]
        return Candidates(ids, best, margin, entropy, asked), cached, cached

    def windows(self, windows: list[Window]) -> list:
        return [self.window(window) for window in windows]

    def row_of_batch(self, window: Window, b: int) -> tuple:
        ids, positions, segments = window.ids_BW[b], window.positions_BW[b], window.segments_BW[b]
        if window.past is not None:
            past = window.past.k_N1KPD[0, 0, 0, :, 0].astype(np.int64)
            ids = np.concatenate([past, ids])
            positions = np.concatenate([window.past.positions_BP[b], positions])
            segments = np.concatenate([window.past.segments_BP[b], segments])
        own = len(ids) - window.ids_BW.shape[1]
        logits = []
        for row in window.rows_BR[b] + own:
            visible = segments != PADDING
            if segments[row] != HOLE:
                visible = (segments == segments[row]) & (positions <= positions[row])
            order = np.flatnonzero(visible)[np.argsort(positions[visible], kind="stable")]
            logits.append(self.logits(ids[order], int(np.flatnonzero(order == row)[0])))
        targets = None if window.targets_BR is None else window.targets_BR[b]
        return reduce(np.stack(logits), window.bias_CV[window.bias_rows_BR[b]], targets)

    def check(self, window: Window) -> None:
        """What a real backend takes for granted."""
        batch, width = window.ids_BW.shape
        assert window.positions_BW.shape == window.segments_BW.shape == (batch, width)
        assert window.rows_BR.shape == window.bias_rows_BR.shape
        assert window.rows_BR.size
        assert ((window.rows_BR >= 0) & (window.rows_BR < width)).all()
        assert window.bias_CV.dtype == np.float32
        assert window.bias_rows_BR.max() < len(window.bias_CV)
        assert ((window.ids_BW >= 0) & (window.ids_BW < self.facts.vocabulary)).all()
        for b in range(batch):
            real = window.segments_BW[b] != PADDING
            positions = window.positions_BW[b][real].tolist()
            if window.past is not None:
                assert window.past.k_N1KPD.shape[3] == window.past.positions_BP.shape[1]
                assert (
                    window.past.positions_BP.shape
                    == window.past.segments_BP.shape
                    == (batch, len(window.past.positions_BP[b]))
                )
                positions += window.past.positions_BP[b][window.past.segments_BP[b] != PADDING].tolist()
            assert len(set(positions)) == len(positions), "two tokens at one position"

    def keep(self, cached_NBKWD: np.ndarray, wanted_W: np.ndarray) -> np.ndarray:
        return cached_NBKWD[:, :, :, wanted_W]

    def join(self, parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts, axis=3)

    def write(self, past, at, cached, rows):
        past[:, :, :, at] = cached[:, :, :, rows]


class ScriptedBackend(FakeBackend):
    """Says what a test wants: `script(step, shown)` gives, for each masked token in order, {token: probability}.

    `step` counts the windows that ask for masks, from 0; `shown` are the ids of the hole's rows (and of the row
    before it). What is left of the probability goes to `rest`. Banned ids lose their share.
    """

    def __init__(
        self, script: Callable[[int, list[int]], list[dict[int, float]]], rest: int, facts: ModelFacts | None = None
    ):
        super().__init__(facts)
        self.script, self.rest, self.step = script, rest, 0

    def window(self, window: Window) -> tuple[Candidates, np.ndarray, np.ndarray]:
        _, k, v = super().window(window)
        masks = int((window.ids_BW[0] == self.facts.mask_id).sum())
        rows = window.rows_BR.shape[1]
        logits = np.full((rows, self.facts.vocabulary), -30.0)
        if masks and (window.segments_BW[0][window.rows_BR[0]] == HOLE).all():
            answers = self.script(self.step, window.ids_BW[0].tolist())
            self.step += 1
            for row, answer in enumerate(answers[:rows]):
                for token, probability in answer.items():
                    logits[row, token] = np.log(probability)
                left = 1 - sum(answer.values())
                if left > 1e-6:
                    logits[row, self.rest] = np.logaddexp(logits[row, self.rest], np.log(left))
            logits[len(answers) :, self.rest] = 0.0
        ids, best, margin, entropy, _ = reduce(logits, window.bias_CV[window.bias_rows_BR[0]], None)
        return Candidates(ids[None], best[None], margin[None], entropy[None]), k, v
