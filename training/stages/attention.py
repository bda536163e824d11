"""Which attention, and which start, at equal computing time: `python -m training.stages.attention --minutes 15`.

Four small models, each on one thread for the same minutes: `blind`, the embedded model's attention, in which context
never looks at a hole and carries a next-token loss; `full`, in which everything looks at everything and only masked
tokens carry a loss; and either one begun with half of its minutes of next tokens alone. Then lines of validation
documents, by the network alone: their length known, one token a step, the surest first; searched from the left, as
the embedded model does; and nats a token, all at once and from left to right. The last line of the output is JSON for
machines. Arms that are trained are not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from model_runtime.engine.engine import Engine
from model_runtime.protocol import FillRequest
from training.checkpoints import latest_checkpoint
from training.evaluation.bits import hole_costs, summarize
from training.evaluation.holes import HoldoutHole, sample_validation_holes
from training.evaluation.infill import hardware
from training.evaluation.metrics import edit_similarity, exact_match, wilson_interval
from training.evaluation.oracle import figures, settle_all
from training.evaluation.reporting import print_json, print_table, progress, say, share

RECIPES = Path(__file__).parents[1] / "recipes/attention"
START = "causal"
ATTENTIONS = "blind", "full"


def train(out: Path, corpus: Path, recipe: str, minutes: float, name: str, source: Path | None = None) -> Path:
    """A run on one thread, in a process of its own; the folder of its checkpoint."""
    folder = out / name
    command = [
        sys.executable, "-m", "training.stages.scratch", "--recipe", str(RECIPES / f"{recipe}.yaml"),
        "--corpus", str(corpus), "--minutes", str(minutes), "--out", str(folder),
    ]  # fmt: skip
    if source is not None:
        command += ["--from", str(source)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a") as told:
        subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=told, stderr=told, check=True)
    checkpoint = latest_checkpoint(folder / "checkpoint")
    assert checkpoint is not None
    return checkpoint


def train_all(out: Path, corpus: Path, minutes: float, at_once: int) -> dict[str, Path]:
    """The arms' checkpoints; `at_once` runs beside one another."""
    with ThreadPoolExecutor(at_once) as pool:
        start = pool.submit(train, out, corpus, START, minutes / 2, START)
        arms: dict[str, Future[Path]] = {
            recipe: pool.submit(train, out, corpus, recipe, minutes, recipe) for recipe in ATTENTIONS
        }

        def adapt(recipe: str) -> Path:
            return train(out, corpus, recipe, minutes / 2, f"{START}-{recipe}", start.result())

        arms |= {f"{START}, then {recipe}": pool.submit(adapt, recipe) for recipe in ATTENTIONS}
        return {name: arm.result() for name, arm in arms.items()}


def searched(engine: Engine, holes: Sequence[HoldoutHole]) -> dict[str, Any]:
    """Exact and similar lines by search; cached keys only where they are exact."""
    exact, similar = [], []
    cache: Literal["on", "off"] = "on" if engine.facts.context_blind else "off"
    for hole in progress(holes, "searches"):
        at = len(hole.prefix)
        request = FillRequest(
            text=hole.prefix + hole.suffix,
            holes=[(at, at)],
            max_lines=1,
            language="python",
            length="search",
            cache=cache,
        )
        text = engine.fill(request).holes[0].text
        exact.append(exact_match(text, hole.truth))
        similar.append(edit_similarity(text, hole.truth))
    interval = wilson_interval(sum(exact), len(exact))
    return {"exact": statistics.fmean(exact), "exact_95": interval, "similarity": statistics.fmean(similar)}


def measure(checkpoint: Path, corpus: Path, count: int, seed: int) -> dict[str, Any]:
    """What a run's network gives for validation lines."""
    config = json.loads((checkpoint / "config.json").read_text())
    config["diffill"] = {"name": checkpoint.parent.name, "context_length": 512}
    (checkpoint / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    engine = Engine.load(checkpoint, "torch")
    holes = sample_validation_holes(corpus, count, seed)
    one_by_one = {"fills": (FillRequest(sampler="maskgit_plus", seed=seed), None)}
    fills = settle_all(engine, progress(holes, "fills"), one_by_one, cached=engine.facts.context_blind)["fills"]
    at_once, chain = hole_costs(engine, progress(holes, "nats"))
    state = torch.load(checkpoint / "trainer.pt", map_location="cpu", weights_only=True)
    tokens = state["tokens"] + state["earlier"]["tokens"]
    nats = {"at_once": summarize(at_once)["nats_per_token"], "left_to_right": summarize(chain)["nats_per_token"]}
    return {**figures(fills), **nats, "searched": searched(engine, holes[: count // 2]), "tokens_seen": tokens}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15, help="of each arm")
    parser.add_argument("--at-once", type=int, default=2, help="runs beside one another, a thread each")
    parser.add_argument("--count", type=int, default=400, help="validation lines")
    parser.add_argument("--seed", type=int, default=0, help="of the lines")
    parser.add_argument("--corpus", type=Path, default=Path("build/embedded"))
    parser.add_argument("--out", type=Path, default=Path("build/attention"))
    options = parser.parse_args(argv)
    if not (options.corpus / "READY").is_file():
        print(f"{options.corpus} holds no corpus: make corpus", file=sys.stderr)
        return 2
    checkpoints = train_all(options.out, options.corpus, options.minutes, options.at_once)
    report = {name: measure(place, options.corpus, options.count, options.seed) for name, place in checkpoints.items()}
    console = Console(highlight=False)
    lines = [
        (
            name,
            f"{row['tokens_seen'] / 1e6:.1f} M",
            f"{100 * row['token_accuracy']:.1f}",
            share(row, "exact"),
            share(row["searched"], "exact"),
            f"{100 * row['searched']['similarity']:.1f}",
            f"{row['left_to_right']:.3f}",
            f"{row['at_once']:.3f}",
        )
        for name, row in report.items()
    ]
    of_surest, of_search = ("right tokens %", "exact % (95 %)"), ("searched, exact % (95 %)", "similar %")
    heads = "arm", "tokens seen", *of_surest, *of_search, "nats, left to right", "nats, at once"
    print_table(heads, lines, console)
    say(f"{options.minutes:g} minutes on one thread each; {options.count} lines; {hardware()}", console)
    print_json({"minutes": options.minutes, "count": options.count, "hardware": hardware(), "arms": report})
    return 0


if __name__ == "__main__":
    sys.exit(main())
