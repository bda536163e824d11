"""What is kept between keystrokes, and what that costs: answers compared with those of fills that begin anew.

    python -m training.evaluation.keystrokes context|start|drafts --count 200

- `context`: lines of three real files are typed key by key, and each key asks for a line, as an editor does. An engine
  that keeps the encoding of context answers beside one that encodes it anew at every key; and each fills lines.
- `drafts`: lines are typed key by key; where a key contradicts the suggestion, a fill that starts from the rest of the
  suggestion is compared with one that does not.
- `start`: exact match with a first line of context that moves in steps, and with one that moves at every key.

Tables are Markdown; the last line of the output is JSON for machines.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

from rich.console import Console

from model_runtime.daemon.results import Results
from model_runtime.engine import context
from model_runtime.engine.engine import Engine
from model_runtime.engine.kept import LIMIT
from model_runtime.protocol import DiffillError, FillRequest, FillResult
from training.evaluation import metrics
from training.evaluation.holes import candidate_ranges, read_package
from training.evaluation.lengths import request_for
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

FILES = (
    ("boltons", "boltons/iterutils.py"),
    ("toolz", "toolz/itertoolz.py"),
    ("more_itertools", "more_itertools/more.py"),
)
LINES = 5  # typed in each file
TOKENS = 48  # of a line, as the language server asks
COUNTS = {"context": 200, "start": 400, "drafts": 60}


def typed_requests(text: str, lines: int) -> Iterator[FillRequest]:
    """The requests of someone who types `lines` lines of a file anew, spread over it: one a key."""
    ranges = candidate_ranges(text, "line", random.Random(0))
    for n in range(lines):
        start, end, _ = ranges[(2 * n + 1) * len(ranges) // (2 * lines)]
        for at in range(start, end):
            typed = text[:at] + text[end:]
            yield FillRequest(text=typed, holes=[(at, at)], max_lines=1, max_tokens=TOKENS, language="python")


def run_context(engine: Engine, options: argparse.Namespace, console: Console) -> Report:
    """An engine that keeps context against one that does not, on typing and on lines."""
    fresh = Engine.load(options.model, threads=options.threads, keep_bytes=0)
    typing: Report = {}
    for package, path in FILES:
        text = next(source for _, name, source in read_package(package) if name == path)
        typing[path] = compare(engine, fresh, list(typed_requests(text, LINES)), path)
    heads = "file", "keys", "same answers %", "tokens encoded a key", "encode ms, kept", "encode ms, anew"
    lines = [
        (
            path,
            str(row["keys"]),
            f"{100 * row['same']:.1f}",
            f"{row['tokens_mean']:.0f} of {row['tokens_anew_mean']:.0f}",
            f"{row['kept_ms_median']:.1f} (p95 {row['kept_ms_p95']:.1f})",
            f"{row['anew_ms_median']:.1f} (p95 {row['anew_ms_p95']:.1f})",
        )
        for path, row in typing.items()
    ]
    print_table(heads, lines, console)
    holes = read_holes(options, options.count, "line")
    fills: dict[str, list[bool]] = {"context kept": [], "encoded anew": [], "cache off": []}
    same = off = 0
    for hole in progress(holes, "lines"):
        kept, anew = engine.fill(request_for(hole)), fresh.fill(request_for(hole))
        uncached = fresh.fill(request_for(hole, cache="off"))
        for name, result in zip(fills, (kept, anew, uncached), strict=True):
            fills[name].append(metrics.exact_match(result.holes[0].text, hole.truth))
        same += equal(kept, anew)
        off += kept.holes[0].text == uncached.holes[0].text
    rows = {name: exact(right) for name, right in fills.items()}
    print_table(("lines", "exact %"), [(name, share(row, "exact")) for name, row in rows.items()], console)
    say(f"The same answers, kept and anew: {same} of {len(holes)}; the same text with `cache` off: {off}.\n", console)
    return {"typing": typing, "lines": rows, "same": same, "same_text_off": off}


def compare(kept: Engine, fresh: Engine, requests: Sequence[FillRequest], what: str) -> Report:
    """How often two engines answer alike, and what encoding took each; milliseconds."""
    kept.fill(requests[0])  # what loads once
    fresh.fill(requests[0])
    before, before_anew = kept.kept.encoded, fresh.kept.encoded
    same, ms, ms_anew = 0, [], []
    for request in progress(requests, what):
        one, other = kept.fill(request), fresh.fill(request)
        same += equal(one, other)
        ms.append(one.timing_ms["encode"])
        ms_anew.append(other.timing_ms["encode"])
    return {
        "keys": len(requests),
        "same": same / len(requests),
        "tokens_mean": (kept.kept.encoded - before) / len(requests),
        "tokens_anew_mean": (fresh.kept.encoded - before_anew) / len(requests),
        "kept_ms_median": statistics.median(ms),
        "kept_ms_p95": sorted(ms)[int(0.95 * len(ms))],
        "anew_ms_median": statistics.median(ms_anew),
        "anew_ms_p95": sorted(ms_anew)[int(0.95 * len(ms))],
    }


def equal(one: FillResult, other: FillResult) -> bool:
    """Whether two answers are the same to the last bit, their times apart."""
    return (one.holes, one.end, one.steps) == (other.holes, other.end, other.steps)


def exact(right: Sequence[bool]) -> Report:
    """The share of exact fills and its interval."""
    return {"exact": sum(right) / len(right), "exact_95": metrics.wilson_interval(sum(right), len(right))}


def run_start(engine: Engine, options: argparse.Namespace, console: Console) -> Report:
    """A first line of context that moves in steps against one that moves as soon as it must."""
    holes = read_holes(options, options.count, "line")
    names = {context.START_STEPS: "in steps", 1 << 30: "at every key"}
    fills: dict[str, list[bool]] = {}
    similar: dict[str, float] = {}
    for steps, name in names.items():
        with mock.patch.object(context, "START_STEPS", steps):
            texts = [engine.fill(request_for(hole)).holes[0].text for hole in progress(holes, name)]
        fills[name] = [metrics.exact_match(text, hole.truth) for text, hole in zip(texts, holes, strict=True)]
        likeness = (metrics.edit_similarity(text, hole.truth) for text, hole in zip(texts, holes, strict=True))
        similar[name] = statistics.fmean(likeness)
    rows = {name: {**exact(right), "similarity": similar[name]} for name, right in fills.items()}
    lines = [(name, share(row, "exact"), f"{100 * row['similarity']:.1f}") for name, row in rows.items()]
    print_table(("the first line moves", "exact %", "similar %"), lines, console)
    return {"starts": rows}


def run_drafts(engine: Engine, options: argparse.Namespace, console: Console) -> Report:
    """Fills with and without a draft at every key that contradicts the last suggestion."""
    holes = read_holes(options, options.count, "line")
    rows: dict[str, list[tuple[bool, float, int, int, float]]] = {"without a draft": [], "with a draft": []}
    for hole in progress(holes, "drafts"):
        results = Results()
        for at in range(hole.start, hole.end):
            text = hole.text[:at] + hole.suffix
            request = FillRequest(text=text, holes=[(at, at)], max_lines=1, max_tokens=TOKENS, language="python")
            if results.find("", request) is not None:
                continue
            plain = engine.fill(request)
            if draft := results.draft("", request):
                truth = hole.text[at : hole.end]
                for name, result in zip(rows, (plain, engine.fill(request, draft=draft)), strict=True):
                    rows[name].append(
                        (*likeness(result.holes[0].text, truth), result.steps, result.timing_ms["denoise"])
                    )
            results.keep("", request, plain)
    found: Report = {}
    for name, row in rows.items():
        right, similar, ahead, steps, ms = zip(*row, strict=True)
        found[name] = {
            **exact(right),
            "similarity": statistics.fmean(similar),
            "right_ahead_mean": statistics.fmean(ahead),
            "steps_mean": statistics.fmean(steps),
            "denoise_ms_median": statistics.median(ms),
        }
    lines = [
        (
            name,
            share(row, "exact"),
            f"{100 * row['similarity']:.1f}",
            f"{row['right_ahead_mean']:.2f}",
            f"{row['steps_mean']:.2f}",
            f"{row['denoise_ms_median']:.0f}",
        )
        for name, row in found.items()
    ]
    print_table(("fill", "exact %", "similar %", "right characters ahead", "steps", "denoise ms"), lines, console)
    say(f"{len(rows['with a draft'])} contradictions in {len(holes)} lines.\n", console)
    return {"contradictions": len(rows["with a draft"]), "fills": found}


def likeness(text: str, truth: str) -> tuple[bool, float, int]:
    """Whether a fill is exact, its similarity, and how many characters are right before the first wrong one."""
    ahead = next((n for n, pair in enumerate(zip(text, truth, strict=False)) if pair[0] != pair[1]), None)
    right = min(len(text), len(truth)) if ahead is None else ahead
    return metrics.exact_match(text, truth), metrics.edit_similarity(text, truth), right


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    runs: dict[str, Callable[[Engine, argparse.Namespace, Console], Report]] = {
        "context": run_context,
        "start": run_start,
        "drafts": run_drafts,
    }
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.keystrokes", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("what", choices=runs)
    add_options(parser)
    parser.add_argument("--count", type=int, help=f"holes ({', '.join(f'{k} {v}' for k, v in COUNTS.items())})")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    if options.count is None:
        options.count = COUNTS[options.what]
    try:
        engine = Engine.load(options.model, threads=options.threads, keep_bytes=LIMIT)
        report = runs[options.what](engine, options, console)
    except (ValueError, DiffillError) as error:
        print(error, file=sys.stderr)
        return 2
    about = {"what": options.what, "count": options.count, **provenance(engine, options)}
    say(where(about), console)
    print_json({**about, **report})
    return 0


if __name__ == "__main__":
    sys.exit(main())
