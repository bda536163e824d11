"""What is counted of the fills, for whoever watches the daemon."""

from __future__ import annotations

import asyncio
import bisect
from dataclasses import dataclass, field

from model_runtime.protocol import FillResult

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass
class Histogram:
    """How many values were at most each bound, and their sum; the last count is of those above all bounds."""

    bounds: tuple[float, ...] = SECONDS
    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    sum: float = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass
class Figures:
    """Sums over all fills: time from arrival to text, the model's time, its steps, its tokens."""

    seconds: Histogram = field(default_factory=Histogram)
    model_s: float = 0.0
    steps: int = 0
    tokens: int = 0

    def watch(self, answer: asyncio.Future[FillResult]) -> None:
        """Count how long an answer takes from now, if it has a text in the end."""
        clock = answer.get_loop().time
        asked = clock()

        def note(done: asyncio.Future[FillResult]) -> None:
            if (
                not done.cancelled()
                and done.exception() is None
                and done.result().end not in ("superseded", "cancelled")
            ):
                self.seconds.add(clock() - asked)

        answer.add_done_callback(note)

    def worked(self, result: FillResult) -> None:
        """Count what the model did for a result."""
        self.model_s += result.timing_ms.get("total", 0.0) / 1000
        self.steps += result.steps
        self.tokens += sum(len(hole.tokens) for hole in result.holes)
