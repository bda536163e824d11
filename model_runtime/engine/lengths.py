"""How many tokens a hole gets.

- `fixed:N`: N masks, no more and no fewer.
- `expand`: the model was trained with DreamOn's tokens (arXiv 2602.01326): a mask may become two, or go away. The
  hole starts with a few masks and finds its size while it is denoised.
- `search`: a hole of such a model is written from the left by a beam search that also decides where it ends
  (`search.py`), several holes one after the other (`turns.py`); a sampler or a number of steps of one's own, and a
  cursor in the midst of a word, fall back to `expand`.
- `probe`: for any model, without training, after CAL (arXiv 2602.00476): the first denoising step is taken for many
  lengths at once, as one batch over the same context; the length where the model is surest, against how sure it is at
  that length in general, wins. Then that length, two more, and 1.4 times as many are filled, and the best is taken.
"""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable

import numpy as np

from model_runtime.backends.interface import Backend
from model_runtime.engine.cache import ContextCache, lay_out
from model_runtime.engine.canvas import Canvas, Hole, add_masks, build_canvas
from model_runtime.engine.denoise import Bans
from model_runtime.models.families import ModelFacts
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import RequestError

LADDER = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64)
OTHER_HOLES = 8  # masks in the holes that are not being probed
BIAS_SAMPLES = 32

Bias = tuple[tuple[int, float], ...]


def resolve_policy(length: str, facts: ModelFacts) -> str:
    """The policy that a request's `length` means for this model: "expand", "search", "probe" or "fixed:N"."""
    can_expand = facts.expand_id is not None and facts.delete_id is not None
    if length == "auto":
        return facts.length if can_expand else "probe"
    if length in ("expand", "search") and not can_expand:
        raise RequestError(f"{facts.name} was not trained to expand holes; use --length probe or fixed:N")
    return length


def start_holes(holes: list[Hole], lengths: list[int], max_tokens: int) -> None:
    """Give every hole its first masks."""
    for hole, length in zip(holes, lengths, strict=True):
        add_masks(hole, min(length, max_tokens))
        hole.wanted_more = length > max_tokens


def ladder_around(length: int, max_tokens: int) -> list[int]:
    """The lengths to fill once `length` was probed: itself, two more, 1.4 times as many."""
    return sorted({min(n, max_tokens) for n in (length, length + 2, round(1.4 * length))})


def told_probe(length: int, probed: int, max_tokens: int) -> str:
    """What a fill says of its probed length: what it got, what was tried, what that cost.

    For example "probe:10 of 8,10,11 (probed 8; 1 batched pass and 3 fills)".
    """
    ladder = ladder_around(probed, max_tokens)
    tried = ",".join(map(str, ladder))
    return f"probe:{length} of {tried} (probed {probed}; 1 batched pass and {len(ladder)} fills)"


def probe_lengths(cache: ContextCache, canvas: Canvas, facts: ModelFacts, bans: Bans, bias: Bias) -> list[int]:
    """The probed length of every hole of a canvas without masks, one hole after the other."""
    general = dict(bias)
    canvas = copy.deepcopy(canvas)
    chosen = []
    for n in range(len(canvas.holes)):
        confidence = first_step_confidence(cache, canvas, n, list(general), facts, bans)
        best = max(general, key=lambda length: confidence[length] / general[length])
        chosen.append(best)
        add_masks(canvas.holes[n], best)
    return chosen


def first_step_confidence(
    cache: ContextCache, canvas: Canvas, number: int, lengths: list[int], facts: ModelFacts, bans: Bans
) -> dict[int, float]:
    """Mean probability of the best token over the masks of one hole, for each length, in one batch.

    Holes before `number` keep the masks they have, holes after it get OTHER_HOLES.
    """
    layouts, bias_rows, cells = [], [], []
    for length in lengths:
        variant = copy.deepcopy(canvas)
        add_masks(variant.holes[number], length)
        for later in variant.holes[number + 1 :]:
            add_masks(later, OTHER_HOLES)
        layout = lay_out(variant, facts)
        layouts.append(layout)
        cells.append([(cell, bans.fixed) for _, _, cell in layout.masked])
        bias_rows.append([n == number and cell.only is None for _, n, cell in layout.masked])
    bias_CV, _ = bans.for_cells(cells[-1])
    lines = [bans.for_cells(group)[1] for group in cells]
    candidates = cache.step(layouts, bias_CV, lines)
    best_BR = np.exp(candidates.log_probs_BRA[:, :, 0])
    return {
        length: float(np.mean(best_BR[b, : len(own)][np.array(own)]))
        for b, (length, own) in enumerate(zip(lengths, bias_rows, strict=True))
    }


def measure_bias(
    backend: Backend,
    tokenizer: TextTokenizer,
    bans: Bans,
    max_length: int,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
    samples: list[dict[int, float]] | None = None,
) -> Bias:
    """How sure the model is in its first step at each length whatever the hole, over lines of Python's library.

    Ships with a model (`diffill.probe_bias` in its config.json) or is measured when first needed. When `stop` says so,
    what was measured by then has to do; with nothing measured, all lengths count alike. `samples` are those measured so
    far, and get the others.
    """
    rng = random.Random(seed)
    lengths = [n for n in LADDER if n <= max_length]
    samples = [] if samples is None else samples
    for text, start, end in neutral_holes(rng)[len(samples) :]:
        if stop():
            break
        canvas = build_canvas(tokenizer, backend.facts, text, [(start, end)])
        cache = ContextCache(backend, canvas, enabled=True)
        samples.append(first_step_confidence(cache, canvas, 0, lengths, backend.facts, bans))
    if not samples:
        return tuple((length, 1.0) for length in lengths)
    return tuple((n, round(sum(found[n] for found in samples) / len(samples), 5)) for n in lengths)


def neutral_holes(rng: random.Random) -> list[tuple[str, int, int]]:
    """Holes (text, start, end) of one to three lines in modules that every Python has."""
    import bisect
    import csv
    import fnmatch
    import shlex
    import string
    import textwrap

    out: list[tuple[str, int, int]] = []
    try:
        sources = [inspect.getsource(module) for module in (bisect, csv, fnmatch, shlex, string, textwrap)]
    except OSError:  # a Python without its library's sources
        return out
    while len(out) < BIAS_SAMPLES:
        text = rng.choice(sources)
        lines = text.splitlines(keepends=True)
        first = rng.randrange(len(lines) - 3)
        count = rng.choice((1, 1, 1, 2, 3))
        start = sum(map(len, lines[:first]))
        start += len(lines[first]) - len(lines[first].lstrip())
        end = sum(map(len, lines[: first + count])) - 1
        if end > start:
            out.append((text, start, end))
    return out
