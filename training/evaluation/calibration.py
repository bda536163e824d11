"""Whether a confidence of 0.8 is right eight times in ten: the reliability of a model's tokens or fills.

    python -m training.evaluation.infill --predictors embedded --json report.json
    python -m training.evaluation.calibration report.json --picture reliability.svg

Follows Guo et al., "On Calibration of Modern Neural Networks" (2017). A token counts as correct where it
lies wholly in a part of the fill that an alignment by characters finds in the truth.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from training.evaluation.metrics import wilson_interval

INK, FILL, BAND = "#1b4965", "#5fa8d3", "#e5989b"


@dataclass(frozen=True)
class Bin:
    """The tokens (or fills) whose confidence lies from `low` to below `high` (in the last bin, to 1)."""

    low: float
    high: float
    count: int
    confidence: float  # mean; the bin's middle where it is empty
    correct: float  # share; 0 where it is empty
    correct_95: tuple[float, float]


def reliability(pairs: Sequence[tuple[float, bool]], bins: int = 10) -> list[Bin]:
    """Sort (confidence in 0 to 1, correct) into `bins` of equal width."""
    confidences = np.array([confidence for confidence, _ in pairs], dtype=np.float64)
    correct = np.array([right for _, right in pairs], dtype=bool)
    places = np.minimum((confidences * bins).astype(int), bins - 1)
    curve = []
    for index in range(bins):
        here = places == index
        count, right = int(here.sum()), int(correct[here].sum())
        curve.append(
            Bin(
                low=index / bins,
                high=(index + 1) / bins,
                count=count,
                confidence=float(confidences[here].mean()) if count else (index + 0.5) / bins,
                correct=right / count if count else 0.0,
                correct_95=wilson_interval(right, count),
            )
        )
    return curve


def expected_calibration_error(curve: Sequence[Bin]) -> float:
    """Return the mean distance of confidence and share of correct tokens, each bin weighted by its tokens."""
    total = sum(one.count for one in curve)
    return sum(one.count * abs(one.confidence - one.correct) for one in curve) / total if total else 0.0


def plot(curve: Sequence[Bin], path: Path, unit: str = "token") -> None:
    """Draw the curve with 95 % intervals over a histogram; the suffix chooses svg or png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "reliability"  # the same figures give the same file
    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(5.2, 5.6), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    used = [one for one in curve if one.count]
    x = [one.confidence for one in used]
    above.plot([0, 1], [0, 1], linestyle="--", color="0.6", linewidth=1, label="perfectly calibrated")
    for one in used:
        above.plot([one.confidence] * 2, [*one.correct_95], color=FILL, linewidth=5, alpha=0.45)
        above.plot([one.confidence] * 2, [one.confidence, one.correct], color=BAND, linewidth=1.5)
    above.plot(x, [one.correct for one in used], marker="o", color=INK, linewidth=1.5, label="measured")
    above.plot([], [], color=FILL, linewidth=5, alpha=0.45, label="95 % interval")
    above.plot([], [], color=BAND, linewidth=1.5, label="gap")
    above.set(
        xlim=(0, 1),
        ylim=(0, 1),
        ylabel=f"share of correct {unit}s",
        title=f"Reliability of {unit} confidence",
    )
    above.legend(frameon=False, loc="upper left")
    above.text(
        0.97,
        0.05,
        f"expected calibration error {expected_calibration_error(curve):.3f}",
        transform=above.transAxes,
        ha="right",
    )
    below.bar(
        [one.low for one in curve],
        [one.count for one in curve],
        width=[one.high - one.low for one in curve],
        align="edge",
        color=FILL,
        edgecolor="white",
    )
    below.set(xlabel="confidence", ylabel=f"{unit}s")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def print_curve(curve: Sequence[Bin], console: Console) -> None:
    """Print the binned table and the expected calibration error."""
    table = Table("confidence", "count", "mean confidence", "correct % [95 %]", "gap")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in curve:
        figures = (
            f"{one.confidence:.3f}",
            f"{100 * one.correct:.1f} [{100 * one.correct_95[0]:.1f}, {100 * one.correct_95[1]:.1f}]",
            f"{one.confidence - one.correct:+.3f}",
        )
        table.add_row(f"{one.low:.2f} to {one.high:.2f}", str(one.count), *(figures if one.count else ("", "", "")))
    console.print(table)
    console.print(f"expected calibration error {expected_calibration_error(curve):.4f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.calibration", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("report", type=Path, help="what training.evaluation.infill wrote with --json")
    parser.add_argument("--predictor", default="embedded")
    parser.add_argument("--unit", choices=("token", "fill"), default="token", help="a fill is right if exact")
    parser.add_argument("--bins", type=int, default=10)
    parser.add_argument("--picture", type=Path, help="an .svg or .png to write")
    options = parser.parse_args(arguments)
    reports = json.loads(options.report.read_text("utf-8"))
    rows = [row for one in reports if one["predictor"] == options.predictor for row in one["rows"]]
    if options.unit == "token":
        pairs = [(confidence, correct) for row in rows for confidence, correct in row["tokens"]]
    else:
        pairs = [(row["confidence"], row["exact"]) for row in rows if row["confidence"] is not None]
    if not pairs:
        print(
            f"{options.report} has no {options.unit}s with a confidence of {options.predictor}",
            file=sys.stderr,
        )
        return 2
    curve = reliability(pairs, options.bins)
    print_curve(curve, Console())
    if options.picture:
        plot(curve, options.picture, options.unit)
    error = expected_calibration_error(curve)
    print(
        json.dumps(
            {
                "unit": options.unit,
                "count": len(pairs),
                "error": error,
                "bins": [asdict(one) for one in curve],
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
