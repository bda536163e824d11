"""Rollouts: completions of problems by the model in training, and what is known of each.

Rows are decoded in chunks of fixed size, each with a seed of its own, so that the number of processes changes nothing.

Legend: B rows of a chunk, L length.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_runtime.engine.generate import diffusion_generate
from model_runtime.models.tokenizer import TextTokenizer
from training.evaluation.arness import Order, decoding_orders, global_arness, local_arness
from training.grpo.problems import Problem
from training.grpo.recipe import Rollouts
from training.grpo.threshold import threshold_generate


@dataclass
class Rollout:
    """A completion. `ids` is the row without padding; the completion begins at `start` and has the problem's length."""

    problem: Problem
    number: int  # of the row in the whole run
    ids: np.ndarray
    start: int
    counted: int  # tokens of the completion that the loss counts: to its end, that included
    text: str
    order: Order
    passes: int  # forwards of its chunk

    @property
    def length(self) -> int:
        """Tokens of the completion."""
        return self.problem.length

    def figures(self) -> dict[str, float | None]:
        """Length in tokens of text, and how near to left-to-right it was decoded."""
        written = self.order.positions
        return {
            "length": float(self.counted),
            "arness_local": local_arness(written, 1, "sequence", "valid"),
            "arness_global": global_arness(written, 1),
        }


@dataclass(frozen=True)
class Decoder:
    """How this run makes text of a model's masks."""

    settings: Rollouts
    tokenizer: TextTokenizer
    mask: int
    pad: int
    ends: frozenset[int]  # ids after which an answer is over
    compat: bool = False

    def __call__(
        self, model: Any, problems: Sequence[Problem], numbers: Sequence[int], seed: int, device: torch.device
    ) -> list[Rollout]:
        """A chunk: one completion of each problem. The model is asked without gradients."""
        start_BL, present_BL = canvases(problems, self.mask, self.pad)
        generator = torch.Generator().manual_seed(seed)
        settings = self.settings
        sampling: dict[str, Any] = {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
            "generator": generator,
        }
        most = max(problem.length for problem in problems)
        given_BL, seen_BL = start_BL.to(device), present_BL.to(device)
        if settings.decoding == "threshold":
            limits = {"threshold": settings.threshold, "refresh": settings.refresh}
            found_BL, history, passes = threshold_generate(model, given_BL, seen_BL, **limits, **sampling)
        else:
            passes = settings.steps or most
            appended: dict[str, Any] = {}
            if self.compat:  # the reference appends the masks by itself; omitted filters mean others there
                given_BL, seen_BL, appended = given_BL[:, :-most], seen_BL[:, :-most], {"max_new_tokens": most}
                sampling |= {} if settings.top_k else {"top_k": 50}
            done = diffusion_generate(
                model,
                given_BL,
                seen_BL.long(),
                steps=passes,
                alg=settings.algorithm,
                output_history=True,
                compat=self.compat,
                **appended,
                **sampling,
            )
            found_BL, history = done.sequences, done.history or []
        orders = decoding_orders(start_BL, [canvas_BL.cpu() for canvas_BL in history], self.mask)
        rows = found_BL.cpu().numpy()
        return [
            self.rollout(problem, number, row[-present:], order, passes)
            for problem, number, row, present, order in zip(
                problems, numbers, rows, present_BL.sum(1).tolist(), orders, strict=True
            )
        ]

    def rollout(self, problem: Problem, number: int, ids: np.ndarray, order: Order, passes: int) -> Rollout:
        """What became of one row. An infill counts whole: tokens that stand for nothing are part of what was chosen."""
        start = len(problem.before)
        completion = ids[start : start + problem.length].tolist()
        counted = len(completion) if problem.infill else counted_until(completion, self.ends)
        written = completion[:counted]
        text = self.tokenizer.decode_bytes([i for i in written if i < self.tokenizer.size]).decode("utf-8", "replace")
        return Rollout(problem, number, ids.copy(), start, counted, text, order, passes)


def counted_until(ids: Sequence[int], ends: Collection[int]) -> int:
    """How many ids there are up to the first of `ends`, that included."""
    return next((at for at, i in enumerate(ids, 1) if i in ends), len(ids))


def canvases(problems: Sequence[Problem], mask: int, pad: int) -> tuple[Tensor, Tensor]:
    """The rows to fill, padded on the left, and where they are not padding, each [B, L]."""
    rows = [[*p.before, *[mask] * p.length, *p.after] for p in problems]
    return stack_left(rows, pad)


def stack_left(rows: Sequence[Sequence[int] | np.ndarray], pad: int, width: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of ids [B, L] with `pad` on the left up to the longest, or `width`, and where they are no padding."""
    width = max(width, *map(len, rows))
    ids_BL = torch.full((len(rows), width), pad, dtype=torch.long)
    present_BL = torch.zeros(ids_BL.shape, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids_BL[number, width - len(row) :] = torch.as_tensor(np.asarray(row, np.int64))
        present_BL[number, width - len(row) :] = True
    return ids_BL, present_BL
