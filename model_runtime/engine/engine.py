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
from model_runtime.engine.canvas import Canvas, Hole, add_masks, build_canvas, frame, hole_fill
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
from model_runtime.engine.python_syntax import Judge
from model_runtime.engine.rewrite import parts_to_rewrite
from model_runtime.engine.search import Hypothesis, Search, write
from model_runtime.engine.sound import sound_parts
from model_runtime.engine.syntax import language_of
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
        self.bans = Bans(facts, tokenizer)
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
        starts: list[int] | None = None
        if isinstance(request, RewriteRequest):
            holes, starts = parts_to_rewrite(self.backend, self.tokenizer, self.bans, request, self.kept)
            shared = {field.name: getattr(request, field.name) for field in fields(Options)}
            request = FillRequest(**shared, text=request.text, holes=holes)
        policy = resolve_policy(request.length, self.facts)
        empty = build_canvas(self.tokenizer, self.facts, request.text, request.holes)
        deadline = None if request.deadline_ms is None else start + request.deadline_ms / 1000

        def stop() -> bool:
            late = deadline is not None and time.perf_counter() >= deadline
            return late or (cancel is not None and cancel.is_set())

        if policy == "search" and (draft or starts or not searchable(request, empty)):
            policy = "expand"
        cache, lengths = self._first_look(empty, policy, request, starts, stop)
        counted = self.counted(request)
        encoded = time.perf_counter()
        made: list[Made] = []
        if policy == "search":
            settings = Settings(request, policy, 0.0, deadline, cancel, np.random.default_rng(request.seed), counted)
            search = self._search(request, copy.deepcopy(empty), cache, settings)
            outcome = Outcome()
            for _ in search.run(outcome):
                if request.frames:
                    expected = outcome.steps + len(search.live)
                    yield frame(search.canvas, self.tokenizer, self.facts, outcome.steps, expected)
            hole = search.canvas.holes[0]
            settled = hole.cells
            for found in search.found[: request.alternatives]:
                hole.cells = write(found, len(found.tokens), settled, outcome.steps)
                made.append(self._finish(search.canvas, policy, (0,), [0], outcome, request))
        rewrite, sound, language = starts is not None, starts is None, language_of(request.path, request.language)
        for variant in [] if policy == "search" else variants(request, lengths, policy == "probe", rewrite):
            canvas = copy.deepcopy(empty)
            if draft and policy == "expand" and starts is None and len(canvas.holes) == 1 and not made:
                lay_draft(canvas.holes[0], self.tokenizer.encode(draft), request.max_tokens)
            else:
                start_holes(canvas.holes, list(variant.lengths), request.max_tokens)
            rng = np.random.default_rng(variant.seed)
            settings = Settings(request, policy, variant.temperature, deadline, cancel, rng, counted)
            outcome = Outcome()
            newline = self.tokenizer.newline_id
            for _ in denoise(self.backend, cache, canvas, self.bans, settings, outcome, newline):
                if request.frames:
                    expected = max(request.steps or 0, outcome.steps + canvas.masked())
                    yield frame(canvas, self.tokenizer, self.facts, outcome.steps, expected)
            if made and outcome.end in ("cancelled", "deadline"):
                break  # what is whole is better than what is half done
            one = self._finish(canvas, policy, variant.lengths, lengths, outcome, request)
            if rewrite and (parts := sound_parts(request.text, one.holes, language)):
                one.holes, sound = parts, True
            made.append(one)
            if outcome.end in ("cancelled", "deadline"):
                break
            if enough(request, [one.holes for one in made], policy == "probe", sound):
                break
        ranked = made if policy == "search" else self._rank(request, made)
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
                bias = measure_bias(self.backend, self.tokenizer, self.bans, LADDER[-1], stop=stop)
                if not stop():
                    self._probe_bias = bias
            if stop():
                return cache, [OTHER_HOLES] * len(empty.holes)
            bias = tuple(pair for pair in bias if pair[0] <= request.max_tokens) or bias[:1]
            return cache, probe_lengths(cache, empty, self.facts, self.bans, bias)
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

    def _search(self, request: FillRequest, canvas: Canvas, cache: ContextCache, settings: Settings) -> Search:
        """The search over the only hole; in Python, for texts that parse."""
        hole = canvas.holes[0]
        judge = Judge(request.text[: hole.start], request.text[hole.end :]) if is_python(request) else None

        def text(hypothesis: Hypothesis) -> str:
            cells = write(hypothesis, len(hypothesis.tokens), [], 0)
            written = Hole(hole.start, hole.end, cells, hole.head, hole.tail)
            return hole_fill(written, self.tokenizer, self.facts, "", canvas.line_end, request.max_lines).text

        return Search(cache, canvas, self.facts, self.bans, settings, self.tokenizer.newline_id, text, judge)

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

        ordered = rank(request.text, [one.holes for one in made], language_of(request.path, request.language))
        by_holes = {id(one.holes): one for one in made}
        return [by_holes[id(holes)] for holes in ordered]


@dataclass
class Made:
    """One candidate: its fills, how it ended, after how many steps."""

    holes: list[HoleFill]
    end: End
    steps: int


def searchable(request: FillRequest, empty: Canvas) -> bool:
    """Whether the hole can be searched: one hole, nothing known at its end, and no wish for another way of decoding."""
    plain = request.sampler == "threshold" and request.steps is None and request.temperature == 0
    return plain and len(empty.holes) == 1 and not empty.holes[0].tail


def is_python(request: FillRequest) -> bool:
    """Whether a request's text is Python, or may be: where it is not, nothing in it parses, and all is accepted."""
    if request.language is None and request.path is None:
        return True
    return language_of(request.path, request.language) == "python"


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
