"""A small engine in the place of the real one, and `diffill fill` and `rewrite` run in this process."""

from __future__ import annotations

import os
import select
import sys
from dataclasses import dataclass, field

import pytest

from model_runtime.cli import report_errors
from model_runtime.commands import fill, rewrite
from model_runtime.protocol import (
    FillResult,
    Frame,
    FrameHole,
    HoleFill,
    ModelError,
    RewriteRequest,
    TokenInfo,
)


@dataclass
class FakeEngine:
    """Answers with `texts`, one a hole, in tokens of one character; remembers the request it was given."""

    texts: list[str] = field(default_factory=lambda: ["x"])
    end: str = "complete"
    requests: list = field(default_factory=list)
    on_step: object = None  # called with the cancel event before every step of a stream and once in a fill
    others: list[str] = field(default_factory=list)  # texts of further candidates, each for every hole
    parts: list | None = None  # the ranges that a rewrite opens; none: the whole range
    backend: str | None = None  # the one it was loaded for

    def fill(self, request, cancel=None):
        if self.on_step:
            self.on_step(cancel)
        self.requests.append(request)
        end = "cancelled" if cancel is not None and cancel.is_set() else self.end
        ranges = self.ranges(request)
        holes = [
            HoleFill(start, end_, text, 0.75, "fixed", [TokenInfo(i, i + 1, 0.75, i + 1) for i in range(len(text))])
            for (start, end_), text in zip(ranges, self.answers(request), strict=True)
        ]
        others = [[HoleFill(*span, text, 0.5, "fixed") for span in ranges] for text in self.others]
        timing = {"load": 1.0, "encode": 2.0, "denoise": 3.0, "total": 6.0}
        return FillResult(holes, others, end, 2, "fake", request.seed, timing)

    def stream(self, request, cancel=None):
        assert request.frames
        texts = self.answers(request)
        yield Frame(1, 2, [FrameHole("░" * len(text), []) for text in texts])
        first = [TokenInfo(0, 1, 0.9, 2)]
        yield Frame(2, 2, [FrameHole(text[:1] + "░" * (len(text) - 1), [(0, 1)], tokens=first) for text in texts])
        yield self.fill(request, cancel)

    def ranges(self, request):
        return (self.parts or [request.range]) if isinstance(request, RewriteRequest) else request.holes

    def answers(self, request):
        return [self.texts[i % len(self.texts)] for i in range(len(self.ranges(request)))]


@pytest.fixture
def engine():
    """The engine that `run_fill` uses; a test sets its texts and its end."""
    return FakeEngine()


@pytest.fixture
def run_fill(engine, capfdbinary):
    """A function that runs `diffill fill ARGUMENTS…` and returns (exit code, stdout as bytes, stderr)."""
    return runner(fill, engine, capfdbinary)


@pytest.fixture
def run_rewrite(engine, capfdbinary):
    """A function that runs `diffill rewrite ARGUMENTS…` and returns (exit code, stdout as bytes, stderr)."""
    return runner(rewrite, engine, capfdbinary)


@pytest.fixture
def draw(monkeypatch):
    """A function that calls `run` with a terminal as stderr and returns what was drawn, the summary last."""

    def drawn_by(run):
        import pty

        reader, writer = pty.openpty()
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        drawn = b""
        with os.fdopen(writer, "w", encoding="utf-8") as terminal, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            assert run()[0] == 0
            while b" ms, " not in drawn and select.select([reader], [], [], 10)[0]:  # it may come in pieces
                drawn += os.read(reader, 65536)
        os.close(reader)
        return drawn.decode()

    return drawn_by


def runner(command, engine, captured):
    """A function that runs the `main` of a command's module with `engine`."""

    def load(name, backend):
        if name != "embedded":
            raise ModelError(f"there is no model {name!r}")
        engine.backend = backend
        return engine

    def run(*arguments):
        captured.readouterr()
        code = report_errors(lambda: command.main([str(argument) for argument in arguments], load=load))
        out, err = captured.readouterr()
        return code, out, err.decode()

    return run
