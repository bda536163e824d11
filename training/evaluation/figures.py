"""The pictures of a report: AR-ness, orders, the first step, the temperature sweep, fewer steps; PNG by matplotlib."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.summary import KS

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555", "#E69F00")  # Okabe and Ito
PANELS = 3  # decodings shown of each model
FLAT = 5.0  # per cent: an axis that shows nothing but zeros goes up to here
MOST = 0.5  # of the samples have to be long enough for a k that is drawn
Row = Mapping[str, Any]


def draw_arness(models: Mapping[str, Row], path: Path) -> None:
    """Local and global AR-ness over k, one colour a model; `models` are figures of one temperature each."""
    figure, (left, right) = panels(1, 2, 9.6, 3.7)
    readings = (
        ("local_set_over_T", "-", "o", "set, over T"),
        ("local_sequence_over_valid", ":", "s", "run, over T - k"),
    )
    for (label, found), colour in zip(models.items(), COLOURS * 9, strict=False):
        known = found.get("arness", {})
        for name, style, mark, reading in readings:
            told = {k: known[name][str(k)] for k in KS if str(k) in known.get(name, {})}
            points = [(k, row["mean"]) for k, row in told.items() if row["share"] >= MOST]
            if points:
                left.plot(*zip(*points, strict=True), style, marker=mark, color=colour, label=f"{label}: {reading}")
        total = {k: known["global"][str(k)] for k in KS if str(k) in known.get("global", {})}
        if total:
            ks = np.array(list(total))
            means, sds = (np.array([row[name] for row in total.values()]) for name in ("mean", "sd"))
            right.plot(ks, means, "-o", color=colour, label=label)
            right.fill_between(ks, (means - sds).clip(0), (means + sds).clip(max=1), color=colour, alpha=0.12, lw=0)
    left.set(title="local: the k tokens before continue to it", xlabel="k", ylabel="AR-ness", ylim=(-0.02, 1.1))
    right.set(title="global: among the k leftmost masks", xlabel="k", ylim=(-0.02, 1.1))
    for axes in (left, right):
        axes.axhline(1, color="0.6", lw=0.8, ls="--")
        axes.set_xticks(KS)
    right.annotate("left to right", (1, 1), xytext=(0, 3), textcoords="offset points", fontsize=8, color="0.4")
    legends(left, right)
    save(figure, path)


def draw_orders(models: Mapping[str, Sequence[Row]], path: Path) -> None:
    """When each position was revealed: position to the right, step upwards; the line is left to right."""
    shown = {label: found[:PANELS] for label, found in models.items() if found}
    columns = max(len(found) for found in shown.values())
    figure, grid = panels(len(shown), columns, 3.2 * columns + 0.6, 2.7 * len(shown) + 0.4, squeeze=False)
    for line, (label, found) in zip(grid, shown.items(), strict=True):
        for axes, trace in zip(line, found, strict=False):
            steps, count = np.array(trace["steps"]), int(trace["shown"])
            at = np.arange(len(steps))
            answer = at < count
            axes.plot([0, len(steps) - 1], [1, steps.max()], color="0.75", lw=0.9, zorder=1)
            axes.scatter(at[~answer], steps[~answer], s=9, color="0.6", label="behind the end", zorder=2)
            axes.scatter(at[answer], steps[answer], s=13, c=steps[answer], cmap="viridis_r", zorder=3)
            axes.set_title(short(trace["task_id"]), fontsize=8)
            for axis in (axes.xaxis, axes.yaxis):
                axis.get_major_locator().set_params(integer=True)
        for axes in line[len(found) :]:
            axes.set_visible(False)
        line[0].set_ylabel(f"{label}\nstep")
    for axes in grid[-1]:
        axes.set_xlabel("position")
    save(figure, path)


def draw_first_step(models: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Confidence and entropy at each mask before anything is revealed: medians, and 80 % of the problems."""
    figure, (left, right) = panels(1, 2, 9.6, 3.6)
    for (label, rows), colour in zip(models.items(), COLOURS * 9, strict=False):
        for axes, name in ((left, "confidence"), (right, "entropy")):
            longest = max(len(row[name]) for row in rows)
            columns = [[row[name][at] for row in rows if at < len(row[name])] for at in range(longest)]
            columns = columns[: next((n for n, c in enumerate(columns) if len(c) < max(1, len(rows) // 3)), longest)]
            at = np.arange(len(columns))
            axes.xaxis.get_major_locator().set_params(integer=True)
            low, middle, high = (np.array([np.percentile(c, q) for c in columns]) for q in (10, 50, 90))
            axes.plot(at, middle, color=colour, label=label, lw=1.6)
            axes.fill_between(at, low, high, color=colour, alpha=0.14, lw=0)
    left.set(title="the best token's probability", xlabel="masks right of the prefix", ylim=(0, 1.02))
    right.set(title="entropy (nats)", xlabel="masks right of the prefix")
    right.set_ylim(bottom=0)
    legends(left)
    save(figure, path)


def draw_sweep(models: Mapping[str, Mapping[str, Row]], path: Path) -> None:
    """pass@k, AR-ness and the diversity of orders and texts over the temperature; `models` by label and temperature."""
    figure, (left, middle, right) = panels(1, 3, 12.6, 3.7)
    for (label, found), colour in zip(models.items(), COLOURS * 9, strict=False):
        temperatures = [float(temperature) for temperature in found]
        names = [name for name in next(iter(found.values())) if name.startswith("pass@")]
        for name, style in zip(names, ("-o", "--s", ":^", "-.D"), strict=False):
            means = [100 * row[name]["mean"] for row in found.values()]
            left.plot(temperatures, means, style, color=colour, label=f"{label}: {name}", ms=4)
            if name == names[0]:
                low, high = ([100 * row[name][end] for row in found.values()] for end in ("low", "high"))
                left.fill_between(temperatures, low, high, color=colour, alpha=0.12, lw=0)
        for k, style in (("1", "-o"), ("4", "--s")):
            points = pairs(found, lambda row, k=k: row.get("arness", {}).get("global", {}).get(k, {}).get("mean"))
            middle.plot(*points, style, color=colour, ms=4, label=f"{label}: global@{k}")
        right.plot(
            *pairs(found, lambda row: row.get("order_distance")), "-o", color=colour, ms=4, label=f"{label}: orders"
        )
        right.plot(*pairs(found, lambda row: row.get("distinct")), ":^", color=colour, ms=4, label=f"{label}: texts")
    left.set(title="passed", xlabel="temperature", ylabel="%", ylim=(0, max(FLAT, left.get_ylim()[1])))
    middle.set(title="AR-ness", xlabel="temperature", ylim=(0, 1.02))
    right.set(title="diversity of samples", xlabel="temperature", ylim=(0, 1.02))
    legends(left, middle, right)
    save(figure, path)


def draw_steps(models: Mapping[str, Mapping[int, Row]], path: Path) -> None:
    """What fewer steps cost and save; `models` by label and number of steps."""
    figure, (left, right) = panels(1, 2, 9.6, 3.6)
    for (label, found), colour in zip(models.items(), COLOURS * 9, strict=False):
        steps = sorted(found)
        first = next(iter(found.values()))
        for name, style in (("pass@1", "-o"), ("exact", "--s"), ("parses", ":^")):
            if name in first:
                means = [100 * found[count][name]["mean"] for count in steps]
                left.plot(steps, means, style, color=colour, ms=4, label=f"{label}: {name.replace('pass@1', 'passed')}")
        right.plot(steps, [found[count]["ms_median"] for count in steps], "-o", color=colour, ms=4, label=label)
    left.set(title="quality", xlabel="steps", ylabel="% of samples", ylim=(0, max(FLAT, left.get_ylim()[1])))
    right.set(title="time of a sample (ms, median)", xlabel="steps")
    right.set_ylim(bottom=0)
    every = sorted({count for found in models.values() for count in found})
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(every, [str(count) for count in every])
        axes.minorticks_off()
    legends(left, right)
    save(figure, path)


def pairs(found: Mapping[str, Row], value: Any) -> tuple[list[float], list[float]]:
    """The temperatures at which there is a value, and the values."""
    known = [(float(temperature), value(row)) for temperature, row in found.items() if value(row) is not None]
    return [t for t, _ in known], [v for _, v in known]


def panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Any, Any]:
    """A figure and its axes, plain."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(rows, columns, figsize=(width, height), layout="constrained", **options)
    for one in np.atleast_1d(axes).flat:
        one.grid(color="0.92", lw=0.7)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
        one.title.set_fontsize(10)
    return figure, axes


def legends(*every: Any) -> None:
    """A legend below each of the axes, so that it covers nothing."""
    for axes in every:
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            axes.legend(
                handles, labels, frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.19), ncols=2
            )


def save(figure: Any, path: Path) -> None:
    """Write a figure and free it."""
    from matplotlib import pyplot

    figure.savefig(path, dpi=130, metadata={"Software": None})
    pyplot.close(figure)


def short(text: str, most: int = 34) -> str:
    """A name, cut in its middle."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 + 1 :]}"


def sink(rows: Sequence[Row]) -> dict[str, float]:
    """How L-shaped the first step is: mean confidence of the first four masks, and of the others."""
    near = [value for row in rows for value in row["confidence"][:4]]
    far = [value for row in rows for value in row["confidence"][4:]]
    return {"first_4": statistics.fmean(near), "others": statistics.fmean(far) if far else float("nan")}
