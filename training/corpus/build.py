"""Builds the corpus from what is installed and fetched: `python -m training.corpus.build --out build/embedded`."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Collection, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from tokenizers import Tokenizer

from training.corpus import clean, fetch, pack, sources
from training.corpus.tokenizer import VOCABULARY, load_tokenizer, train_tokenizer

PACKAGES = Path(__file__).parents[1] / "recipes/embedded/packages.yaml"


def limit_files(files: Sequence[sources.SourceFile], limit_mb: float | None, seed: int) -> list[sources.SourceFile]:
    """A seeded choice of files of about `limit_mb` on disk, in the order given; all without a limit."""
    if limit_mb is None:
        return list(files)
    order = list(range(len(files)))
    random.Random(seed).shuffle(order)
    chosen, left = [], limit_mb * clean.MEGABYTE
    for index in order:
        if left <= 0:
            break
        left -= files[index].location.stat().st_size
        chosen.append(index)
    return [files[index] for index in sorted(chosen)]


def build(
    out: Path,
    files: Sequence[sources.SourceFile],
    left_out: dict[str, str],
    held_out_texts: Sequence[str] = (),
    seed: int = 0,
    vocabulary: int = VOCABULARY,
    workers: int = 2,
    console: Console | None = None,
    tokenizer: Tokenizer | None = None,
    validation: Collection[str] = (),
) -> dict[str, Any]:
    """Cleans, tokenizes and packs `files` into `out`; returns the report. A seed gives one pack.

    Without a tokenizer one is trained. `validation` names sources that are kept whole for validation.
    """
    console = console or Console(stderr=True)
    examined = track(
        clean.examine(files, held_out_texts, workers), "clean", len(files), console=console, transient=True
    )
    kept, dropped = clean.remove_duplicates(examined)
    balanced, over = clean.balance(kept, seed)
    if len(balanced) < 2:
        raise ValueError(f"{len(balanced)} of {len(files)} files are left: too few for a corpus")
    documents, validation_from = pack.arrange(balanced, seed, validation)
    console.print(f"{len(documents)} documents")
    tokenizer = tokenizer or train_tokenizer((d.text for d in documents[:validation_from]), vocabulary)
    encoding = pack.encode(documents, tokenizer)
    encoded = list(track(encoding, "encode", len(documents), console=console, transient=True))
    facts = {
        "seed": seed,
        "found": len(files),
        "dropped": {reason: count for reason, count in (dropped + over).most_common() if count},
        "left_out": left_out,
    }
    return pack.write_pack(out, documents, validation_from, tokenizer, encoded, facts)


def table(report: dict[str, Any]) -> Table:
    """The report as a table: the sources by size, then the totals and the drops."""
    result = Table("source", "licence", "files", "MB", "tokens")
    for column in result.columns[2:]:
        column.justify = "right"

    def add(name: str, licence: str, row: dict[str, Any]) -> None:
        megabytes = f"{row['bytes'] / clean.MEGABYTE:.2f}"
        result.add_row(name, licence, f"{row['files']:,}", megabytes, f"{row['tokens']:,}")

    for name, row in sorted(report["sources"].items(), key=lambda item: -item[1]["bytes"]):
        licence = row["licence"]
        add(name, licence if len(licence) <= 24 else licence[:23] + "…", row)
    result.add_section()
    for name in ("total", "tests", "validation"):
        add(name, "", report[name])
    result.add_section()
    for reason, count in report["dropped"].items():
        result.add_row(f"dropped: {reason}", "", f"{count:,}")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.corpus.build", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/embedded"), help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-mb", type=float, default=None, help="read about this much, for a trial")
    parser.add_argument("--packages", type=Path, default=PACKAGES, help="pins of packages to fetch with pip")
    parser.add_argument("--installed-only", action="store_true", help="fetch nothing")
    parser.add_argument("--tokenizer", type=Path, default=None, help="use this tokenizer.json, train none")
    options = parser.parse_args(arguments)

    started = time.monotonic()
    ready = options.out / "READY"
    ready.unlink(missing_ok=True)
    packages = fetch.Packages() if options.installed_only else fetch.load_packages(options.packages)
    # first the fetched ones: their pins count where a package is installed as well
    distributions = [*fetch.fetch(packages, options.out / "packages"), *metadata.distributions()]
    found, left_out = sources.installed(distributions)
    files = limit_files([*sources.standard_library(), *found], options.limit_mb, options.seed)
    report = build(
        options.out,
        files,
        left_out,
        sources.held_out_texts(),
        options.seed,
        tokenizer=load_tokenizer(options.tokenizer) if options.tokenizer else None,
        validation=packages.validation_names,
    )
    ready.touch()
    console = Console()
    console.print(table(report))
    for name, reason in left_out.items():
        console.print(f"left out: {name}: {reason}")
    rate = report["validation"]["bytes_per_token"]
    console.print(f"{rate:.3f} bytes a token held out; {(time.monotonic() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
