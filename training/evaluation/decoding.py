"""How decoding settles held-out code: lengths, steps, confidences, alternatives.

    python -m training.evaluation.decoding lengths|steps|reliability|ranking --count 200 --seed 0

- `lengths`: fixed:64, probe, expand and the true length (oracle) on the same holes.
- `steps`: quality against the number of denoising steps at the true length, for every sampler, and a picture.
- `reliability`: whether confidences are honest at the true length, and which threshold they allow, and a picture.
- `ranking`: the first candidate against the best-ranked of four, and against the best of the four.

Holes are cut from the held-out packages, or with `--source validation` from what the corpus keeps for validation.
Tables are Markdown; the last line of the output is JSON for machines.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from model_runtime.engine.engine import Engine
from model_runtime.protocol import SAMPLERS, DiffillError
from training.evaluation import calibration, metrics, oracle
from training.evaluation.holes import KINDS, HoldoutHole
from training.evaluation.lengths import measure_lengths, request_for, summarize_lengths
from training.evaluation.reporting import (
    Report,
    add_options,
    print_json,
    print_table,
    progress,
    provenance,
    read_holes,
    say,
    share,
    where,
)

COUNTS = {"lengths": 150, "steps": 400, "reliability": 1000, "ranking": 200}  # holes: minutes on one core
ALTERNATIVES = 4


def run_lengths(engine: Engine, holes: Sequence[HoldoutHole], options: argparse.Namespace, console: Console) -> Report:
    """Compare the length policies."""
    rows = measure_lengths(engine, progress(holes, "lengths"), options.seed)
    found = {policy: summarize_lengths(group) for policy, group in rows.items()}
    heads = "length", "exact %", "similar %", "same length %", "off by (tokens)", "steps", "passes", "ms"
    lines = [
        (
            policy,
            share(row, "exact"),
            f"{100 * row['similarity']:.1f}",
            share(row, "same_length"),
            f"{row['length_error']:.1f}",
            f"{row['steps_mean']:.1f}",
            f"{row['passes_mean']:.1f}",
            f"{row['ms_median']:.0f}",
        )
        for policy, row in found.items()
    ]
    print_table(heads, lines, console)
    return {"policies": found}


def run_steps(engine: Engine, holes: Sequence[HoldoutHole], options: argparse.Namespace, console: Console) -> Report:
    """Compare samplers and numbers of steps at the true length."""
    fills = oracle.settle_by_steps(engine, progress(holes, "steps"), options.seed)
    rows = {key: oracle.figures(group) for key, group in fills.items()}
    for name, title in (("token_accuracy", "right tokens %"), ("exact", "exact %")):
        heads = title, *("as needed" if steps is None else str(steps) for steps in oracle.STEPS)
        lines = [
            (sampler, *(f"{100 * rows[sampler, steps][name]:.1f}" for steps in oracle.STEPS)) for sampler in SAMPLERS
        ]
        print_table(heads, lines, console)
    widest = max(high - low for low, high in (row["exact_95"] for row in rows.values())) / 2
    taken = ", ".join(f"{sampler} {rows[sampler, None]['steps_mean']:.1f}" for sampler in SAMPLERS)
    say(f"Columns: denoising steps allowed. As needed took {taken} of them a hole.", console)
    say(f"The 95 % intervals of exact shares reach {100 * widest:.1f} points up and down at most.\n", console)
    oracle.plot_steps(rows, picture(options, "steps"), f"{engine.facts.name}, {options.kind}s")
    return {"rows": [{"sampler": sampler, "steps": steps, **row} for (sampler, steps), row in rows.items()]}


def run_reliability(
    engine: Engine, holes: Sequence[HoldoutHole], options: argparse.Namespace, console: Console
) -> Report:
    """Hold confidences against the truth, and choose a threshold by what it costs."""
    fills = oracle.settle_by_threshold(engine, progress(holes, "reliability"), options.seed)
    own = engine.facts.threshold
    curve = calibration.reliability([token[:2] for fill in fills[own] for token in fill.tokens])
    first = [(sure, right) for fill in fills[own] for sure, right, step in fill.tokens if step == 1]
    heads = "confidence", "tokens", "mean confidence", "right %"
    bins = [
        (f"{one.low:.1f} to {one.high:.1f}", str(one.count), f"{one.confidence:.3f}", share(asdict(one), "correct"))
        for one in curve
        if one.count
    ]
    print_table(heads, bins, console)
    error = calibration.expected_calibration_error(curve)
    first_error = calibration.expected_calibration_error(calibration.reliability(first))
    say(
        f"Expected calibration error {error:.3f} at the threshold {own:g}; {first_error:.3f} of the {len(first)} tokens"
        " revealed in a first step, which no wrong token beside them can have misled.\n",
        console,
    )
    calibration.plot(curve, picture(options, "reliability"), "token")
    rows = {threshold: oracle.figures(group) for threshold, group in fills.items()}
    names = {threshold: "one token a step" if threshold is None else f"{threshold:g}" for threshold in rows}
    lines = [(names[threshold], *quality(row)) for threshold, row in rows.items()]
    print_table(("threshold", "steps taken", "right tokens %", "exact %"), lines, console)
    proposed = oracle.propose_threshold(rows)
    say(
        f"Proposed threshold: {proposed:g}, the fewest steps with at most {100 * oracle.ALLOWED_LOSS:g} points lost"
        " of right tokens and of exact fills against one token a step.\n",
        console,
    )
    return {
        "error": error,
        "first_step_error": first_error,
        "first_step_tokens": len(first),
        "bins": [asdict(one) for one in curve],
        "thresholds": [{"threshold": threshold, **row} for threshold, row in rows.items()],
        "proposed": proposed,
    }


def run_ranking(engine: Engine, holes: Sequence[HoldoutHole], options: argparse.Namespace, console: Console) -> Report:
    """Compare the first candidate with the best-ranked of four, and with the best there is among the four."""
    exact: dict[str, list[bool]] = {"first candidate": [], "ranked best of 4": [], "best possible of 4": []}
    similar: dict[str, list[float]] = {name: [] for name in exact}
    ms: dict[str, list[float]] = {name: [] for name in exact}
    sizes = []
    for number, hole in enumerate(progress(holes, "ranking")):
        if number == 0:
            engine.fill(request_for(hole, alternatives=ALTERNATIVES))  # the parsers load once
        first = engine.fill(request_for(hole, seed=options.seed))
        several = engine.fill(request_for(hole, seed=options.seed, alternatives=ALTERNATIVES))
        texts = [fills[0].text for fills in (several.holes, *several.alternatives)]
        sizes.append(len(texts))
        told = first.holes[0].text, texts[0], max(texts, key=lambda text: metrics.edit_similarity(text, hole.truth))
        results = first, several, several
        for name, text, result in zip(exact, told, results, strict=True):
            exact[name].append(metrics.exact_match(text, hole.truth))
            similar[name].append(metrics.edit_similarity(text, hole.truth))
            ms[name].append(result.timing_ms["total"])
    before, after = exact["first candidate"], exact["ranked best of 4"]
    won = sum(new and not old for old, new in zip(before, after, strict=True))
    lost = sum(old and not new for old, new in zip(before, after, strict=True))
    found: Report = {
        name: {
            "exact": sum(right) / len(right),
            "exact_95": metrics.wilson_interval(sum(right), len(right)),
            "similarity": statistics.fmean(similar[name]),
            "ms_median": statistics.median(ms[name]),
        }
        for name, right in exact.items()
    }
    lines = [
        (name, share(row, "exact"), f"{100 * row['similarity']:.1f}", f"{row['ms_median']:.0f}")
        for name, row in found.items()
    ]
    print_table(("answer", "exact %", "similar %", "ms"), lines, console)
    mean = statistics.fmean(sizes)
    say(f"Ranking won {won} holes and lost {lost}; {mean:.1f} different candidates a hole.\n", console)
    return {"holes": len(sizes), "answers": found, "won": won, "lost": lost, "candidates_mean": mean}


def quality(row: Report) -> tuple[str, str, str]:
    """Mean steps, right tokens and exact fills, as a table shows them."""
    return f"{row['steps_mean']:.1f}", f"{100 * row['token_accuracy']:.1f}", share(row, "exact")


def picture(options: argparse.Namespace, name: str) -> Path:
    """Where a picture goes; the validation source has files of its own."""
    return options.out / f"{name}{'' if options.source == 'packages' else '-validation'}.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    runs: dict[str, Callable[..., Report]] = {
        "lengths": run_lengths,
        "steps": run_steps,
        "reliability": run_reliability,
        "ranking": run_ranking,
    }
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.decoding", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("what", choices=runs)
    add_options(parser)
    parser.add_argument("--count", type=int, help=f"holes ({', '.join(f'{k} {v}' for k, v in COUNTS.items())})")
    parser.add_argument("--kind", choices=KINDS, default="line")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), help="where pictures go")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        count = COUNTS[options.what] if options.count is None else options.count
        holes = read_holes(options, count, options.kind)
        engine = Engine.load(options.model, threads=options.threads, keep_bytes=0)  # no fill has what another encoded
        report = runs[options.what](engine, holes, options, console)
    except (ValueError, DiffillError) as error:
        print(error, file=sys.stderr)
        return 2
    about = {"what": options.what, "kind": options.kind, "count": count, **provenance(engine, options)}
    say(f"{count} {options.kind} holes; {where(about)}", console)
    print_json({**about, **report})
    return 0


if __name__ == "__main__":
    sys.exit(main())
