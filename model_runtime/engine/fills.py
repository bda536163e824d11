"""The two ways to a fill's candidates: one search over one hole, or one denoised canvas after another."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from model_runtime.backends.interface import Backend
from model_runtime.engine.cache import ContextCache
from model_runtime.engine.candidates import enough, variants
from model_runtime.engine.canvas import Canvas, Hole, frame, hole_fill
from model_runtime.engine.denoise import Bans, Outcome, Settings, denoise
from model_runtime.engine.drafts import lay_draft
from model_runtime.engine.lengths import start_holes, told_probe
from model_runtime.engine.python_syntax import Judge
from model_runtime.engine.search import Hypothesis, Search, write
from model_runtime.engine.sound import sound_parts
from model_runtime.engine.syntax import language_of
from model_runtime.models.families import ModelFacts
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import End, FillRequest, Frame, HoleFill


@dataclass
class Made:
    """One candidate: its fills, how it ended, after how many steps."""

    holes: list[HoleFill]
    end: End
    steps: int


@dataclass
class Task:
    """A request under way: the model, the canvas with empty holes, its context, and the candidates made so far."""

    backend: Backend
    tokenizer: TextTokenizer
    facts: ModelFacts
    bans: Bans
    request: FillRequest
    settings: Settings
    empty: Canvas
    cache: ContextCache
    made: list[Made] = field(default_factory=list)

    def frames(self, canvas: Canvas, step: int, expected: int) -> Iterator[Frame]:
        """A picture of the canvas, if the request wants pictures."""
        if self.request.frames:
            yield frame(canvas, self.tokenizer, self.facts, step, expected)

    def finish(self, canvas: Canvas, outcome: Outcome, policies: list[str]) -> Made:
        """The candidate that a decoded canvas holds; `policies` tell how the length of each hole was found."""
        holes = [
            hole_fill(hole, self.tokenizer, self.facts, told, canvas.line_end, self.request.max_lines)
            for hole, told in zip(canvas.holes, policies, strict=True)
        ]
        end = outcome.end
        if end in ("complete", "max_tokens") and not any(hole.text for hole in holes):
            end = "empty"
        return Made(holes, end, outcome.steps)


def search_fill(task: Task) -> Iterator[Frame]:
    """Search the only hole; in Python, for texts that parse. The candidates are in order."""
    request, canvas = task.request, copy.deepcopy(task.empty)
    hole = canvas.holes[0]
    judge = Judge(request.text[: hole.start], request.text[hole.end :]) if is_python(request) else None

    def text(hypothesis: Hypothesis) -> str:
        cells = write(hypothesis, len(hypothesis.tokens), [], 0)
        written = Hole(hole.start, hole.end, cells, hole.head, hole.tail)
        return hole_fill(written, task.tokenizer, task.facts, "", canvas.line_end, request.max_lines).text

    newline, outcome = task.tokenizer.newline_id, Outcome()
    search = Search(task.cache, canvas, task.facts, task.bans, task.settings, newline, text, judge)
    for _ in search.run(outcome):
        yield from task.frames(canvas, outcome.steps, outcome.steps + len(search.live))
    settled = hole.cells
    for found in search.found[: request.alternatives]:
        hole.cells = write(found, len(found.tokens), settled, outcome.steps)
        task.made.append(task.finish(canvas, outcome, ["search"]))


def denoise_fills(task: Task, lengths: list[int], draft: str, rewrite: bool) -> Iterator[Frame]:
    """Denoise the holes from `lengths` masks each, as often as candidates are wanted.

    Of a `rewrite` only the parts that parse are kept, and other seeds are tried until something is left.
    """
    request, policy = task.request, task.settings.policy
    probe, sound, language = policy == "probe", not rewrite, language_of(request.path, request.language)
    for variant in variants(request, lengths, probe, rewrite):
        canvas = copy.deepcopy(task.empty)
        if draft and policy == "expand" and not rewrite and len(canvas.holes) == 1 and not task.made:
            lay_draft(canvas.holes[0], task.tokenizer.encode(draft), request.max_tokens)
        else:
            start_holes(canvas.holes, list(variant.lengths), request.max_tokens)
        rng = np.random.default_rng(variant.seed)
        settings = replace(task.settings, temperature=variant.temperature, rng=rng)
        outcome = Outcome()
        for _ in denoise(task.backend, task.cache, canvas, task.bans, settings, outcome, task.tokenizer.line_ends):
            yield from task.frames(canvas, outcome.steps, max(request.steps or 0, outcome.steps + canvas.masked()))
        if task.made and outcome.end in ("cancelled", "deadline"):
            return  # what is whole is better than what is half done
        told = [
            told_probe(length, first, request.max_tokens) if probe else policy
            for length, first in zip(variant.lengths, lengths, strict=True)
        ]
        made = task.finish(canvas, outcome, told)
        if rewrite and (parts := sound_parts(request.text, made.holes, language)):
            made.holes, sound = parts, True
        task.made.append(made)
        if outcome.end in ("cancelled", "deadline") or enough(request, [it.holes for it in task.made], probe, sound):
            return


def is_python(request: FillRequest) -> bool:
    """Whether a request's text is Python, or may be: where it is not, nothing in it parses, and all is accepted."""
    if request.language is None and request.path is None:
        return True
    return language_of(request.path, request.language) == "python"
