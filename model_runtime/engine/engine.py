"""The front door: load a model, fill holes, watch the canvas settle.

engine = Engine.load("embedded")
result = engine.fill(FillRequest(text=source, holes=[(120, 180)]))
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model_runtime.backends.interface import Backend
from model_runtime.catalog.catalog import find_model
from model_runtime.engine.cache import ContextCache
from model_runtime.engine.canvas import build_canvas, frame, hole_fill
from model_runtime.engine.denoise import Bans, Cancel, Outcome, Settings, denoise
from model_runtime.engine.lengths import resolve_policy, start_holes
from model_runtime.models.families import read_facts
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import FillRequest, FillResult, Frame, ModelError


class Engine:
    """A loaded model. Not for several threads at once: the daemon queues requests before it."""

    def __init__(self, backend: Backend, tokenizer: TextTokenizer, load_ms: float = 0.0):
        facts = backend.facts
        if tokenizer.size > facts.vocabulary:
            raise ModelError(
                f"the tokenizer of {facts.name} has {tokenizer.size} tokens, the model only {facts.vocabulary}"
            )
        self.backend, self.tokenizer, self.facts = backend, tokenizer, facts
        self._bans = Bans(facts, tokenizer)
        self._load_ms = load_ms

    @classmethod
    def load(cls, model: str | Path = "embedded", backend: str = "auto", threads: int | None = None) -> Engine:
        """Load "embedded" or a model folder; ModelError with one sentence when that cannot be done."""
        start = time.perf_counter()
        folder = find_model(model)
        tokenizer = TextTokenizer(folder / "tokenizer.json")
        loaded = load_backend(folder, backend, threads)
        return cls(loaded, tokenizer, (time.perf_counter() - start) * 1000)

    def fill(self, request: FillRequest, cancel: Cancel | None = None) -> FillResult:
        """Fill every hole of the request, all in one canvas; RequestError if the request cannot be served."""
        for message in self.stream(request, cancel):
            if isinstance(message, FillResult):
                return message
        raise AssertionError("a stream ends with a result")

    def stream(self, request: FillRequest, cancel: Cancel | None = None) -> Iterator[Frame | FillResult]:
        """Yield a Frame after each denoising step if the request wants frames, and the result last."""
        start = time.perf_counter()
        request.check()
        policy = resolve_policy(request.length, self.facts)
        canvas = build_canvas(self.tokenizer, self.facts, request.text, request.holes)
        start_holes(canvas.holes, policy, request.max_tokens, self.facts)
        deadline = None if request.deadline_ms is None else start + request.deadline_ms / 1000
        settings = Settings(request, policy, deadline, cancel, np.random.default_rng(request.seed))
        cache = ContextCache(self.backend, canvas, request.cache == "on")
        encoded = time.perf_counter()
        outcome = Outcome()
        newline = self.tokenizer.newline_id
        for _ in denoise(self.backend, cache, canvas, self._bans, settings, outcome, newline):
            if request.frames:
                expected = max(request.steps or 0, outcome.steps + canvas.masked())
                yield frame(canvas, self.tokenizer, self.facts, outcome.steps, expected)
        done = time.perf_counter()
        holes = [
            hole_fill(hole, self.tokenizer, self.facts, policy, canvas.line_end, request.max_lines)
            for hole in canvas.holes
        ]
        end = outcome.end
        if end in ("complete", "max_tokens") and not any(hole.text for hole in holes):
            end = "empty"
        timing = {
            "load": round(self._load_ms, 2),
            "encode": round((encoded - start) * 1000, 2),
            "denoise": round((done - encoded) * 1000, 2),
            "total": round((done - start) * 1000, 2),
        }
        yield FillResult(holes, [], end, outcome.steps, self.facts.name, request.seed, timing)


def load_backend(folder: Path, backend: str, threads: int | None) -> Backend:
    """Load a folder into "onnx" or "torch"; "auto" takes ONNX where the folder has a graph."""
    if backend not in ("auto", "onnx", "torch"):
        raise ModelError(f"backend is auto, onnx or torch, not {backend!r}")
    if backend == "onnx" or (backend == "auto" and (folder / "model.onnx").is_file()):
        from model_runtime.backends.onnx import OnnxBackend

        return OnnxBackend(folder, threads)
    read_facts(folder)  # what is wrong with the folder comes before what is not installed
    try:
        from model_runtime.backends.torch import TorchBackend
    except ImportError as error:
        raise ModelError(
            f"{folder} has no model.onnx, and torch is not installed: pip install diffill[torch]"
        ) from error
    return TorchBackend(folder)
