"""Held-out bits a byte: how many bits the model needs for code that it never saw.

    python -m training.evaluation.bits --count 600 --seed 0

- `next token`: files in stretches of 384 tokens, each token from those before it in its stretch; models whose
  context carries a next-token loss (`context_blind`) only.
- `hole at once`: the true tokens of held-out lines, all masked, from both sides, the true length known: one pass.
- `hole left to right`: the same lines by the chain rule, each token with those before it revealed.

The network is measured alone, without the counted expert that a fill may mix in. A hole's probabilities are taken
over ids that are text, as in a fill of fixed length. Intervals are of ratios, with stretches and holes as the units
that vary. The last line of the output is JSON for machines.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from model_runtime.backends.interface import Window
from model_runtime.engine.cache import ContextCache, lay_out
from model_runtime.engine.canvas import Cell
from model_runtime.engine.denoise import Bans
from model_runtime.engine.engine import Engine
from model_runtime.protocol import DiffillError
from training.evaluation.holes import HELD_OUT, KINDS, HoldoutHole, read_package, read_validation
from training.evaluation.oracle import oracle_hole
from training.evaluation.reporting import (
    Report,
    add_options,
    print_json,
    print_table,
    progress,
    provenance,
    read_holes,
    say,
    where,
)

STRETCH = 384
CAUSAL = 0  # the segment of a stretch's rows: each sees itself and what is before it


@dataclass(frozen=True)
class Cost:
    """What a stretch or a hole takes: nats, and over how many tokens and bytes."""

    nats: float
    tokens: int
    bytes: int


def next_token_costs(engine: Engine, texts: Sequence[str], count: int, seed: int) -> list[Cost]:
    """The costs of `count` stretches (or all there are), drawn from the texts without replacement."""
    stretches = [
        tokens[start : start + STRETCH]
        for tokens in map(engine.tokenizer.encode, texts)
        for start in range(0, len(tokens), STRETCH)
    ]
    chosen = random.Random(seed).sample(stretches, min(count, len(stretches)))
    return [causal_cost(engine, tokens) for tokens in progress(chosen, "next token") if len(tokens) > 1]


def causal_cost(engine: Engine, tokens: Sequence[int]) -> Cost:
    """Each token from those before it; the first from bos, or not at all where the model has none."""
    facts = engine.facts
    row = [*tokens] if facts.bos_id is None else [facts.bos_id, *tokens]
    ids_1W, targets_1R = np.array([row[:-1]], np.int64), np.array([row[1:]], np.int64)
    positions_1W = np.arange(ids_1W.shape[1])[None]
    window = Window(
        ids_BW=ids_1W,
        positions_BW=positions_1W,
        segments_BW=np.full_like(ids_1W, CAUSAL),
        rows_BR=positions_1W,
        bias_CV=np.zeros((1, facts.vocabulary), np.float32),
        bias_rows_BR=np.zeros_like(ids_1W),
        targets_BR=targets_1R,
    )
    candidates, _, _ = engine.backend.window(window)
    assert candidates.target_log_probs_BR is not None
    nats = -float(candidates.target_log_probs_BR.sum(dtype=np.float64))
    return Cost(nats, targets_1R.size, len(engine.tokenizer.decode_bytes(targets_1R[0])))


def hole_costs(engine: Engine, holes: Iterable[HoldoutHole]) -> tuple[list[Cost], list[Cost]]:
    """The costs of the holes' tokens all at once, and left to right."""
    at_once, chain = [], []
    bans = Bans(engine.facts, engine.tokenizer)
    for hole in holes:
        known = oracle_hole(engine, hole)
        if known is None:
            continue
        truth, cells = known.truth, known.canvas.holes[0].cells
        # under full attention cached keys are an approximation
        cache = ContextCache(engine.backend, known.canvas, enabled=engine.facts.context_blind)
        allowed = [cell.only for cell in cells]
        bias_CV, lines = bans.for_cells([(cell, bans.fixed) for cell in cells])
        layouts = []
        for revealed in range(len(truth)):  # layout n has the first n tokens in place
            masks = [None] * (len(truth) - revealed)
            known.canvas.holes[0].cells = [
                Cell(token, only=only) for token, only in zip([*truth[:revealed], *masks], allowed, strict=True)
            ]
            layouts.append(lay_out(known.canvas, engine.facts))
        targets_BR = np.zeros((len(truth), len(truth)), np.int64)
        for revealed in range(len(truth)):
            targets_BR[revealed, : len(truth) - revealed] = truth[revealed:]
        bias_rows = [lines[revealed:] for revealed in range(len(truth))]
        candidates = cache.step(layouts, bias_CV, bias_rows, targets_BR=targets_BR)
        assert candidates.target_log_probs_BR is not None
        log_probs_BR = candidates.target_log_probs_BR.astype(np.float64)
        size = len(hole.truth.encode())
        at_once.append(Cost(-float(log_probs_BR[0].sum()), len(truth), size))
        chain.append(Cost(-float(log_probs_BR[:, 0].sum()), len(truth), size))
    return at_once, chain


def summarize(costs: Sequence[Cost]) -> Report:
    """Nats a token and bits a byte over all costs, the latter with its 95 % interval (linearised ratio)."""
    nats, size = sum(cost.nats for cost in costs), sum(cost.bytes for cost in costs)
    ratio = nats / size
    spread = math.sqrt(sum((cost.nats - ratio * cost.bytes) ** 2 for cost in costs))
    half = 1.959964 * spread * math.sqrt(len(costs) / max(1, len(costs) - 1)) / size
    tokens = sum(cost.tokens for cost in costs)
    return {
        "units": len(costs),
        "tokens": tokens,
        "bytes": size,
        "nats_per_token": nats / tokens,
        "bits_per_byte": ratio / math.log(2),
        "bits_per_byte_95": ((ratio - half) / math.log(2), (ratio + half) / math.log(2)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluation.bits", description=str(__doc__).split("\n")[0])
    add_options(parser)
    parser.add_argument("--count", type=int, default=600, help="stretches, and as many holes")
    parser.add_argument("--kind", choices=KINDS, default="line")
    parser.add_argument("--backend", choices=("auto", "onnx", "torch"), default="torch")
    options = parser.parse_args(arguments)
    try:
        holes = read_holes(options, options.count, options.kind)
        if options.source == "validation":
            texts = [text for _, _, text in read_validation(options.pack)]
        else:
            texts = [text for package in HELD_OUT for _, _, text in read_package(package)]
        engine = Engine.load(options.model, options.backend, options.threads)
        costs: dict[str, list[Cost]] = {}
        if engine.facts.context_blind and engine.facts.shift:
            costs["next token"] = next_token_costs(engine, texts, options.count, options.seed)
        costs["hole at once"], costs["hole left to right"] = hole_costs(engine, progress(holes, "holes"))
    except (ValueError, DiffillError) as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(highlight=False)
    found = {name: summarize(group) for name, group in costs.items()}
    lines = [
        (
            name,
            f"{row['units']}",
            f"{row['tokens']}",
            f"{row['bytes']}",
            f"{row['nats_per_token']:.3f}",
            "{:.3f} ({:.3f} to {:.3f})".format(row["bits_per_byte"], *row["bits_per_byte_95"]),
        )
        for name, row in found.items()
    ]
    heads = "measure", "stretches or holes", "tokens", "bytes", "nats a token", "bits a byte (95 %)"
    print_table(heads, lines, console)
    about = {"what": "bits", "kind": options.kind, "count": options.count, **provenance(engine, options)}
    say(f"{options.kind} holes; {where(about)}", console)
    print_json({**about, "measures": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
