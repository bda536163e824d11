"""The front door: load a model, fill holes, watch the canvas settle.

engine = Engine.load("embedded")
result = engine.fill(FillRequest(text=source, holes=[(120, 180)]))
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np

from model_runtime.backends.interface import Backend
from model_runtime.backends.loading import Loading
from model_runtime.catalog.catalog import find_model
from model_runtime.engine.batching import Shared
from model_runtime.engine.cache import ContextCache
from model_runtime.engine.canvas import Canvas, add_masks, build_canvas
from model_runtime.engine.denoise import Bans, Cancel, Settings
from model_runtime.engine.expert import CountedExpert, Expert, local_tokens
from model_runtime.engine.fills import Made, Task, denoise_fills, search_fill
from model_runtime.engine.kept import LIMIT, KeptContext
from model_runtime.engine.lengths import (
    BIAS_SAMPLES,
    LADDER,
    OTHER_HOLES,
    measure_bias,
    probe_lengths,
    resolve_policy,
)
from model_runtime.engine.rewrite import parts_to_rewrite
from model_runtime.engine.syntax import language_of
from model_runtime.engine.turns import in_turn
from model_runtime.models.families import read_facts
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import (
    FillRequest,
    FillResult,
    Frame,
    ModelError,
    Options,
    RequestError,
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
        self.bans = Bans(facts, tokenizer)
        self._probe_bias = facts.probe_bias
        self._bias_samples: list[dict[int, float]] = []
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
        together: int = 1,
        loading: Loading | None = None,
    ) -> Engine:
        """Load "embedded" or a model folder; ModelError with one sentence when that cannot be done.

        Up to `keep_bytes` of keys and values of context stay between fills; 0 encodes all context in every fill. With
        `together` above 1, so many fills may run as courses of `batching.py`.
        """
        start = time.perf_counter()
        folder = find_model(model)
        tokenizer = TextTokenizer(folder / "tokenizer.json")
        loaded = load_backend(folder, backend, threads, together, loading)
        if together > 1:
            loaded = Shared(loaded)
        counts = folder / "expert.npz"
        expert = Expert.load(counts) if counts.is_file() else None
        return cls(loaded, tokenizer, (time.perf_counter() - start) * 1000, expert, keep_bytes)

    @property
    def instructed(self) -> bool:
        """Whether the model follows instructions."""
        return self.facts.chat is not None

    def fill(self, request: FillRequest | RewriteRequest, cancel: Cancel | None = None, draft: str = "") -> FillResult:
        """Fill every hole of the request; RequestError if the request cannot be served."""
        for message in self.stream(request, cancel, draft):
            if isinstance(message, FillResult):
                return message
        raise AssertionError("a stream ends with a result")

    def rewrite(self, request: RewriteRequest, cancel: Cancel | None = None) -> FillResult:
        """Write a range anew; the result's holes are the parts that change.

        Parts that would break the syntax stay as they are, and other seeds are tried until something is left.
        """
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
        if isinstance(request, RewriteRequest) and request.instruction is not None:
            from model_runtime.engine.instruct import follow

            yield from follow(self.backend, self.tokenizer, self.bans, request, cancel, self._load_ms)
            return
        if self.facts.block_length is not None:
            told = "completes prompts and cannot fill holes: it sees no text behind them"
            raise RequestError(f"{self.facts.name} {told}")
        starts: list[int] | None = None
        if isinstance(request, RewriteRequest):
            holes, starts = parts_to_rewrite(self.backend, self.tokenizer, self.bans, request, self.kept)
            shared = {field.name: getattr(request, field.name) for field in fields(Options)}
            request = FillRequest(**shared, text=request.text, holes=holes)
        policy = resolve_policy(request.length, self.facts)
        if policy == "search" and (draft or starts or not searchable(request)):
            policy = "expand"
        search = policy == "search"
        if search and len(request.holes) > 1:
            yield from in_turn(request, lambda one: self.stream(one, cancel))
            return
        empty = build_canvas(self.tokenizer, self.facts, request.text, request.holes, open_ends=search)
        if search and empty.holes[0].tail:  # what must stand at its end is known
            policy = "expand"
        deadline = None if request.deadline_ms is None else start + request.deadline_ms / 1000

        def stop() -> bool:
            late = deadline is not None and time.perf_counter() >= deadline
            return late or (cancel is not None and cancel.is_set())

        cache, lengths = self._first_look(empty, policy, request, starts, stop)
        rng = np.random.default_rng(request.seed)
        settings = Settings(request, policy, 0.0, deadline, cancel, rng, self.counted(request))
        task = Task(self.backend, self.tokenizer, self.facts, self.bans, request, settings, empty, cache)
        encoded = time.perf_counter()
        if policy == "search":
            yield from search_fill(task)
            ranked = task.made
        else:
            yield from denoise_fills(task, lengths, draft, rewrite=starts is not None)
            ranked = self._rank(request, task.made)
        done = time.perf_counter()
        timing = {
            "load": round(self._load_ms, 2),
            "encode": round((encoded - start) * 1000, 2),
            "denoise": round((done - encoded) * 1000, 2),
            "total": round((done - start) * 1000, 2),
        }
        best, others = ranked[0], [one.holes for one in ranked[1 : request.alternatives]]
        seen = sum(map(len, empty.contexts))
        yield FillResult(best.holes, others, best.end, best.steps, self.facts.name, request.seed, timing, seen)

    def _first_look(
        self,
        empty: Canvas,
        policy: str,
        request: FillRequest,
        starts: list[int] | None,
        stop: Callable[[], bool],
    ) -> tuple[ContextCache, list[int]]:
        """The cache of the context, and how many masks each hole starts with: `starts`, where text is rewritten."""
        enabled = request.cache != "off"
        if policy == "probe":
            canvas = with_masks(empty, OTHER_HOLES)
            cache = ContextCache(self.backend, canvas, enabled, self.kept, request.cache == "on")
            bias = self._probe_bias
            if bias is None:
                # a third of the time; what is left to measure is measured in later fills
                third = None if request.deadline_ms is None else time.perf_counter() + request.deadline_ms / 3000

                def enough() -> bool:
                    return stop() or (third is not None and time.perf_counter() >= third)

                samples = self._bias_samples
                bias = measure_bias(self.backend, self.tokenizer, self.bans, LADDER[-1], stop=enough, samples=samples)
                if len(samples) == BIAS_SAMPLES:
                    self._probe_bias = bias
            if stop():
                return cache, [OTHER_HOLES] * len(empty.holes)
            bias = tuple(pair for pair in bias if pair[0] <= request.max_tokens) or bias[:1]
            return cache, probe_lengths(cache, empty, self.facts, self.bans, bias)
        if policy.startswith("fixed:"):
            lengths = [int(policy[6:])] * len(empty.holes)
        else:
            lengths = starts or [self.facts.start_masks] * len(empty.holes)
        canvas, keep_settled = with_masks(empty, lengths[0]), request.cache == "on"
        return ContextCache(self.backend, canvas, enabled, self.kept, keep_settled), lengths

    def counted(self, request: FillRequest) -> CountedExpert | None:
        """The counted expert for this document, if the model has one and the request wants it."""
        if self.expert is None or request.expert == "off":
            return None
        local = local_tokens(self._encode_chunk, request.text, request.holes, request.related)
        return CountedExpert(self.expert, self.facts, local)

    def _rank(self, request: FillRequest, made: list[Made]) -> list[Made]:
        """The candidates, best first, each text once."""
        if len(made) == 1:
            return made
        from model_runtime.engine.ranking import rank  # the parsers load only where there is something to rank

        ordered = rank(request.text, [one.holes for one in made], language_of(request.path, request.language))
        by_holes = {id(one.holes): one for one in made}
        return [by_holes[id(holes)] for holes in ordered]


def searchable(request: FillRequest) -> bool:
    """Whether holes can be searched: no wish for another way of decoding, nor for several answers of several holes."""
    drawn = request.temperature > 0 and (request.top_p is not None or request.top_k is not None)
    plain = request.sampler == "threshold" and request.steps is None and not drawn
    return plain and (len(request.holes) == 1 or request.alternatives == 1)


def with_masks(empty: Canvas, length: int) -> Canvas:
    """A canvas with masks in its holes: what a model with full attention sees when its context is encoded."""
    canvas = copy.deepcopy(empty)
    for hole in canvas.holes:
        add_masks(hole, length)
    return canvas


def load_backend(
    folder: Path, backend: str, threads: int | None, together: int = 1, loading: Loading | None = None
) -> Backend:
    """Load a folder into "onnx" or "torch"; "auto" takes ONNX where the folder has a graph."""
    if backend not in ("auto", "onnx", "torch"):
        raise ModelError(f"backend is auto, onnx or torch, not {backend!r}")
    if backend == "onnx" or (backend == "auto" and (folder / "model.onnx").is_file()):
        from model_runtime.backends.onnx import OnnxBackend

        return OnnxBackend(folder, threads, together)
    read_facts(folder)  # what is wrong with the folder comes before what is not installed
    try:
        from model_runtime.backends.torch import TorchBackend
    except ImportError as error:
        raise ModelError(
            f"{folder} has no model.onnx, and torch is not installed: pip install diffill[torch]"
        ) from error
    return TorchBackend(folder, together=together, loading=loading)
