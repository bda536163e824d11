"""Which masks are revealed in a step, from the candidates that a backend returned. numpy only.

- `threshold` reveals every mask whose probability reaches a bound, at least one a step in every hole (Fast-dLLM, arXiv
  2505.22618). Where the token of an earlier fill is the best candidate again, half of that is enough (`drafts.py`).
- `maskgit_plus`, `topk_margin`, `entropy` reveal the surest few by probability, by the gap between the two best, by
  negative entropy; as many a step as the number of steps asks for.
- `origin` reveals each mask with the same probability, in random order.

The probability that counts is always the one at temperature 1: a temperature changes what is drawn, and must not
make the model look surer than it is.

Legend: R masked rows, A candidates a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from model_runtime.backends.interface import Candidates

# In a hole that looks for its size, a mask that is revealed for want of a surer one counts this much less for each mask
# before it: what stands far from known text may still have to go (position-aware, as in PC-Sampler, arXiv 2508.13021).
LEFT_BIAS = 0.4
DRAFT_SHARE = 0.5  # of the threshold that a token must reach which stood there before
RESIZE_SURE = 0.7  # a mask becomes two, or goes away, only when that is this probable


@dataclass
class Reveal:
    """Row `row` of the candidates shows `token`, which the model gives `confidence` (a probability)."""

    row: int
    token: int
    confidence: float


def draw(
    log_probs_RA: np.ndarray,
    temperature: float,
    top_p: float | None,
    top_k: int | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose one candidate of each row [R]: the best at temperature 0, else drawn after top-k and top-p."""
    rows, count = log_probs_RA.shape
    if temperature == 0:
        return np.zeros(rows, np.int64)
    scaled = log_probs_RA.astype(np.float64) / temperature
    if top_k is not None and top_k < count:
        scaled[:, top_k:] = -np.inf
    probs = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    if top_p is not None and top_p < 1:
        before = probs.cumsum(axis=1) - probs  # the first candidate that crosses the bound stays
        probs = np.where(before > top_p, 0.0, probs)
        probs /= probs.sum(axis=1, keepdims=True)
    uniform = rng.random((rows, 1))
    choice = (probs.cumsum(axis=1) < uniform).sum(axis=1)
    last = (probs > 0).shape[1] - 1 - np.argmax((probs > 0)[:, ::-1], axis=1)
    return np.minimum(choice, last)


def reveals(
    sampler: str,
    candidates: Candidates,
    *,
    threshold: float,
    steps_left: int | None,
    temperature: float = 0.0,
    top_p: float | None = None,
    top_k: int | None = None,
    rng: np.random.Generator,
    resizing: tuple[int, ...] = (),
    holes_R: np.ndarray | None = None,
    distance_R: np.ndarray | None = None,
    drafts_R: np.ndarray | None = None,
) -> list[Reveal]:
    """The reveals of one step over all masked rows (batch 1), at least one.

    A row whose choice is one of the `resizing` ids (expand, delete) takes its best text instead unless the model is
    sure (RESIZE_SURE): early in a fill these ids are likely everywhere and certain nowhere.

    `holes_R` is the number of the hole that each row belongs to, `distance_R` how many masks of it stand before, given
    where holes look for their size (LEFT_BIAS); `drafts_R` the token that an earlier fill had there, or -1.
    `steps_left` counts this step; none means as many steps as the sampler needs: for `threshold` until all is sure, for
    the others one mask a step.
    """
    ids_RA, log_probs_RA = candidates.ids_BRA[0], candidates.log_probs_BRA[0]
    rows = len(ids_RA)
    choice_R = draw(log_probs_RA, temperature, top_p, top_k, rng)
    choice_R = text_unless_sure(ids_RA, log_probs_RA, choice_R, resizing)
    probability_R = np.exp(np.take_along_axis(log_probs_RA, choice_R[:, None], axis=1)[:, 0])
    if sampler == "origin":
        share = 1.0 / (steps_left if steps_left is not None else rows)
        chosen = np.flatnonzero(rng.random(rows) < share)
        if len(chosen) == 0:
            chosen = rng.integers(rows, size=1)
    else:
        order_by = {
            "threshold": probability_R,
            "maskgit_plus": probability_R,
            "topk_margin": candidates.margin_BR[0],
            "entropy": -candidates.entropy_BR[0],
        }[sampler]
        order_R = np.argsort(-order_by, kind="stable")
        chosen = order_R[: math.ceil(rows / steps_left) if steps_left is not None else int(sampler != "threshold")]
        if sampler == "threshold":
            bound_R = np.full(rows, threshold)
            if drafts_R is not None:
                bound_R[drafts_R == ids_RA[np.arange(rows), choice_R]] *= DRAFT_SHARE
            sure = np.flatnonzero(probability_R >= bound_R)
            holes_R = np.zeros(rows, np.int64) if holes_R is None else holes_R
            if distance_R is not None:
                order_R = np.argsort(-probability_R * LEFT_BIAS**distance_R, kind="stable")
            first_of_holes = order_R[np.unique(holes_R[order_R], return_index=True)[1]]
            chosen = np.unique(np.concatenate([chosen, sure, first_of_holes]))
    return [Reveal(int(row), int(ids_RA[row, choice_R[row]]), float(min(1.0, probability_R[row]))) for row in chosen]


def text_unless_sure(
    ids_RA: np.ndarray, log_probs_RA: np.ndarray, choice_R: np.ndarray, resizing: tuple[int, ...]
) -> np.ndarray:
    """The choices [R], with an unsure expand or delete replaced by the best candidate that is text."""
    if not resizing:
        return choice_R
    resizes_RA = np.isin(ids_RA, resizing)
    chosen = np.take_along_axis(resizes_RA, choice_R[:, None], axis=1)[:, 0]
    sure = np.take_along_axis(log_probs_RA, choice_R[:, None], axis=1)[:, 0] >= math.log(RESIZE_SURE)
    return np.where(chosen & ~sure, np.argmin(resizes_RA, axis=1), choice_R)
