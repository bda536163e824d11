"""Pictures of runs: loss and held-out bits a byte against tokens seen.

python -m training.curves --out curves.svg base=build/pipeline/base adapt=build/pipeline/adapt
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.logs import read_log

COLOURS = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"


def smooth(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """An exponential mean that does not lag at the start."""
    found, mean, share = [], 0.0, 0.0
    for value in values:
        mean, share = weight * mean + (1 - weight) * value, weight * share + (1 - weight)
        found.append(mean / share)
    return found


def draw_curves(logs: Sequence[tuple[str, Path]], out: Path) -> None:
    """Left the training loss (nats, as the stage weighs it), right the held-out figures; one line a log."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "diffill"  # the same curve is the same file
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 3.6), layout="constrained")
    for colour, (label, path) in zip(COLOURS * 4, logs, strict=False):
        records = read_log(path)
        steps = [r for r in records if "loss" in r]
        scored = [r for r in records if "scores" in r]
        left.plot([r["tokens"] / 1e6 for r in steps], [r["loss"] for r in steps], color=colour, alpha=0.2, lw=0.8)
        mean = smooth([r["loss"] for r in steps])
        left.plot([r["tokens"] / 1e6 for r in steps], mean, color=colour, label=label)
        for style, name in zip(
            ("-", "--", ":"), ("bits_per_byte", "bits_per_byte@0.5", "bits_per_byte@0.15"), strict=True
        ):
            points = [(r["tokens"] / 1e6, r["scores"][name]) for r in scored if name in r["scores"]]
            if points:
                text = (
                    f"{label}, {'bound' if name == 'bits_per_byte' and label != 'base' else name[14:] or 'chain rule'}"
                )
                right.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=text)
    left.set_ylabel("training loss (nats)")
    right.set_ylabel("held-out bits a byte")
    for axes in (left, right):
        axes.set_xlabel("tokens seen (millions)")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="LABEL=DIR", help="a run's folder, and what it is called")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    pairs = [run.partition("=") for run in arguments.runs]
    draw_curves([(label, Path(folder) / "log.jsonl") for label, _, folder in pairs], arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
