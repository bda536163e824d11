"""What counts, network and both together are worth in the search: `python -m training.evaluation.parts --count 1000`.

The same lines are filled three ways. Counts alone: the gate open for them only, the end of a line learned anew from
what they say of it, and no network in the suffix's score. Network alone: `--expert off`. The differences are paired.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from rich.console import Console

from model_runtime.engine import search
from model_runtime.engine.engine import Engine
from model_runtime.engine.expert import END_FEATURES, FEATURES, Expert
from model_runtime.protocol import DiffillError, FillRequest
from training.evaluation import metrics, reporting
from training.evaluation.holes import HoldoutHole, sample_validation_holes
from training.evaluation.passk import paired_bootstrap
from training.gate import LINES_OF, learn_end, observe

WAYS = ("counts", "network", "both")
OPEN = 30.0  # a gate that is open for the counts, whatever its features say
OF_NETWORK = [name.startswith("network") for name in END_FEATURES]


def counts_alone(expert: Expert, engine: Engine, learned_on: Sequence[HoldoutHole]) -> Expert:
    """The counts with weights that heed nothing of the network."""
    seen = observe(engine, learned_on, 0)
    seen = dataclasses.replace(seen, end_features=np.where(OF_NETWORK, 0.0, seen.end_features))
    gate = np.array([OPEN if name == "bias" else 0.0 for name in FEATURES])
    return dataclasses.replace(expert, gate=gate, end=np.where(OF_NETWORK, 0.0, learn_end(seen)))


def fill_all(way: str, options: argparse.Namespace) -> list[tuple[bool, float, bool]]:
    """Whether each fill is exact, how similar it is, and whether the file parses with it."""
    engine = Engine.load(options.model, threads=options.threads)
    holes = reporting.read_holes(options, options.count, "line")
    if way == "counts":
        if engine.expert is None:
            raise ValueError(f"{engine.facts.name} has no counts")
        learned_on = sample_validation_holes(options.pack, options.learn, LINES_OF)
        engine.expert = counts_alone(engine.expert, engine, learned_on)
        search.NETWORK_SUFFIX = 0.0  # this process does nothing else
    rows = []
    for hole in reporting.progress(holes, way):
        at = len(hole.prefix)
        request = FillRequest(
            text=hole.prefix + hole.suffix, holes=[(at, at)], max_lines=1, language="python", length="search",
            expert="off" if way == "network" else "on",
        )  # fmt: skip
        text, truth = engine.fill(request).holes[0].text, hole.truth
        valid = metrics.valid_syntax(hole.prefix, text, hole.suffix, truth)
        rows.append((metrics.exact_match(text, truth), metrics.edit_similarity(text, truth), valid))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.parts", description=str(__doc__).split("\n")[0]
    )
    reporting.add_options(parser)
    parser.add_argument("--count", type=int, default=1000, help="lines")
    parser.add_argument("--learn", type=int, default=300, help="validation lines for the end by the counts alone")
    options = parser.parse_args(arguments)
    try:
        with ProcessPoolExecutor(len(WAYS)) as pool:
            rows = dict(zip(WAYS, pool.map(partial(fill_all, options=options), WAYS), strict=True))
    except (ValueError, DiffillError) as error:
        print(error, file=sys.stderr)
        return 2
    console, report = Console(), {"count": options.count, **reporting.provenance(Engine.load(options.model), options)}
    lines = []
    for way, found in rows.items():
        exact, similar, valid = (statistics.fmean(column) for column in zip(*found, strict=True))
        interval = metrics.wilson_interval(sum(row[0] for row in found), len(found))
        figures = {"exact": exact, "exact_95": interval, "similarity": similar, "valid": valid}
        report[way] = figures
        lines.append((way, reporting.share(figures, "exact"), f"{100 * similar:.1f}", f"{100 * valid:.1f}"))
    reporting.print_table(("", "exact % (95 %)", "similar %", "parses %"), lines, console)
    for column, name in enumerate(("exact", "similar", "parses")):
        a, b = ([float(row[column]) for row in rows[way]] for way in ("counts", "both"))
        gain = paired_bootstrap(a, b)
        report[f"both over counts, {name}"] = dataclasses.asdict(gain)
        mean, low, high = (f"{100 * value:+.1f}" for value in (gain.mean, gain.low, gain.high))
        told = f"{mean} points ({low} to {high}), better on {gain.b_better}, worse on {gain.a_better}"
        reporting.say(f"both over counts, {name}: {told}", console)
    reporting.say(reporting.where(report), console)
    reporting.print_json(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
