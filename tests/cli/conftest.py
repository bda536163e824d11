"""A small engine in the place of the real one, and `diffill fill` run in this process."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from model_runtime.cli import report_errors
from model_runtime.commands import fill
from model_runtime.protocol import FillResult, Frame, FrameHole, HoleFill, ModelError, TokenInfo


@dataclass
class FakeEngine:
    """Answers with `texts`, one a hole, in tokens of one character; remembers the request it was given."""

    texts: list[str] = field(default_factory=lambda: ["x"])
    end: str = "complete"
    requests: list = field(default_factory=list)
    on_step: object = None  # called with the cancel event before every step of a stream and once in a fill

    def fill(self, request, cancel=None):
        if self.on_step:
            self.on_step(cancel)
        self.requests.append(request)
        end = "cancelled" if cancel is not None and cancel.is_set() else self.end
        texts = [self.texts[i % len(self.texts)] for i in range(len(request.holes))]
        holes = [
            HoleFill(start, end_, text, 0.75, "fixed", [TokenInfo(i, i + 1, 0.75, i) for i in range(len(text))])
            for (start, end_), text in zip(request.holes, texts, strict=True)
        ]
        timing = {"load": 1.0, "encode": 2.0, "denoise": 3.0, "total": 6.0}
        return FillResult(holes, [], end, 2, "fake", request.seed, timing)

    def stream(self, request, cancel=None):
        assert request.frames
        texts = [self.texts[i % len(self.texts)] for i in range(len(request.holes))]
        yield Frame(1, 2, [FrameHole("░" * len(text), []) for text in texts])
        yield Frame(2, 2, [FrameHole(text[:1] + "░" * (len(text) - 1), [(0, 1)]) for text in texts])
        yield self.fill(request, cancel)


@pytest.fixture
def engine():
    """The engine that `run_fill` uses; a test sets its texts and its end."""
    return FakeEngine()


@pytest.fixture
def run_fill(engine, capfdbinary):
    """A function that runs `diffill fill ARGUMENTS…` and returns (exit code, stdout as bytes, stderr)."""

    def load(name):
        if name != "embedded":
            raise ModelError(f"there is no model {name!r}")
        return engine

    def run(*arguments):
        capfdbinary.readouterr()
        code = report_errors(lambda: fill.main([str(argument) for argument in arguments], load=load))
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return run
