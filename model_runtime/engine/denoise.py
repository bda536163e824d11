"""The loop that settles a canvas: compute candidates, reveal some, until nothing is masked or time is up."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model_runtime.backends.interface import BANNED, Backend, Candidates
from model_runtime.engine.cache import ContextCache, Layout, lay_out
from model_runtime.engine.canvas import Canvas, Cell, Hole
from model_runtime.engine.expert import CountedExpert
from model_runtime.engine.samplers import reveals, text_unless_sure
from model_runtime.models.families import ModelFacts
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import End, Options

EXPANSIONS = 4  # a hole may grow this many times its limit in all, so that growing and shrinking cannot go on for ever


class Cancel(Protocol):
    """Anything with the `is_set` of threading.Event."""

    def is_set(self) -> bool: ...


@dataclass
class Settings:
    """What the loop needs besides the canvas."""

    options: Options
    policy: str
    temperature: float
    deadline: float | None  # of time.perf_counter()
    cancel: Cancel | None
    rng: np.random.Generator
    expert: CountedExpert | None = None
    block: int | None = None  # cells of a hole that are settled before any behind them is


@dataclass
class Outcome:
    """How the loop ended, and after how many steps."""

    end: End = "complete"
    steps: int = 0


class Bans:
    """The lines of bias that say which ids a cell may take.

    Ids without text are never produced: mask, bos, padding, what lies beyond the tokenizer. `expand` and `delete`
    are allowed where the hole may grow and shrink.
    """

    def __init__(self, facts: ModelFacts, tokenizer: TextTokenizer):
        self.facts, self.vocabulary = facts, facts.vocabulary
        text = np.full(facts.vocabulary, BANNED, np.float32)
        text[[i for i in tokenizer.text_ids if i < min(facts.vocabulary, facts.tokenizer_size)]] = 0.0
        text[[i for i in tokenizer.control_ids if i < facts.vocabulary]] = BANNED
        text[facts.mask_id] = BANNED
        for banned in (facts.bos_id, facts.pad_id, facts.expand_id, facts.delete_id):
            if banned is not None:
                text[banned] = BANNED
        shrinking = text.copy()
        if facts.delete_id is not None:
            shrinking[facts.delete_id] = 0.0
        growing = shrinking.copy()
        if facts.expand_id is not None:
            growing[facts.expand_id] = 0.0
        self.lines = np.stack([text, shrinking, growing])
        self.fixed, self.shrinking, self.growing = 0, 1, 2

    def for_cells(self, cells: list[tuple[Cell, int]]) -> tuple[np.ndarray, list[int]]:
        """Bias lines [C, V], and the line of each (cell, line); a cell with `only` gets a line of its own."""
        lines, rows = [self.lines], []
        known: dict[tuple[int, ...], int] = {}
        for cell, line in cells:
            if cell.only is None:
                rows.append(line)
                continue
            if cell.only not in known:
                own = np.full((1, self.vocabulary), BANNED, np.float32)
                own[0, list(cell.only)] = self.lines[self.fixed, list(cell.only)]
                known[cell.only] = len(self.lines) + len(known)
                lines.append(own)
            rows.append(known[cell.only])
        return np.concatenate(lines) if len(lines) > 1 else self.lines, rows


def line_for(hole: Hole, settings: Settings, bans: Bans, last_step: bool) -> int:
    """Which ids the masks of a hole may take now."""
    if settings.policy != "expand":
        return bans.fixed
    limit = settings.options.max_tokens
    if last_step or hole.free_cells() >= limit or hole.expansions >= EXPANSIONS * limit:
        return bans.shrinking
    return bans.growing


def denoise(
    backend: Backend,
    cache: ContextCache,
    canvas: Canvas,
    bans: Bans,
    settings: Settings,
    outcome: Outcome,
    line_ends: Mapping[int, bytes],
) -> Iterator[None]:
    """Settle the canvas in place, yielding after each step; `outcome` is kept up to date.

    `line_ends` are the tokens with newlines in them, and their bytes.
    """
    options, facts = settings.options, backend.facts
    resizing = tuple(i for i in (facts.expand_id, facts.delete_id) if i is not None)
    while canvas.masked():
        if end := out_of_time(settings):
            outcome.end = end
            return
        steps_left = None if options.steps is None else max(1, options.steps - outcome.steps)
        layout = lay_out(canvas, facts)
        if settings.block is not None:
            everything = len(layout.masked)
            layout.masked = in_turn(layout, canvas, settings.block)
            if steps_left is not None:  # the share of this block
                steps_left = max(1, round(steps_left * len(layout.masked) / everything))
        lines = [line_for(hole, settings, bans, steps_left == 1) for hole in canvas.holes]
        bias_CV, bias_rows = bans.for_cells([(cell, lines[n]) for _, n, cell in layout.masked])
        candidates = cache.step([layout], bias_CV, [bias_rows])
        if settings.expert is not None:
            settings.expert.mix(candidates, layout, canvas, bias_CV, bias_rows)
        keep_guesses(candidates, layout, resizing, outcome.steps + 1)
        chosen = reveals(
            options.sampler,
            candidates,
            threshold=facts.threshold,
            steps_left=steps_left,
            temperature=settings.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            rng=settings.rng,
            holes_R=np.array([n for _, n, _ in layout.masked]),
            distance_R=distances(layout) if settings.policy == "expand" else None,
            drafts_R=np.array([-1 if cell.draft is None else cell.draft for _, _, cell in layout.masked]),
            resizing=resizing,
        )
        # from the right, so that what a reveal removes lies behind those still to come
        for reveal in sorted(chosen, key=lambda r: -layout.masked[r.row][0]):
            _, n, cell = layout.masked[reveal.row]
            settle(
                canvas.holes[n],
                cell,
                reveal.token,
                reveal.confidence,
                outcome.steps + 1,
                facts,
                options.max_tokens,
            )
        for hole in canvas.holes:
            limit_lines(hole, options.max_lines, line_ends)
        outcome.steps += 1
        yield
    if any(hole.wanted_more for hole in canvas.holes):
        outcome.end = "max_tokens"


def in_turn(layout: Layout, canvas: Canvas, block: int) -> list[tuple[int, int, Cell]]:
    """The masked cells of each hole's first block with any: semi-autoregressive decoding (LLaDA, arXiv 2502.09992)."""
    due: set[int] = set()
    for hole in canvas.holes:
        first = next((n for n, cell in enumerate(hole.cells) if cell.token is None), len(hole.cells))
        due |= {id(cell) for cell in hole.cells[: (first // block + 1) * block]}
    return [masked for masked in layout.masked if id(masked[2]) in due]


def out_of_time(settings: Settings) -> End | None:
    """Whether a fill has to stop before its next step, and why."""
    if settings.cancel is not None and settings.cancel.is_set():
        return "cancelled"
    late = settings.deadline is not None and time.perf_counter() >= settings.deadline
    return "deadline" if late else None


def keep_guesses(candidates: Candidates, layout: Layout, resizing: tuple[int, ...], step: int) -> None:
    """Note the best candidate of every mask: what a deadline or a cancel leaves masked shows it."""
    ids_RA, log_probs_RA = candidates.ids_BRA[0], candidates.log_probs_BRA[0]
    best_R = text_unless_sure(ids_RA, log_probs_RA, np.zeros(len(ids_RA), np.int64), resizing)
    for row, (_, _, cell) in enumerate(layout.masked):
        cell.step, cell.guess = step, int(ids_RA[row, best_R[row]])
        cell.guess_confidence = float(min(1.0, np.exp(log_probs_RA[row, best_R[row]])))


def distances(layout: Layout) -> np.ndarray:
    """How many masks of the same hole stand before each mask [R]."""
    holes = [n for _, n, _ in layout.masked]
    return np.array([row - holes.index(n) for row, n in enumerate(holes)])


def settle(
    hole: Hole, cell: Cell, token: int, confidence: float, step: int, facts: ModelFacts, max_tokens: int
) -> None:
    """Put a revealed token into its cell; `expand` makes two masks of it, `delete` takes it and the masks behind it."""
    at = next((n for n, other in enumerate(hole.cells) if other is cell), None)
    if at is None:  # it went with a deletion of this step
        return
    if token == facts.expand_id:
        if hole.free_cells() < max_tokens:
            hole.cells.insert(at + 1, Cell())
            hole.expansions += 1
        hole.wanted_more = hole.free_cells() >= max_tokens
    elif token == facts.delete_id:
        end = at + 1
        while end < len(hole.cells) and hole.cells[end].token is None and hole.cells[end].only is None:
            end += 1
        del hole.cells[at:end]
        hole.wanted_more = False
    else:
        cell.token, cell.confidence, cell.step = token, confidence, step


def limit_lines(hole: Hole, max_lines: int | None, line_ends: Mapping[int, bytes]) -> None:
    """Drop what follows the last wanted line as soon as that line is settled from the left.

    Of the token that ends it, what stands before the line's end is kept; `hole_fill` cuts the rest.
    """
    if max_lines is None:
        return
    lines = 0
    for n, cell in enumerate(hole.cells):
        if cell.token is None:
            return
        data = line_ends.get(cell.token, b"")
        lines += data.count(b"\n")
        if lines >= max_lines:
            kept = n if data.startswith(b"\n") else n + 1
            if kept < len(hole.cells):  # their cells go too: what the text ends with now repeats nothing
                hole.tail = b""
            del hole.cells[kept:]
            return
