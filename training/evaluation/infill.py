"""Held-out infill: how often a model gives back the very line, block or span that was cut out of real code.

    python -m training.evaluation.infill --count 1000 --seed 0 --predictors copy,ngram,embedded

A predictor sees the text before and after the hole and nothing else; only with `--length fixed:oracle` is
it told the number of tokens of the truth too, and the report says so. The last line of the output is JSON
for machines; `--json` writes the whole report with a row for every hole.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tokenizers import Tokenizer

from model_runtime.protocol import DiffillError, FillRequest
from training.corpus.tokenizer import encode_plain, load_tokenizer
from training.evaluation import baselines, metrics
from training.evaluation.holes import BLOCK_LINES, HELD_OUT, KINDS, HoldoutHole, sample_holes

PREDICTORS = ("copy", "ngram", "network", "embedded")  # network: the embedded model without its counted expert
MAX_LINES = {"line": 1, "span": 1, "block": BLOCK_LINES[1]}


@dataclass(frozen=True)
class Prediction:
    """A fill, how sure the predictor is of it, and (start, end, confidence) of each token."""

    text: str
    confidence: float | None = None
    tokens: tuple[tuple[int, int, float], ...] = ()


Predict = Callable[..., "str | Prediction"]  # (prefix, suffix), and length= where the oracle's is asked for


@dataclass(frozen=True)
class Row:
    """One hole and its fill. Lengths are in tokens where a tokenizer was given, else in characters."""

    package: str
    path: str
    start: int
    end: int
    kind: str
    subkind: str
    truth: str
    fill: str
    exact: bool
    similarity: float
    valid: bool
    length: int
    true_length: int
    ms: float
    confidence: float | None
    tokens: list[tuple[float, bool]]  # (confidence, correct)


@dataclass(frozen=True)
class Report:
    """What one predictor did with the holes, and where and when."""

    predictor: str
    rows: list[Row] = field(repr=False)
    length: str = "its own"
    model: str | None = None
    seed: int | None = None
    packages: dict[str, str] = field(default_factory=dict)
    hardware: str = ""
    date: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values, the summary included."""
        return {**dataclasses.asdict(self), "summary": summarize(self.rows)}


def evaluate(
    predict: Predict,
    holes: Sequence[HoldoutHole],
    count_tokens: Callable[[str], int] = len,
    oracle: bool = False,
    **facts: Any,
) -> Report:
    """Fill and measure every hole; with `oracle`, `predict` also gets the truth's token count, `length`.

    `facts` are further fields of the report (predictor, length, model, seed).
    """
    rows = []
    for hole in track(holes, description=facts.get("predictor", ""), console=Console(stderr=True), transient=True):
        prefix, suffix, truth = hole.prefix, hole.suffix, hole.truth
        true_length = count_tokens(truth)
        told = {"length": true_length} if oracle else {}
        began = time.perf_counter()
        answer = predict(prefix, suffix, **told)
        ms = 1000 * (time.perf_counter() - began)
        fill = answer if isinstance(answer, Prediction) else Prediction(answer)
        correct = metrics.correct_ranges(fill.text, truth) if fill.tokens else []
        rows.append(
            Row(
                **{name: getattr(hole, name) for name in ("package", "path", "start", "end", "kind", "subkind")},
                truth=truth,
                fill=fill.text,
                exact=metrics.exact_match(fill.text, truth),
                similarity=metrics.edit_similarity(fill.text, truth),
                valid=metrics.valid_syntax(prefix, fill.text, suffix, truth),
                length=count_tokens(fill.text.rstrip()),
                true_length=true_length,
                ms=ms,
                confidence=fill.confidence,
                tokens=[(sure, metrics.token_correct(start, end, correct)) for start, end, sure in fill.tokens],
            )
        )
    packages = {name: importlib.metadata.version(name) for name in dict.fromkeys(h.package for h in holes)}
    return Report(
        **{"predictor": "", **facts},
        rows=rows,
        packages=packages,
        hardware=hardware(),
        date=date.today().isoformat(),
    )


