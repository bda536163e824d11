"""Pictures of grpo runs: rewards, held-out pass rate, KL, entropy, AR-ness and length against optimizer steps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.curves import COLOURS, smooth
from training.logs import read_log

PANELS = (
    ("reward", "reward of rollouts"),
    ("pass", "rollouts that pass all tests"),
    ("kl", "KL to the reference (nats)"),
    ("entropy", "entropy (nats)"),
    ("arness_local", "local AR-ness@1"),
    ("length", "length (tokens)"),
)


def draw_rewards(runs: Sequence[tuple[str, Sequence[Path]]], out: Path) -> None:
    """One panel a figure, one colour a label; the runs of a label are thin lines, their smoothed mean a thick one.

    Rings in the second panel are what was measured on held-out tasks, their mean over runs.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "diffill"  # the same curve is the same file
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(2, 3, figsize=(11.4, 5.6), layout="constrained")
    for colour, (label, paths) in zip(COLOURS * 4, runs, strict=False):
        logs = [read_log(path) for path in paths]
        for axes, (name, title) in zip(grid.flat, PANELS, strict=True):
            lines = [series(records, name) for records in logs]
            for steps, values in lines:
                if len(lines) > 1:
                    axes.plot(steps, smooth(values), color=colour, alpha=0.25, lw=0.8)
            shared = min((len(values) for _, values in lines), default=0)
            if shared:
                mean = np.mean([values[:shared] for _, values in lines], axis=0)
                axes.plot(lines[0][0][:shared], smooth(mean.tolist()), color=colour, label=label)
            axes.set_title(title, fontsize=9)
        points: dict[int, list[float]] = {}
        for record in itertools.chain.from_iterable(logs):
            if "pass" in record.get("scores", {}):
                points.setdefault(record["step"], []).append(record["scores"]["pass"])
        if points:
            means = [float(np.mean(points[step])) for step in sorted(points)]
            grid.flat[1].plot(sorted(points), means, "o", mfc="none", color=colour)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    for axes in grid[1]:
        axes.set_xlabel("optimizer steps", fontsize=9)
    if grid.flat[0].get_legend_handles_labels()[0]:
        grid.flat[0].legend(frameon=False, fontsize=8)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    plt.close(figure)


def series(records: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """The steps and values of a figure in a log."""
    found = [(record["step"], record[name]) for record in records if record.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]
