"""`diffill bench`: how fast this machine fills holes, and what the cache and the sampler gain.

Variants take turns within each repeat (A B C, A B C, ...), and ratios are medians of the ratios within a repeat, so
that a machine whose load drifts still gives true ratios. Every repeat fills another place.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from model_runtime.backends.onnx import default_threads
from model_runtime.catalog.catalog import find_model
from model_runtime.commands import machine
from model_runtime.commands.bench_cases import Case, Variant, load_engines, make_case, make_variants, read_code
from model_runtime.commands.bench_command import measure_command
from model_runtime.commands.machine import readable
from model_runtime.commands.options import Parser, whole_number
from model_runtime.commands.output import tell
from model_runtime.engine.engine import Engine
from model_runtime.protocol import DiffillError, RequestError

EXAMPLES = """\
examples:
  diffill bench                            a hole of 32 tokens in 512, every way to
                                           fill it: about a minute on two cores
  diffill bench --quick                    the headline figures only
  diffill bench --full --json bench.json   holes of 8, 32 and 128 tokens in 256, 512
                                           and 1024: many minutes

The last line printed is JSON with every figure. Close other programs first.
"""
STEPS = [1, 8, 32]
HEADLINE = (32, 512)  # hole, context
WANTED = {"cached_over_uncached": 3.0, "threshold_over_generate": 15.0}


def make_parser() -> Parser:
    """Return the parser of `diffill bench`."""
    parser = Parser(
        prog="diffill bench",
        description="Measure how fast this machine fills a hole: with and without the cache, in few and\n"
        "many steps, with ONNX Runtime and, where it is installed, with torch.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--model", metavar="NAME|PATH", default="embedded", help="a model's name or folder (default: embedded)"
    )
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="the headline figures only")
    extent.add_argument("--full", action="store_true", help="the whole grid of holes and contexts")
    parser.add_argument("--holes", metavar="N,N", type=numbers, help="tokens of the hole (default: 32)")
    parser.add_argument("--contexts", metavar="N,N", type=numbers, help="tokens around it (default: 512)")
    parser.add_argument("--repeats", metavar="N", type=whole_number, help="(default: 5; --quick and --full: 3)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the JSON line to this file too")
    return parser


def numbers(argument: str) -> list[int]:
    """Return the numbers of "8,32,128", sorted."""
    values = sorted({whole_number(part) for part in argument.split(",")})
    if values[0] < 1:
        raise argparse.ArgumentTypeError(f"takes numbers from 1, not {argument!r}")
    return values


def main(argv: list[str]) -> int:
    """Run `diffill bench ARGV...` and return the exit code; a figure that disappoints is no error."""
    args = make_parser().parse_args(argv)
    repeats = args.repeats if args.repeats is not None else 3 if args.quick or args.full else 5
    if repeats < 1:
        raise RequestError(f"--repeats is at least 1, not {repeats}")
    if args.json is not None and not args.json.resolve().parent.is_dir():
        raise RequestError(f"cannot write {args.json}: there is no folder {args.json.parent}")
    holes = args.holes or ([8, 32, 128] if args.full else [HEADLINE[0]])
    contexts = args.contexts or ([256, 512, 1024] if args.full else [HEADLINE[1]])
    report = run_bench(find_model(args.model), holes, contexts, repeats, args.quick)
    print_table(report)
    line = json.dumps(report)
    if args.json is not None:
        try:
            args.json.write_text(line + "\n", encoding="utf-8")
        except OSError as error:
            raise RequestError(f"cannot write {args.json}: {error.strerror}") from None
    print(line)
    return 0


def run_bench(folder: Path, holes: list[int], contexts: list[int], repeats: int, quick: bool) -> dict[str, Any]:
    """Measure every point of the grid and the whole command; return the report as JSON values."""
    notes: list[str] = []
    source, code = read_code()
    engines = load_engines(folder, notes)
    facts = engines[0].facts
    if contexts[-1] > facts.context_length:
        notes.append(f"contexts beyond the model's window of {facts.context_length} tokens are timed all the same")
        for engine in engines:
            engine.facts = dataclasses.replace(facts, context_length=contexts[-1])
    rows: list[dict[str, Any]] = []
    for context in contexts:
        for hole in holes:
            tell(f"measuring a hole of {hole} tokens in {context}")
            rows += measure_point(engines, code, hole, context, repeats, quick)
    return {
        "bench": "diffill",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "model": facts.name,
        "code": source,
        "repeats": repeats,
        "threads": default_threads(),
        "devices": {engine.backend.name: str(getattr(engine.backend, "device", "cpu")) for engine in engines},
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "rows": rows,
        "headline": headline(rows),
        "command": whole_command(engines[0], folder, code, holes[0], contexts[0], repeats, notes),
        "notes": notes,
    }


def measure_point(
    engines: list[Engine], code: str, hole: int, context: int, repeats: int, quick: bool
) -> list[dict[str, Any]]:
    """The rows of one hole in one context: every variant once a repeat, in turn, after a run to warm up."""
    variants = make_variants(engines, hole, STEPS, quick)
    cases = [make_case(engines[0], code, hole, context, (n + 0.5) / repeats) for n in range(repeats)]
    for variant in variants:
        variant.run(cases[0], 1)
    runs: list[list[tuple[float, int]]] = [[] for _ in variants]
    for case in cases:
        for variant, measured in zip(variants, runs, strict=True):
            start = time.perf_counter()
            steps = variant.run(case, variant.steps)
            measured.append(((time.perf_counter() - start) * 1000, steps))
    rows = [row_of(variant, cases, measured) for variant, measured in zip(variants, runs, strict=True)]
    for row in rows:
        same = {"backend": row["backend"], "method": "uncached", "steps_asked": row["steps_asked"]}
        row["over_uncached"] = ratio(find_row(rows, same), row) if row["method"] == "cached" else None
        row["over_generate"] = ratio(find_row(rows, {"method": "diffusion_generate"}), row)
    return rows


def row_of(variant: Variant, cases: list[Case], measured: list[tuple[float, int]]) -> dict[str, Any]:
    """What one variant took; times in milliseconds, in the order of the repeats."""
    times = [ms for ms, _ in measured]
    return {
        "hole": cases[0].hole,
        "context": cases[0].context,
        "context_tokens": int(statistics.median(case.context_tokens for case in cases)),
        "backend": variant.backend,
        "method": variant.method,
        "steps_asked": variant.steps,
        "steps": statistics.median(steps for _, steps in measured),
        "ms": round(statistics.median(times), 2),
        "runs_ms": [round(ms, 2) for ms in times],
    }


def find_row(rows: list[dict[str, Any]], wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The first row that has all of `wanted`."""
    return next((row for row in rows if all(row[name] == value for name, value in wanted.items())), None)