def summarize(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the figures of every kind, then of its sub-kinds; shares in 0 to 1 with 95 % intervals."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (KINDS.index(row.kind), row.subkind)):
        groups.setdefault((row.kind, "all"), []).append(row)
        groups.setdefault((row.kind, row.subkind), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (KINDS.index(item[0][0]), item[0][1] != "all"))
    return [{"kind": kind, "subkind": subkind, **_figures(group)} for (kind, subkind), group in ordered]


def _figures(rows: Sequence[Row]) -> dict[str, Any]:
    count, exact = len(rows), sum(row.exact for row in rows)
    return {
        "count": count,
        "exact": exact / count,
        "exact_95": metrics.wilson_interval(exact, count),
        "similarity": statistics.fmean(row.similarity for row in rows),
        "valid": sum(row.valid for row in rows) / count,
        "valid_95": metrics.wilson_interval(sum(row.valid for row in rows), count),
        "same_length": sum(row.length == row.true_length for row in rows) / count,
        "ms_median": statistics.median(row.ms for row in rows),
    }


def hardware() -> str:
    """Return the processor's name and how many cores this process may use."""
    names = []
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores"


def embedded_predictor(model: str, length: str, max_lines: int, expert: Literal["on", "off"] = "on") -> Predict:
    """Return a predictor that asks the engine: `length` is a request's, or "fixed:oracle"."""
    from model_runtime.engine.engine import Engine  # only this predictor needs a model

    engine = Engine.load(model)

    def predict(prefix: str, suffix: str, **told: int) -> Prediction:
        policy = f"fixed:{max(1, told['length'])}" if told else length
        hole = (len(prefix), len(prefix))
        request = FillRequest(
            length=policy,
            max_lines=max_lines,
            expert=expert,
            language="python",
            text=prefix + suffix,
            holes=[hole],
        )
        fill = engine.fill(request).holes[0]
        return Prediction(
            fill.text,
            fill.confidence,
            tuple((token.start, token.end, token.confidence) for token in fill.tokens),
        )

    return predict


def run_predictor(name: str, holes: Sequence[HoldoutHole], tokenizer: Tokenizer, options: argparse.Namespace) -> Report:
    """Evaluate the predictor of that name on all holes, a kind at a time."""
    facts: dict[str, Any] = {"predictor": name, "seed": options.seed}
    oracle = name in ("embedded", "network") and options.length == "fixed:oracle"
    if name == "ngram":
        counts = baselines.counted(options.pack, options.ngrams, tokenizer.get_vocab_size())
        ngram = baselines.NgramBaseline(counts, tokenizer).predict
    if name in ("embedded", "network"):
        facts |= {"length": options.length, "model": Path(options.model).name}
    reports = []
    for kind in dict.fromkeys(hole.kind for hole in holes):
        predict: Predict
        if name == "copy":
            predict = baselines.copy_previous_line
        elif name == "ngram":
            predict = ngram
        else:
            expert: Literal["on", "off"] = "off" if name == "network" else "on"
            predict = embedded_predictor(options.model, options.length, MAX_LINES[kind], expert)
        chosen = [hole for hole in holes if hole.kind == kind]
        reports.append(evaluate(predict, chosen, lambda text: len(encode_plain(tokenizer, text)), oracle, **facts))
    return dataclasses.replace(reports[0], rows=[row for report in reports for row in report.rows])


def print_table(reports: Iterable[Report], console: Console) -> None:
    """Print the reports' summaries; `length %` is the share of fills as long as the truth."""
    heads = ("hole", "n", "exact %", "95 %", "similar %", "parses %", "length %", "ms")
    table = Table(*heads, box=SIMPLE, pad_edge=False, collapse_padding=True)
    for column in table.columns[1:]:
        column.justify = "right"
    for report in reports:
        for line in summarize(report.rows):
            low, high = line["exact_95"]
            whole = line["subkind"] == "all"
            table.add_row(
                f"{report.predictor}, {line['kind']}" if whole else f"  {line['subkind']}",
                str(line["count"]),
                f"{100 * line['exact']:.1f}",
                f"{100 * low:.1f} to {100 * high:.1f}",
                *(f"{100 * line[name]:.1f}" for name in ("similarity", "valid", "same_length")),
                f"{line['ms_median']:.1f}",
                style="bold" if whole else None,
            )
        table.add_section()
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.infill", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("--count", type=int, default=1000, help="holes in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="line", help=f"comma-separated: {', '.join(KINDS)}")
    parser.add_argument("--packages", default=",".join(HELD_OUT))
    parser.add_argument("--predictors", default="copy,ngram,embedded", help="comma-separated")
    parser.add_argument("--model", default="embedded", help="a catalog name or a folder")
    parser.add_argument("--length", default="auto", help="auto, expand, search, probe, fixed:N or fixed:oracle")
    parser.add_argument("--pack", type=Path, default=Path("build/embedded"), help="corpus and tokenizer.json")
    parser.add_argument("--ngrams", type=Path, default=Path("build/evaluation/ngrams.npz"))
    parser.add_argument("--json", type=Path, help="write the reports with every row here")
    options = parser.parse_args(arguments)
    names = options.predictors.split(",")
    try:
        for name in names:
            if name not in PREDICTORS:
                raise ValueError(f"a predictor is one of {', '.join(PREDICTORS)}, not {name!r}")
        if not (options.pack / "tokenizer.json").exists():
            raise ValueError(f"{options.pack} holds no tokenizer.json (python -m training.corpus.build)")
        tokenizer = load_tokenizer(options.pack / "tokenizer.json")
        holes = sample_holes(options.packages.split(","), options.count, options.seed, options.kinds.split(","))
        reports = [run_predictor(name, holes, tokenizer, options) for name in names]
    except (ValueError, DiffillError) as error:
        print(error, file=sys.stderr)
        return 2
    console = Console()
    print_table(reports, console)
    about = reports[0]
    versions = ", ".join(f"{name} {version}" for name, version in about.packages.items())
    console.print(f"{versions}; seed {options.seed}; {about.hardware}; {about.date}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([report.to_json() for report in reports]) + "\n", "utf-8")
    keep = ("predictor", "length", "model", "seed", "packages", "hardware", "date", "summary")
    print(json.dumps([{name: report.to_json()[name] for name in keep} for report in reports]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
