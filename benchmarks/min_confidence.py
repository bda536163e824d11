"""Which suggestions `minConfidence` should hide: how many are shown at each bound, and how many of those are right.

    python benchmarks/min_confidence.py --source validation --count 1000

Lines are taken out of held-out code. At each gap the suggestion is made as the language server makes it, the filters
included, and its first line compared with what stood there. Prints a Markdown table, what it proposes, and one JSON
line last. Proposed is the highest bound that hides at most one in twenty of the exact suggestions.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from lsp_server.documents import Document
from lsp_server.settings import Settings
from lsp_server.silence import Silence
from lsp_server.suggest import Place, is_block, make_request, worth_showing
from model_runtime.engine.engine import Engine
from training.evaluation import metrics
from training.evaluation.holes import HoldoutHole
from training.evaluation.reporting import (
    add_options,
    print_json,
    print_table,
    progress,
    provenance,
    read_holes,
    say,
    where,
)

BOUNDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
EXACT_LOST = 0.05  # share of the exact suggestions that the proposed bound may hide


@dataclass(frozen=True)
class Shown:
    """A suggestion that passed the filters, held against the line that stood there."""

    confidence: float
    exact: bool
    similarity: float


def suggest(engine: Engine, hole: HoldoutHole, seed: int) -> Shown:
    """What the server would show in the gap; Silence where it would show nothing."""
    document = Document(f"file:///{hole.path}", "python", 1, hole.prefix + hole.suffix)
    offset = len(hole.prefix)
    place = Place(document, offset, document.range_of(offset, offset))
    request = make_request(Settings(), place, is_block(None, place), alternatives=1)
    request.seed, request.deadline_ms = seed, None
    first = worth_showing(place, engine.fill(request), least=0.0)[0]
    line = next(iter(first.text.splitlines()), "")
    return Shown(first.confidence, metrics.exact_match(line, hole.truth), metrics.edit_similarity(line, hole.truth))


def at_bound(shown: Sequence[Shown], bound: float, holes: int) -> dict[str, Any]:
    """What is shown with a bound: its share of all gaps, how right it is, and the share of exact ones that are lost."""
    kept = [one for one in shown if one.confidence >= bound]
    exact, all_exact = sum(one.exact for one in kept), sum(one.exact for one in shown)
    hidden = [one.similarity for one in shown if one.confidence < bound]
    return {
        "bound": bound,
        "shown": len(kept) / holes,
        "exact": exact / len(kept) if kept else 0.0,
        "exact_95": metrics.wilson_interval(exact, len(kept)) if kept else (0.0, 1.0),
        "similarity": statistics.fmean(one.similarity for one in kept) if kept else 0.0,
        "hidden_similarity": statistics.fmean(hidden) if hidden else None,
        "exact_lost": 1 - exact / all_exact if all_exact else 0.0,
    }


def propose(rows: Sequence[dict[str, Any]]) -> float:
    """The highest bound that hides few of the exact suggestions."""
    return max(row["bound"] for row in rows if row["exact_lost"] <= EXACT_LOST)


def main() -> None:
    """Run the measurement and print its figures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add_options(parser)
    parser.add_argument("--count", type=int, default=1000, help="gaps (1000)")
    options = parser.parse_args()
    console = Console(highlight=False)
    engine = Engine.load(options.model, threads=options.threads)
    holes = read_holes(options, options.count, "line")
    shown: list[Shown] = []
    silent: Counter[str] = Counter()
    for hole in progress(holes, "suggestions"):
        try:
            shown.append(suggest(engine, hole, options.seed))
        except Silence as silence:
            silent[silence.sentence()] += 1
    rows = [at_bound(shown, bound, len(holes)) for bound in BOUNDS]
    heads = "minConfidence", "shown %", "exact % of shown", "similar % of shown", "similar % of hidden", "exact lost %"
    print_table(heads, [line_of(row) for row in rows], console)
    proposed = propose(rows)
    reasons = "; ".join(f"{count} × {reason}" for reason, count in silent.most_common())
    say(f"Not shown at any bound: {reasons or 'none'}. Proposed: {proposed:g}.\n", console)
    about = {"benchmark": "min_confidence", "count": len(holes), **provenance(engine, options)}
    say(f"{len(holes)} lines; {where(about)}", console)
    print_json({**about, "rows": rows, "silent": dict(silent), "proposed": proposed})


def line_of(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    low, high = row["exact_95"]
    hidden = row["hidden_similarity"]
    return (
        f"{row['bound']:g}",
        f"{100 * row['shown']:.1f}",
        f"{100 * row['exact']:.1f} ({100 * low:.1f} to {100 * high:.1f})",
        f"{100 * row['similarity']:.1f}",
        "" if hidden is None else f"{100 * hidden:.1f}",
        f"{100 * row['exact_lost']:.1f}",
    )


if __name__ == "__main__":
    main()