def ratio(slow: dict[str, Any] | None, fast: dict[str, Any] | None) -> float | None:
    """How many times longer the first took: the median of the ratios within a repeat."""
    if slow is None or fast is None or slow is fast:
        return None
    return round(statistics.median(a / b for a, b in zip(slow["runs_ms"], fast["runs_ms"], strict=True)), 2)


def headline(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The two wanted ratios, at 32 tokens in 512 or else at the first point measured."""
    first = min(rows, key=lambda row: (row["hole"] != HEADLINE[0], abs(row["context"] - HEADLINE[1])))
    point = {"hole": first["hole"], "context": first["context"], "backend": rows[0]["backend"]}
    here = [row for row in rows if all(row[name] == value for name, value in point.items())]
    cached = max((row for row in here if row["method"] == "cached"), key=lambda row: row["steps_asked"])
    threshold = find_row(here, {"method": "threshold"})
    assert threshold is not None
    values = {"cached_over_uncached": cached["over_uncached"], "threshold_over_generate": threshold["over_generate"]}
    return {**point, **{name: {"ratio": value, "wanted": WANTED[name]} for name, value in values.items()}}


def whole_command(
    engine: Engine, folder: Path, code: str, hole: int, context: int, repeats: int, notes: list[str]
) -> dict[str, Any] | None:
    """Time and memory of `diffill fill` as a process, or None and the reason in `notes`."""
    tell("measuring the whole command")
    case = make_case(engine, code, hole, context, 0.5)
    try:
        return measure_command(folder, case.text, case.span, hole, repeats)
    except DiffillError as error:
        notes.append(f"left out, the whole command: {error}")
        return None


def print_table(report: dict[str, Any]) -> None:
    """Print the rows for a person, and under them the headline and the whole command."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    title = f"diffill bench: {report['model']}, {report['threads']} threads, {report['date']}"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("hole", "context", "way", "steps", "ms", "x uncached", "x generate"):
        table.add_column(name, justify="left" if name == "way" else "right", no_wrap=True)
    point = None
    for row in report["rows"]:
        if point not in (None, (row["hole"], row["context"])):
            table.add_section()
        point = row["hole"], row["context"]
        table.add_row(
            *(str(number) for number in point),
            row["method"] if row["method"] == "diffusion_generate" else f"{row['backend']} {row['method']}",
            f"{row['steps']:g}",
            f"{row['ms']:.1f}",
            *("" if row[name] is None else f"{row[name]:.1f}" for name in ("over_uncached", "over_generate")),
        )
    said = [headline_line(report["headline"])]
    if (command := report["command"]) is not None:
        heavy = command["heavy_modules"]
        imported = "unknown" if heavy is None else ", ".join(heavy) or "none"
        said.append(
            f"diffill fill, command to printed diff: {command['wall_s']:.2f} s, "
            f"peak memory {readable(command['peak_bytes'])}, of torch and its like imported: {imported}"
        )
    said += [f"note: {sentence}" for sentence in report["notes"]]
    Console(file=sys.stdout, highlight=False, markup=False, emoji=False).print(table)
    for line in said:
        print(line)


def headline_line(found: dict[str, Any]) -> str:
    """The wanted ratios in words."""
    said = []
    for name, words in (
        ("cached_over_uncached", "cached over uncached"),
        ("threshold_over_generate", "threshold over diffusion_generate"),
    ):
        value = found[name]["ratio"]
        said.append(
            f"{words} {'not measured' if value is None else f'{value:.1f}x'} (wanted {found[name]['wanted']:g}x)"
        )
    return f"{found['hole']} in {found['context']}, {found['backend']}: {'; '.join(said)}"
