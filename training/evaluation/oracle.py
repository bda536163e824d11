"""Fills of exactly the true length: what samplers, numbers of steps and thresholds are compared on.

Where every mask stands for one known token, a revealed token is right or wrong without any alignment. The same
canvas comes up under many settings, so each is computed once a hole; the times of such fills mean nothing.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model_runtime.backends.interface import Backend, Candidates
from model_runtime.engine.cache import ContextCache, Layout
from model_runtime.engine.canvas import Canvas, add_masks, build_canvas, hole_fill
from model_runtime.engine.denoise import Bans, Outcome, Settings, denoise
from model_runtime.engine.engine import Engine
from model_runtime.engine.expert import CountedExpert
from model_runtime.protocol import SAMPLERS, FillRequest
from training.evaluation.holes import HoldoutHole
from training.evaluation.metrics import exact_match, wilson_interval

STEPS = (1, 2, 4, 8, 16, 32, None)  # none: as many as the sampler needs
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99)
ALLOWED_LOSS = 0.005  # of token accuracy and of exact match, against one token a step
COLOURS = dict(zip(SAMPLERS, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"), strict=True))  # Okabe and Ito
MARKS = dict(zip(SAMPLERS, ("o", "s", "^", "D", "v"), strict=True))


@dataclass(frozen=True)
class Settled:
    """One fill: (confidence, whether it is the true one, step) of each token; whether the text is exact; the steps."""

    tokens: list[tuple[float, bool, int]]
    exact: bool
    steps: int


class Once(ContextCache):
    """The cache of one context that also remembers the candidates of every canvas it has seen."""

    def __init__(self, backend: Backend, canvas: Canvas, enabled: bool = True):
        super().__init__(backend, canvas, enabled)
        self._known: dict[Any, Candidates] = {}

    def step(self, layouts: list[Layout], bias_CV: np.ndarray, bias_rows: list[list[int]], **extra: Any) -> Candidates:
        """As `ContextCache.step`; the holes' biases must be the same in every call."""
        key = tuple(layout.ids.tobytes() for layout in layouts)
        if key not in self._known:
            self._known[key] = super().step(layouts, bias_CV, bias_rows, **extra)
        return self._known[key]


class OnceExpert:
    """A counted expert that mixes itself into each `Candidates` once, however often a fill comes by."""

    def __init__(self, expert: CountedExpert):
        self._expert, self._mixed = expert, set[int]()

    def mix(self, candidates: Candidates, *where: Any) -> None:
        """As `CountedExpert.mix`; the candidates must live as long as this does."""
        if id(candidates) not in self._mixed:
            self._expert.mix(candidates, *where)
            self._mixed.add(id(candidates))


@dataclass
class OracleHole:
    """A hole, its canvas with one mask for every token of the truth, and these tokens."""

    hole: HoldoutHole
    canvas: Canvas
    truth: list[int]


def oracle_hole(engine: Engine, hole: HoldoutHole) -> OracleHole | None:
    """The canvas of a hole at its true length; None where a healed edge leaves no mask for each token."""
    at = len(hole.prefix)
    canvas = build_canvas(engine.tokenizer, engine.facts, hole.prefix + hole.suffix, [(at, at)])
    cells = canvas.holes[0]
    truth = engine.tokenizer.encode(cells.head.decode() + hole.truth + cells.tail.decode())
    count = len(truth) - len(cells.cells)
    if count < 0:
        return None
    add_masks(cells, count)
    return OracleHole(hole, canvas, truth)


def oracle_length(engine: Engine, hole: HoldoutHole) -> int:
    """The N of `fixed:N` with which a fill gets the true number of tokens (at least 1, as requests want it)."""
    known = oracle_hole(engine, hole)
    return max(1, known.canvas.holes[0].free_cells()) if known else 1


def settle(
    engine: Engine,
    known: OracleHole,
    cache: ContextCache,
    options: FillRequest,
    threshold: float | None = None,
    expert: Any = None,
) -> Settled:
    """Denoise a copy of the canvas; `threshold` stands in for the model's own."""
    backend = copy.copy(engine.backend)
    backend.facts = replace(engine.facts, threshold=threshold or engine.facts.threshold)
    canvas = Canvas(known.canvas.contexts, copy.deepcopy(known.canvas.holes), known.canvas.line_end)
    outcome, rng = Outcome(), np.random.default_rng(options.seed)
    settings = Settings(options, "fixed", options.temperature, None, None, rng, expert)
    bans = Bans(backend.facts, engine.tokenizer)
    for _ in denoise(backend, cache, canvas, bans, settings, outcome, engine.tokenizer.line_ends):
        pass
    cells = canvas.holes[0].cells
    tokens = [(cell.confidence, cell.token == true, cell.step) for cell, true in zip(cells, known.truth, strict=True)]
    text = hole_fill(canvas.holes[0], engine.tokenizer, backend.facts, "fixed", canvas.line_end, None).text
    return Settled(tokens, exact_match(text, known.hole.truth), outcome.steps)


