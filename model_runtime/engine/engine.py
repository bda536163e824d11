"""The front door: load a model, fill holes, watch the canvas settle.

engine = Engine.load("embedded")
result = engine.fill(FillRequest(text=source, holes=[(120, 180)]))
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from model_runtime.backends.interface import Backend
from model_runtime.catalog.catalog import find_model
from model_runtime.engine.cache import ContextCache
from model_runtime.engine.candidates import enough, variants
from model_runtime.engine.canvas import Canvas, add_masks, build_canvas, frame, hole_fill
from model_runtime.engine.denoise import Bans, Cancel, Outcome, Settings, denoise
from model_runtime.engine.drafts import lay_draft
from model_runtime.engine.expert import CountedExpert, Expert, local_tokens
from model_runtime.engine.kept import LIMIT, KeptContext
from model_runtime.engine.lengths import (
    LADDER,
    OTHER_HOLES,
    measure_bias,
    probe_lengths,
    resolve_policy,
    start_holes,
    told_probe,
)
from model_runtime.engine.rewrite import parts_to_rewrite
from model_runtime.models.families import read_facts
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import (
    End,
    FillRequest,
    FillResult,
    Frame,
    HoleFill,
    ModelError,
    Options,
    RewriteRequest,
)


class Engine:
    """A loaded model. Not for several threads at once: the daemon queues requests before it."""

    def __init__(
        self,
        backend: Backend,
        tokenizer: TextTokenizer,
        load_ms: float = 0.0,
        expert: Expert | None = None,
        keep_bytes: int = LIMIT,
    ):
        facts = backend.facts
        if tokenizer.size > facts.vocabulary:
            raise ModelError(
                f"the tokenizer of {facts.name} has {tokenizer.size} tokens, the model only {facts.vocabulary}"
            )
        self.backend, self.tokenizer, self.facts = backend, tokenizer, facts
        self._bans = Bans(facts, tokenizer)
        self._probe_bias = facts.probe_bias
        self._load_ms = load_ms
        self.expert = expert
        # between keystrokes nearly all of a file stays as it was
        self.kept = KeptContext(keep_bytes)
        self._encode_chunk = functools.lru_cache(maxsize=512)(tokenizer.encode)

    @classmethod
    def load(
        cls,
        model: str | Path = "embedded",
        backend: str = "auto",
        threads: int | None = None,
        keep_bytes: int = LIMIT,
    ) -> Engine:
        """Load "embedded" or a model folder; ModelError with one sentence when that cannot be done.

        Up to `keep_bytes` of keys and values of context stay between fills; 0 encodes all context in every fill.
        """
        start = time.perf_counter()
        folder = find_model(model)
        tokenizer = TextTokenizer(folder / "tokenizer.json")
        loaded = load_backend(folder, backend, threads)
        counts = folder / "expert.npz"
        expert = Expert.load(counts) if counts.is_file() else None
        return cls(loaded, tokenizer, (time.perf_counter() - start) * 1000, expert, keep_bytes)

    def fill(self, request: FillRequest | RewriteRequest, cancel: Cancel | None = None, draft: str = "") -> FillResult:
        """Fill every hole of the request, all in one canvas; RequestError if the request cannot be served."""
        for message in self.stream(request, cancel, draft):
            if isinstance(message, FillResult):
                return message
        raise AssertionError("a stream ends with a result")

    def rewrite(self, request: RewriteRequest, cancel: Cancel | None = None) -> FillResult:
        """Write a range anew; the result's holes are the parts of the range that were open to change."""
        return self.fill(request, cancel)

    def stream(
        self, request: FillRequest | RewriteRequest, cancel: Cancel | None = None, draft: str = ""
    ) -> Iterator[Frame | FillResult]:
        """Yield a Frame after each denoising step if the request wants frames, and the result last.

        Where several candidates are made (probed lengths, alternatives), frames show each in turn. `draft` is text that
        an earlier fill of the hole ended with and that may still hold: for one hole that can grow (`drafts.py`).
        """
        start = time.perf_counter()
        request.check()
        starts: list[int] | None = None
        if isinstance(request, RewriteRequest):
            holes, starts = parts_to_rewrite(self.backend, self.tokenizer, self._bans, request)
            shared = {field.name: getattr(request, field.name) for field in fields(Options)}
            request = FillRequest(**shared, text=request.text, holes=holes)
        policy = resolve_policy(request.length, self.facts)
        empty = build_canvas(self.tokenizer, self.facts, request.text, request.holes)
        deadline = None if request.deadline_ms is None else start + request.deadline_ms / 1000

        def stop() -> bool:
            late = deadline is not None and time.perf_counter() >= deadline
            return late or (cancel is not None and cancel.is_set())

        cache, lengths = self._first_look(empty, policy, request, starts, stop)
        counted = self.counted(request)
        encoded = time.perf_counter()
        made: list[Made] = []
        for variant in variants(request, lengths, policy == "probe"):
            canvas = copy.deepcopy(empty)
            if draft and policy == "expand" and starts is None and len(canvas.holes) == 1 and not made:
                lay_draft(canvas.holes[0], self.tokenizer.encode(draft), request.max_tokens)
            else:
                start_holes(canvas.holes, list(variant.lengths), request.max_tokens)
            rng = np.random.default_rng(variant.seed)
            settings = Settings(request, policy, variant.temperature, deadline, cancel, rng, counted)
            outcome = Outcome()
            newline = self.tokenizer.newline_id
            for _ in denoise(self.backend, cache, canvas, self._bans, settings, outcome, newline):
                if request.frames:
                    expected = max(request.steps or 0, outcome.steps + canvas.masked())
                    yield frame(canvas, self.tokenizer, self.facts, outcome.steps, expected)
            if made and outcome.end in ("cancelled", "deadline"):
                break  # what is whole is better than what is half done
            made.append(self._finish(canvas, policy, variant.lengths, lengths, outcome, request))
            if outcome.end in ("cancelled", "deadline"):
                break
            if enough(request, [one.holes for one in made], policy == "probe"):
                break
        ranked = self._rank(request, made)
        done = time.perf_counter()
        timing = {
            "load": round(self._load_ms, 2),
            "encode": round((encoded - start) * 1000, 2),
            "denoise": round((done - encoded) * 1000, 2),
            "total": round((done - start) * 1000, 2),
        }
        best, others = ranked[0], [one.holes for one in ranked[1 : request.alternatives]]
        yield FillResult(best.holes, others, best.end, best.steps, self.facts.name, request.seed, timing)

    def _first_look(
        self,
        empty: Canvas,
        policy: str,
        request: FillRequest,
        starts: list[int] | None,
        stop: Callable[[], bool],
    ) -> tuple[ContextCache, list[int]]:
        """The cache of the context, and how many masks each hole starts with: `starts`, where text is rewritten."""
        enabled = request.cache == "on"
        if policy == "probe":
            cache = ContextCache(self.backend, with_masks(empty, OTHER_HOLES), enabled, self.kept)
            bias = self._probe_bias
            if bias is None:
                bias = measure_bias(self.backend, self.tokenizer, self._bans, LADDER[-1], stop=stop)
                if not stop():
                    self._probe_bias = bias
            if stop():
                return cache, [OTHER_HOLES] * len(empty.holes)
            bias = tuple(pair for pair in bias if pair[0] <= request.max_tokens) or bias[:1]
            return cache, probe_lengths(cache, empty, self.facts, self._bans, bias)
        if policy.startswith("fixed:"):
            lengths = [int(policy[6:])] * len(empty.holes)
        else:
            lengths = starts or [self.facts.start_masks] * len(empty.holes)
        return ContextCache(self.backend, with_masks(empty, lengths[0]), enabled, self.kept), lengths

    def counted(self, request: FillRequest) -> CountedExpert | None:
        """The counted expert for this document, if the model has one and the request wants it."""
        if self.expert is None or request.expert == "off":
            return None
        local = local_tokens(self._encode_chunk, request.text, request.holes, request.related)
        return CountedExpert(self.expert, self.facts, local)

    def _finish(
        self,
        canvas: Canvas,
        policy: str,
        lengths: tuple[int, ...],
        probed: list[int],
        outcome: Outcome,
        request: FillRequest,
    ) -> Made:
        """The fills of a denoised canvas, and how it ended."""
        holes = []
        for hole, length, first in zip(canvas.holes, lengths, probed, strict=True):
            told = told_probe(length, first, request.max_tokens) if policy == "probe" else policy
            holes.append(hole_fill(hole, self.tokenizer, self.facts, told, canvas.line_end, request.max_lines))
        end = outcome.end
        if end in ("complete", "max_tokens") and not any(hole.text for hole in holes):
            end = "empty"
        return Made(holes, end, outcome.steps)

    def _rank(self, request: FillRequest, made: list[Made]) -> list[Made]:
        """The candidates, best first, each text once."""
        if len(made) == 1:
            return made
        from model_runtime.engine.ranking import rank  # the parsers load only where there is something to rank
        from model_runtime.engine.syntax import language_of

        ordered = rank(request.text, [one.holes for one in made], language_of(request.path, request.language))
        by_holes = {id(one.holes): one for one in made}
        return [by_holes[id(holes)] for holes in ordered]


@dataclass
class Made:
    """One candidate: its fills, how it ended, after how many steps."""

    holes: list[HoleFill]
    end: End
    steps: int


def with_masks(empty: Canvas, length: int) -> Canvas:
    """A canvas with masks in its holes: what a model with full attention sees when its context is encoded."""
    canvas = copy.deepcopy(empty)
    for hole in canvas.holes:
        add_masks(hole, length)
    return canvas


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
