"""How well each length policy sizes and fills the same holes, and what that costs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from model_runtime.backends.interface import HOLE, Backend, Window
from model_runtime.engine.engine import Engine
from model_runtime.protocol import FillRequest, FillResult
from training.evaluation import metrics
from training.evaluation.holes import HoldoutHole
from training.evaluation.infill import MAX_LINES
from training.evaluation.oracle import oracle_length
from training.evaluation.reporting import Report

POLICIES = ("fixed:64", "probe", "expand", "search", "oracle")  # oracle: fixed, with the number of tokens of the truth


class Counted:
    """A backend that counts how often it is asked; context encoded in chunks, one after another, counts as one pass."""

    def __init__(self, backend: Backend):
        self.backend, self.facts, self.name, self.passes = backend, backend.facts, backend.name, 0
        self._encoding = False

    def window(self, window: Window) -> Any:
        encoding = not (window.segments_BW == HOLE).any()
        self.passes += not (encoding and self._encoding)
        self._encoding = encoding
        return self.backend.window(window)

    def windows(self, windows: list[Window]) -> Any:
        return [self.window(window) for window in windows]

    def keep(self, *arguments: Any) -> Any:
        return self.backend.keep(*arguments)

    def join(self, *arguments: Any) -> Any:
        return self.backend.join(*arguments)

    def write(self, *arguments: Any) -> None:
        self.backend.write(*arguments)


@dataclass(frozen=True)
class Row:
    """One hole's fill under one policy; lengths in tokens, of the fill read anew."""

    exact: bool
    similarity: float
    length: int
    true_length: int
    steps: int
    passes: int
    ms: float


def request_for(hole: HoldoutHole, **options: Any) -> FillRequest:
    """The request that fills a hole, with as many lines as its kind may have."""
    at = len(hole.prefix)
    text = hole.prefix + hole.suffix
    return FillRequest(text=text, holes=[(at, at)], max_lines=MAX_LINES[hole.kind], language="python", **options)


def policies_of(engine: Engine) -> list[str]:
    """The length policies that the model can serve."""
    grows = engine.facts.expand_id is not None and engine.facts.delete_id is not None
    return [policy for policy in POLICIES if policy not in ("expand", "search") or grows]


def measure_lengths(engine: Engine, holes: Iterable[HoldoutHole], seed: int) -> dict[str, list[Row]]:
    """Fill every hole under every policy; passes count what the backend computed, the encoding included."""
    counted = Counted(engine.backend)
    engine.backend = counted
    rows: dict[str, list[Row]] = {policy: [] for policy in policies_of(engine)}

    def fill(hole: HoldoutHole, policy: str) -> FillResult:
        length = f"fixed:{oracle_length(engine, hole)}" if policy == "oracle" else policy
        return engine.fill(request_for(hole, length=length, seed=seed))

    for number, hole in enumerate(holes):
        true_length = len(engine.tokenizer.encode(hole.truth))
        for policy in rows:
            if number == 0:
                fill(hole, policy)  # what is measured or loaded once belongs to no hole
            before = counted.passes
            result = fill(hole, policy)
            text = result.holes[0].text
            rows[policy].append(
                Row(
                    exact=metrics.exact_match(text, hole.truth),
                    similarity=metrics.edit_similarity(text, hole.truth),
                    length=len(engine.tokenizer.encode(text.rstrip())),
                    true_length=true_length,
                    steps=result.steps,
                    passes=counted.passes - before,
                    ms=result.timing_ms["total"],
                )
            )
    return rows


def summarize_lengths(rows: Sequence[Row]) -> Report:
    """The figures of one policy; shares in 0 to 1 with 95 % intervals."""
    count, exact = len(rows), sum(row.exact for row in rows)
    same = sum(row.length == row.true_length for row in rows)
    return {
        "holes": count,
        "exact": exact / count,
        "exact_95": metrics.wilson_interval(exact, count),
        "similarity": statistics.fmean(row.similarity for row in rows),
        "same_length": same / count,
        "same_length_95": metrics.wilson_interval(same, count),
        "length_error": statistics.fmean(abs(row.length - row.true_length) for row in rows),
        "steps_mean": statistics.fmean(row.steps for row in rows),
        "passes_mean": statistics.fmean(row.passes for row in rows),
        "ms_median": statistics.median(row.ms for row in rows),
    }
