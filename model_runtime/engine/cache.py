"""Where every token of a canvas stands, and the keys and values of context kept through a fill.

A denoising step computes only the window: the cells of the holes, and with the shift the row before each hole. The
other context is read from the cache; its keys are stored before the rotary embedding, so when a hole grows the text
behind it just gets new positions.

For a `context_blind` model that is exact, and what is encoded serves later fills too (`kept.py`). For full attention
it is an approximation: the context keeps what it saw in the holes at the first step, which computes context and holes
in one pass; where keys and values may stay between fills, context far from the hole saw masks where near context and
hole stand (`anchor.py`); and tokens of the holes keep what they saw when they were settled (`settled.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model_runtime.backends.interface import HOLE, PADDING, Backend, Candidates, Past, Window
from model_runtime.engine.anchor import encode_far
from model_runtime.engine.canvas import Canvas, Cell
from model_runtime.engine.kept import KeptContext, Pair, join
from model_runtime.engine.settled import SettledRows
from model_runtime.models.families import ModelFacts


@dataclass
class Layout:
    """A canvas laid flat: ids, segments, what belongs to the window ([L] each), and where the cells are."""

    ids: np.ndarray
    segments: np.ndarray
    in_window: np.ndarray
    masked: list[tuple[int, int, Cell]]  # position, number of the hole, cell
    settled: list[tuple[int, Cell]]


def lay_out(canvas: Canvas, facts: ModelFacts) -> Layout:
    """The flat canvas; context of a context_blind model gets a segment a run, everything else sees everything."""
    ids: list[int] = []
    segments: list[int] = []
    in_window: list[bool] = []
    masked, settled = [], []
    for n, context in enumerate(canvas.contexts):
        lead = facts.shift and n < len(canvas.holes) and len(context) > 0
        count = len(context) - lead
        ids += context
        segments += [n if facts.context_blind else HOLE] * count + [HOLE] * lead
        in_window += [False] * count + [True] * lead
        if n == len(canvas.holes):
            break
        for cell in canvas.holes[n].cells:
            if cell.token is None:
                masked.append((len(ids), n, cell))
            else:
                settled.append((len(ids), cell))
            ids.append(facts.mask_id if cell.token is None else cell.token)
            segments.append(HOLE)
            in_window.append(True)
    return Layout(np.array(ids, np.int64), np.array(segments, np.int64), np.array(in_window, bool), masked, settled)


class ContextCache:
    """Keys and values of the context of one canvas, or nothing when caching is off.

    `_past` is what has been computed, `_far` the numbers of these rows among the context outside the window. The others
    are computed with the first step.
    """

    def __init__(
        self,
        backend: Backend,
        canvas: Canvas,
        enabled: bool,
        kept: KeptContext | None = None,
        keep_settled: bool = True,
    ):
        self._backend, self._first = backend, lay_out(canvas, backend.facts)
        self._past: Pair | None = None
        context = int((~self._first.in_window).sum())
        self._far = np.zeros(0, np.int64)
        self._near = np.arange(context)
        self._enabled = enabled and context > 0
        self._keep_settled = keep_settled and self._enabled and not backend.facts.context_blind
        self._settled = SettledRows(0)
        if self._enabled and backend.facts.context_blind:
            self._past = encode_blind(backend, self._first, KeptContext(0) if kept is None else kept)
            self._far, self._near = self._near, self._far
        elif self._enabled and kept is not None and kept.limit and len(canvas.holes) == 1:
            before = int((~self._first.in_window)[: len(canvas.contexts[0])].sum())
            ids = self._first.ids[~self._first.in_window]
            far_C, self._past = encode_far(backend, ids, before, kept)
            self._far, self._near = np.flatnonzero(far_C), np.flatnonzero(~far_C)

    def step(self, layouts: list[Layout], bias_CV: np.ndarray, bias_rows: list[list[int]], **extra: Any) -> Candidates:
        """Candidates of the masked cells of each layout, in its order; `bias_rows` gives each its line of `bias_CV`.

        Several layouts are variants of one canvas that differ in their holes; they run as one batch over the same
        keys and values. Rows of candidates beyond a layout's own masks mean nothing.
        """
        if len(layouts) > 1 and len(self._near) and self._enabled:
            self._window([self._first], np.zeros((1, self._backend.facts.vocabulary), np.float32), [[]])
        return self._window(layouts, bias_CV, bias_rows, **extra)

    def _window(
        self, layouts: list[Layout], bias_CV: np.ndarray, bias_rows: list[list[int]], **extra: Any
    ) -> Candidates:
        """One pass over the windows, and over what of the context is not computed yet."""
        facts = self._backend.facts
        windows = [layout.in_window.copy() for layout in layouts]
        for in_window in windows:
            in_window[np.flatnonzero(~in_window)[self._near]] = True
        places_S = np.full(len(self._settled), -1, np.int64)
        if len(layouts) == 1 and len(places_S):
            needed = {position - facts.shift for position, _, _ in layouts[0].masked}
            places_S = self._settled.places(layouts[0].settled, needed)
            windows[0][places_S[places_S >= 0]] = False
        width = max(int(in_window.sum()) for in_window in windows)
        asked = max(1, *(len(layout.masked) for layout in layouts))
        shape = len(layouts), width
        ids, positions = np.full(shape, facts.mask_id, np.int64), np.zeros(shape, np.int64)
        segments = np.full(shape, PADDING, np.int64)
        rows, lines = np.zeros((len(layouts), asked), np.int64), np.zeros((len(layouts), asked), np.int64)
        for b, (layout, in_window) in enumerate(zip(layouts, windows, strict=True)):
            count = int(in_window.sum())
            ids[b, :count] = layout.ids[in_window]
            positions[b, :count] = np.flatnonzero(in_window)
            segments[b, :count] = layout.segments[in_window]
            row_of = np.cumsum(in_window) - 1
            for r, (position, _, _) in enumerate(layout.masked):
                rows[b, r] = row_of[position - facts.shift]
            lines[b, : len(bias_rows[b])] = bias_rows[b]
        past = None
        if self._past is not None:
            kept = [np.flatnonzero(~layout.in_window)[self._far] for layout in layouts]
            past_segments = [layout.segments[where] for layout, where in zip(layouts, kept, strict=True)]
            settled = np.tile(np.maximum(places_S, 0), (len(layouts), 1))
            present = np.tile(np.where(places_S < 0, PADDING, HOLE), (len(layouts), 1))
            past = Past(
                *self._past,
                np.concatenate([np.stack(kept), settled], axis=1),
                np.concatenate([np.stack(past_segments), present], axis=1),
                self._settled.version,
            )
        window = Window(ids, positions, segments, rows, bias_CV, lines, past, **extra)
        candidates, k, v = self._backend.window(window)
        if self._enabled and len(self._near):
            near_W = ~layouts[0].in_window[windows[0]]
            parts = [] if self._past is None else [self._past]
            parts.append((self._backend.keep(k, near_W), self._backend.keep(v, near_W)))
            if self._keep_settled:  # room behind the context for the hole's tokens; what is in it now does not count
                parts.append((self._backend.keep(k, ~near_W), self._backend.keep(v, ~near_W)))
                self._settled = SettledRows(int((~near_W).sum()))
            self._past = join(self._backend, parts)
            self._far, self._near = np.concatenate([self._far, self._near]), self._near[:0]
        elif len(layouts) == 1 and len(self._settled):
            self._write_settled(layouts[0], windows[0], k, v)
        return candidates

    def _write_settled(self, layout: Layout, in_window: np.ndarray, k: Any, v: Any) -> None:
        """Keep the rows of settled cells that a window computed."""
        assert self._past is not None
        here = [(position, cell) for position, cell in layout.settled if in_window[position]]
        taken = self._settled.take([cell for _, cell in here])
        if not taken:
            return
        row_of = np.cumsum(in_window) - 1
        rows_S = row_of[[here[n][0] for n, _ in taken]]
        at_S = self._past[0].shape[3] - len(self._settled) + np.array([slot for _, slot in taken])
        for past, cached in zip(self._past, (k, v), strict=True):
            self._backend.write(past, at_S, cached, rows_S)

    def continuations(self, canvas: Canvas, runs: list[list[int]]) -> list[np.ndarray]:
        """The log-probability of every token of each run, were it to follow the canvas's first context (causal).

        Of a `context_blind` model with the shift: its context was trained to predict the next token.
        """
        facts, prefix = self._backend.facts, canvas.contexts[0]
        known = len(prefix) - 1 if self._past is not None else 0
        width = len(prefix) - known + max(map(len, runs)) - 1
        shape = len(runs), width
        ids, segments = np.full(shape, facts.mask_id, np.int64), np.full(shape, PADDING, np.int64)
        rows, targets = np.zeros((2, len(runs), max(map(len, runs))), np.int64)
        for b, run in enumerate(runs):
            row = [*prefix[known:], *run[:-1]]
            ids[b, : len(row)], segments[b, : len(row)] = row, 0
            rows[b, : len(run)] = np.arange(len(run)) + len(prefix) - known - 1
            targets[b, : len(run)] = run
        positions = np.broadcast_to(np.arange(known, known + width), shape).copy()
        past = None
        if self._past is not None:
            count = self._past[0].shape[3]
            # the suffix is kept too, but of another segment: wherever it stands, it is not seen
            at = np.concatenate([np.arange(known), np.arange(count - known) + known + width])
            past_segments = np.where(np.arange(count) < known, 0, 1)
            at_BP, segments_BP = (np.tile(a, (len(runs), 1)) for a in (at, past_segments))
            past = Past(*self._past, at_BP, segments_BP)
        lines = np.zeros_like(rows)
        free = np.zeros((1, facts.vocabulary), np.float32)
        candidates, _, _ = self._backend.window(Window(ids, positions, segments, rows, free, lines, past, targets))
        assert candidates.target_log_probs_BR is not None
        return [candidates.target_log_probs_BR[b, : len(run)] for b, run in enumerate(runs)]


def encode_blind(backend: Backend, layout: Layout, kept: KeptContext) -> Pair:
    """Keys and values of the context outside the window, of which every run is encoded alone."""
    runs = [layout.ids[layout.segments == n] for n in np.unique(layout.segments[~layout.in_window])]
    return join(backend, [kept.encode(backend, ids_P) for ids_P in runs])