def settle_all(
    engine: Engine,
    holes: Iterable[HoldoutHole],
    settings: Mapping[Any, tuple[FillRequest, float | None]],
    cached: bool = True,
) -> dict[Any, list[Settled]]:
    """The fills of every hole under every setting (options, threshold), by the settings' keys.

    Under full attention cached keys are an approximation; `cached` says whether it is wanted.
    """
    fills: dict[Any, list[Settled]] = {key: [] for key in settings}
    for hole in holes:
        known = oracle_hole(engine, hole)
        if known is None:
            continue
        cache = Once(engine.backend, known.canvas, cached)
        at = len(hole.prefix)
        counted = engine.counted(FillRequest(text=hole.prefix + hole.suffix, holes=[(at, at)]))
        expert = OnceExpert(counted) if counted else None
        for key, (options, threshold) in settings.items():
            fills[key].append(settle(engine, known, cache, options, threshold, expert))
    return fills


def settle_by_steps(engine: Engine, holes: Iterable[HoldoutHole], seed: int) -> dict[Any, list[Settled]]:
    """Fills by (sampler, steps), for every sampler and each of STEPS."""
    pairs = [(sampler, steps) for sampler in SAMPLERS for steps in STEPS]
    return settle_all(
        engine,
        holes,
        {(name, steps): (FillRequest(sampler=name, steps=steps, seed=seed), None) for name, steps in pairs},
    )


def settle_by_threshold(engine: Engine, holes: Iterable[HoldoutHole], seed: int) -> dict[Any, list[Settled]]:
    """Fills by the threshold of the threshold sampler; by None, the surest one token a step."""
    settings: dict[Any, tuple[FillRequest, float | None]] = {
        bound: (FillRequest(seed=seed), bound) for bound in sorted({*THRESHOLDS, engine.facts.threshold})
    }
    return settle_all(engine, holes, {None: (FillRequest(sampler="maskgit_plus", seed=seed), None), **settings})


def figures(fills: Sequence[Settled]) -> dict[str, Any]:
    """Holes, tokens, the shares of exact fills and of right tokens, and the mean steps a fill."""
    right = [correct for fill in fills for _, correct, _ in fill.tokens]
    exact = sum(fill.exact for fill in fills)
    return {
        "holes": len(fills),
        "tokens": len(right),
        "exact": exact / len(fills),
        "exact_95": wilson_interval(exact, len(fills)),
        "token_accuracy": sum(right) / len(right),
        "steps_mean": statistics.fmean(fill.steps for fill in fills),
    }


def propose_threshold(rows: Mapping[float | None, Mapping[str, Any]]) -> float:
    """The threshold with the fewest steps that loses at most ALLOWED_LOSS of either share; 1 where none does.

    `rows` are `figures` by threshold, and by None those of one token a step.
    """
    slow = rows[None]
    kept = [
        (row["steps_mean"], -threshold)
        for threshold, row in rows.items()
        if threshold is not None
        and all(slow[share] - row[share] <= ALLOWED_LOSS + 1e-9 for share in ("exact", "token_accuracy"))
    ]
    return -min(kept)[1] if kept else 1.0


def plot_steps(rows: Mapping[tuple[str, int | None], Mapping[str, Any]], path: Path, about: str) -> None:
    """Draw exact match and token accuracy over the mean steps a fill took, one line a sampler."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter

    pyplot.rcParams["svg.hashsalt"] = "steps"  # the same figures give the same file
    figure, panels = pyplot.subplots(1, 2, figsize=(8.4, 4.2), layout="constrained")
    shares = ("token_accuracy", "right tokens"), ("exact", "holes filled exactly")
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": COLOURS[SAMPLERS[0]]}
    most = max(row["steps_mean"] for row in rows.values())
    for axes, (share, title) in zip(panels, shares, strict=True):
        for sampler in SAMPLERS:
            line = sorted((row["steps_mean"], 100 * row[share]) for (name, _), row in rows.items() if name == sampler)
            axes.plot(
                *zip(*line, strict=True),
                color=COLOURS[sampler],
                marker=MARKS[sampler],
                markersize=5,
                linewidth=2 if sampler == SAMPLERS[0] else 1.4,
                linestyle="--" if sampler == "origin" else "-",
                alpha=0.9,
                label=sampler,
                zorder=3 if sampler == SAMPLERS[0] else 2,
            )
        own = rows[SAMPLERS[0], None]
        axes.scatter(own["steps_mean"], 100 * own[share], s=150, zorder=4, **ring)
        axes.set_xscale("log", base=2)
        ticks = [2**n for n in range(int(np.log2(most)) + 2)]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlim(0.9, most * 1.12)
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(100, decimals=0))
        axes.set(title=title, xlabel="denoising steps a hole, mean")
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].scatter([], [], s=90, label="the default", **ring)
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=6)
    figure.suptitle(f"Quality against steps at the true length ({about})", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
