"""What the measurements on held-out code share: their options, their tables, and the line that says where and when."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from model_runtime.engine.engine import Engine
from training.evaluation.holes import HELD_OUT, HoldoutHole, sample_holes, sample_validation_holes
from training.evaluation.infill import hardware

Report = dict[str, Any]
Item = TypeVar("Item")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every measurement on held-out code."""
    parser.add_argument("--model", default="embedded", help="a catalog name or a folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", choices=("packages", "validation"), default="packages")
    parser.add_argument("--pack", type=Path, default=Path("build/embedded"), help="the corpus of --source validation")
    parser.add_argument("--threads", type=int, help="of ONNX Runtime")


def read_holes(options: argparse.Namespace, count: int, kind: str) -> list[HoldoutHole]:
    """The holes that the options ask for; ValueError where that cannot be."""
    if count < 1:
        raise ValueError(f"--count is at least 1, not {count}")
    if options.source == "validation":
        return sample_validation_holes(options.pack, count, options.seed, [kind])
    return sample_holes(HELD_OUT, count, options.seed, [kind])


def provenance(engine: Engine, options: argparse.Namespace) -> Report:
    """What was measured, on what, where and when."""
    packages = {name: importlib.metadata.version(name) for name in HELD_OUT} if options.source == "packages" else {}
    return {
        "model": engine.facts.name,
        "backend": engine.backend.name,
        "source": options.source,
        "packages": packages,
        "seed": options.seed,
        "threads": options.threads,
        "hardware": hardware(),
        "date": date.today().isoformat(),
    }


def where(about: Report) -> str:
    """The provenance as a sentence."""
    source = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    threads = f", threads {about['threads']}" if about["threads"] else ""
    return (
        f"{about['model']} ({about['backend']}); {source or 'validation documents of the corpus'};"
        f" seed {about['seed']}; {about['hardware']}{threads}; {about['date']}."
    )


def share(row: Report, name: str) -> str:
    """The share `name` of a row in per cent, with the interval that stands beside it."""
    low, high = row[f"{name}_95"]
    return f"{100 * row[name]:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def progress(items: Sequence[Item], what: str) -> Iterable[Item]:
    """The items, with a bar on standard error."""
    return track(items, description=what, console=Console(stderr=True), transient=True)


def say(line: str, console: Console) -> None:
    """Print a line as it is, however long."""
    console.print(line, markup=False, soft_wrap=True)


def print_table(heads: Sequence[str], lines: Iterable[Sequence[str]], console: Console) -> None:
    """Print a Markdown table, figures to the right, and an empty line."""
    rows = [list(heads), *map(list, lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        say(f"| {' | '.join(cells)} |", console)
    say("", console)


def print_json(report: Report) -> None:
    """Print a report as one line, its figures rounded to what can mean something."""
    print(json.dumps(rounded(report)))


def rounded(value: Any) -> Any:
    """The value with every float in it rounded to five digits behind the point."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value
