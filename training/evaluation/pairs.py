"""Two holes of one file in one request: `python -m training.evaluation.pairs --count 300`.

Two lines of a held-out file, one to eleven lines of code apart, are cut out together. `search` fills one after the
other, the second with the first's text in place; `expand` denoises both at once on one canvas.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from model_runtime.engine.engine import Engine
from model_runtime.protocol import DiffillError, FillRequest, Span
from training.evaluation import metrics, reporting
from training.evaluation.holes import HELD_OUT, MIN_LINE, code_lines, read_package, read_validation

WAYS = ("search", "expand")
APART = 11  # lines of code at most


@dataclass(frozen=True)
class Pair:
    """A file without two of its lines: where they were, and what they were."""

    text: str
    holes: tuple[Span, Span]
    truths: tuple[str, str]


def sample_pairs(texts: Sequence[str], count: int, seed: int) -> list[Pair]:
    """Pairs of lines, files drawn with replacement; ValueError where no file is long enough."""
    rng = random.Random(seed)
    lines_of = [[line for line in code_lines(text) if line.end - line.start >= MIN_LINE] for text in texts]
    long_enough = [(text, lines) for text, lines in zip(texts, lines_of, strict=True) if len(lines) > APART]
    if not long_enough:
        raise ValueError(f"no file has more than {APART} lines of code")
    pairs = []
    for _ in range(count):
        text, lines = rng.choice(long_enough)
        first = rng.randrange(len(lines) - APART)
        a, b = lines[first], lines[first + rng.randint(1, APART)]
        truths = text[a.start : a.end], text[b.start : b.end]
        second = b.start - len(truths[0])
        without = text[: a.start] + text[a.end : b.start] + text[b.end :]
        pairs.append(Pair(without, ((a.start, a.start), (second, second)), truths))
    return pairs


def measure(engine: Engine, pairs: Sequence[Pair], length: str) -> dict[str, Any]:
    """Shares of exact lines and of files that parse, similarity, and milliseconds a request."""
    exact, similar, valid, ms = [], [], [], []
    for pair in reporting.progress(pairs, length):
        request = FillRequest(text=pair.text, holes=[*pair.holes], max_lines=1, language="python", length=length)
        began = time.perf_counter()
        result = engine.fill(request)
        ms.append(1000 * (time.perf_counter() - began))
        for fill, truth in zip(result.holes, pair.truths, strict=True):
            exact.append(metrics.exact_match(fill.text, truth))
            similar.append(metrics.edit_similarity(fill.text, truth))
        valid.append(metrics.parses(result.apply(pair.text)))
    return {
        "pairs": len(pairs),
        "exact": statistics.fmean(exact),
        "exact_95": metrics.wilson_interval(sum(exact), len(exact)),
        "similarity": statistics.fmean(similar),
        "valid": statistics.fmean(valid),
        "ms_median": statistics.median(ms),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.pairs", description=str(__doc__).split("\n")[0]
    )
    reporting.add_options(parser)
    parser.add_argument("--count", type=int, default=300, help="pairs of lines")
    options = parser.parse_args(arguments)
    try:
        if options.source == "validation":
            texts = [text for _, _, text in read_validation(options.pack)]
        else:
            texts = [text for package in HELD_OUT for _, _, text in read_package(package)]
        pairs = sample_pairs(texts, options.count, options.seed)
        engine = Engine.load(options.model, threads=options.threads)
        report = {way: measure(engine, pairs, way) for way in WAYS}
    except (ValueError, DiffillError) as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(highlight=False)
    lines = [
        (
            way,
            reporting.share(row, "exact"),
            f"{100 * row['similarity']:.1f}",
            f"{100 * row['valid']:.1f}",
            f"{row['ms_median']:.0f}",
        )
        for way, row in report.items()
    ]
    reporting.print_table(("length", "lines exact % (95 %)", "similar %", "files parse %", "ms"), lines, console)
    about = {"what": "pairs", "count": options.count, **reporting.provenance(engine, options)}
    reporting.say(f"{options.count} pairs of lines; {reporting.where(about)}", console)
    reporting.print_json({**about, "ways": report})
    return 0


if __name__ == "__main__":
    sys.exit(main())
