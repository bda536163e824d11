"""A worker whose model does what the text of a request says; run as a process, it is the real worker with this model.

`hold` goes on, a step at a time, until it is cancelled; `crash` ends the process; `memory` runs out of it; `bug` raises
with the text in its message; a request with a draft is filled with it, in brackets; anything else gets "ok", a
frame a letter. Every character of the text counts as a token of the prompt.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

from model_runtime.daemon.worker import run
from model_runtime.protocol import FillResult, Frame, FrameHole, HoleFill, ModelError, TokenInfo

TIMING = {"load": 0.0, "encode": 0.0, "denoise": 1.0, "total": 1.0}


def result_for(request, text: str, end: str = "complete", steps: int = 2) -> FillResult:
    """An answer with the same text in every hole."""
    spans = getattr(request, "holes", None) or [request.range]
    tokens = [TokenInfo(n, n + 1, 0.5, n + 1) for n in range(len(text))]
    holes = [HoleFill(start, finish, text, 0.5, "fixed:2", tokens) for start, finish in spans]
    return FillResult(holes, [], end, steps, "fake", request.seed, dict(TIMING), len(request.text))


class FakeModel:
    """Streams without a model."""

    instructed = True

    def stream(self, request, cancel: threading.Event, draft: str) -> Iterator[Frame | FillResult]:
        text = request.text
        if draft:
            yield result_for(request, f"<{draft}>")
            return
        if "crash" in text:
            os._exit(3)
        if "memory" in text:
            raise MemoryError
        if "bug" in text:
            raise KeyError(text)
        step = 0
        while "hold" in text and not cancel.is_set():
            step += 1
            yield Frame(step, 9, [FrameHole("░", [])])
            cancel.wait(20)  # a step: it lasts until the cancel comes, so a second one shows that it was not heard
        if "hold" in text:
            yield result_for(request, "", "cancelled", step)
            return
        for n in (1, 2):
            yield Frame(n, 2, [FrameHole("ok"[:n] + "░" * (2 - n), [(0, n)])])
        yield result_for(request, "ok")


def load(model: str) -> FakeModel:
    """Every model is this one, but for two."""
    if model == "nonesuch":
        raise ModelError("there is no model 'nonesuch'")
    if model == "deadly":
        os._exit(4)
    print("a library that prints", file=sys.stdout)
    return FakeModel()


if __name__ == "__main__":
    run(load)
