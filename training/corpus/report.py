"""What became of the texts: counts for machines, a table for the terminal, a page with pictures for people."""

from __future__ import annotations

import html
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from training.corpus.clean import MEGABYTE
from training.corpus.recipe import Recipe
from training.corpus.store import replacing

FILES = (
    *("report.json", "report.html", "recipe.yaml", "tokenizer.json", "special_ids.json"),
    *("documents.npy", "documents.json", "sources.npy"),
)
MOST_GROUPS = 40
MOST_BARS = 15
BLUE, RED = "#3b6ea5", "#b5523b"


def totals(documents: Sequence[Mapping[str, Any]], lengths_D: np.ndarray) -> dict[str, int]:
    """Files, bytes and tokens of some documents."""
    size = sum(document["end"] - document["start"] for document in documents)
    return {"files": len(documents), "bytes": size, "tokens": int(lengths_D.sum())}


def by(
    key: str, documents: Sequence[Mapping[str, Any]], lengths_D: np.ndarray
) -> dict[str, tuple[list[Mapping[str, Any]], list[int]]]:
    """Documents and their lengths under each value of `key`."""
    parts: defaultdict[str, tuple[list[Mapping[str, Any]], list[int]]] = defaultdict(lambda: ([], []))
    for document, length in zip(documents, lengths_D.tolist(), strict=True):
        parts[document[key]][0].append(document)
        parts[document[key]][1].append(length)
    return parts


def summarise(
    recipe: Recipe,
    documents: Sequence[Mapping[str, Any]],
    lengths_D: np.ndarray,
    chosen: Mapping[str, Any],
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """The report: totals, sources with their weights, groups, licences, and every drop by its reason."""
    first = chosen["validation_from"]
    reasons: Counter[str] = Counter()
    by_source: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, count in chosen["dropped"].items():
        source, reason = name.split("\0")
        reasons[reason] += count
        by_source[source][reason] += count
    found = by("source", documents, lengths_D)
    sources = {}
    for source in recipe.sources:
        own, lengths = found.get(source.name, ([], []))
        licences = Counter(str(document["licence"]) for document in own)
        row: dict[str, Any] = {
            "licence": ", ".join(name for name, _ in licences.most_common(3)),
            "weight": source.weight,
        }
        sources[source.name] = row | totals(own, np.array(lengths)) | {"dropped": ordered(by_source[source.name])}
    groups = {
        name: totals(own, np.array(lengths)) for name, (own, lengths) in by("group", documents, lengths_D).items()
    }
    by_licence = {name: totals(own, np.array(n)) for name, (own, n) in by("licence", documents, lengths_D).items()}
    held = totals(documents[first:], lengths_D[first:])
    tests = [index for index, document in enumerate(documents) if document["kind"] == "tests"]
    return {
        "total": totals(documents, lengths_D),
        "tests": totals([documents[index] for index in tests], lengths_D[tests]),
        "validation": held | {"bytes_per_token": round(held["bytes"] / max(1, held["tokens"]), 4)},
        "validation_groups": sorted({str(document["group"]) for document in documents[first:]})[:MOST_GROUPS],
        "validation_from": first,
        "sources": sources,
        "groups": largest(groups),
        "licences": largest(by_licence),
        "found": chosen["found"],
        "dropped": ordered(reasons),
        "scrubbed": chosen["scrubbed"],
        "left_out": dict(left_out),
    }


def ordered(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts, the largest first, then by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def largest(rows: Mapping[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The rows of the most bytes."""
    return dict(sorted(rows.items(), key=lambda item: (-item[1]["bytes"], item[0]))[:MOST_GROUPS])


def short(text: str, width: int = 28) -> str:
    """`text`, cut with an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


def tables(report: Mapping[str, Any]) -> tuple[Table, Table]:
    """The report for the terminal: sources and totals; and what became of the texts."""
    result = Table("", "licence", "files", "MB", "tokens", "weight")
    for column in result.columns[2:]:
        column.justify = "right"

    def add(name: str, licence: str, row: Mapping[str, Any]) -> None:
        weight = f"{row['weight']:g}" if "weight" in row else ""
        size = f"{row['bytes'] / MEGABYTE:.2f}"
        result.add_row(name, short(licence, 20), f"{row['files']:,}", size, f"{row['tokens']:,}", weight)

    for name, row in report["sources"].items():
        add(name, row["licence"], row)
    result.add_section()
    for name in ("total", "tests", "validation"):
        add(name, "", report[name])
    counts = Table("", "texts")
    counts.columns[1].justify = "right"
    counts.add_row("found", f"{report['found']:,}")
    counts.add_section()
    for reason, count in report["dropped"].items():
        counts.add_row(f"dropped: {reason}", f"{count:,}")
    counts.add_section()
    for what, count in report["scrubbed"].items():
        counts.add_row(f"scrubbed: {what}", f"{count:,}")
    return result, counts


def bars(axis: Any, values: Mapping[str, float], colour: str, form: str) -> None:
    """The first values as bars, each with its number, the first one on top; few bars stay thin."""
    shown = list(values.items())[:MOST_BARS][::-1]
    drawn = axis.barh([short(name) for name, _ in shown], [value for _, value in shown], color=colour)
    axis.bar_label(drawn, [form.format(value) for _, value in shown], padding=3, fontsize=8)
    axis.set_ylim(len(shown) - MOST_BARS - 0.5, len(shown) - 0.5)
    axis.margins(x=0.15)


def figures(report: Mapping[str, Any], lengths_D: np.ndarray) -> Any:
    """Three pictures side by side: drops by reason, the largest groups, lengths of documents."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "diffill"  # the same picture gives the same bytes
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    bars(axes[0], report["dropped"], RED, "{:,}")
    axes[0].set(title=f"dropped, of {report['found']:,} texts", xlabel="texts")
    bars(axes[1], {name: row["tokens"] / 1e6 for name, row in report["groups"].items()}, BLUE, "{:.2f}")
    axes[1].set(title="largest packages or repositories", xlabel="million tokens")
    edges = np.logspace(np.log10(16), np.log10(max(32, int(lengths_D.max()) + 1)), 40)
    axes[2].hist(lengths_D, bins=edges, color=BLUE)
    axes[2].set(xscale="log", title="length of documents", xlabel="tokens", ylabel="documents")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def picture(report: Mapping[str, Any], lengths_D: np.ndarray) -> str:
    """The figures as SVG, without a date in it."""
    from matplotlib import pyplot

    figure = figures(report, lengths_D)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 2rem }
td, th { padding: .15rem .8rem; border-bottom: 1px solid #ddd }
td { text-align: right } td:first-child, th { text-align: left } svg { width: 100%; height: auto }
"""


def rows_html(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; every cell is escaped."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"

    return "<table>" + cells("th", head) + "".join(cells("td", row) for row in rows) + "</table>"


def write_html(path: Path, report: Mapping[str, Any], lengths_D: np.ndarray) -> None:
    """Writes the report as one page that needs no other file."""

    def sizes(row: Mapping[str, Any]) -> list[str]:
        return [f"{row['files']:,}", f"{row['bytes'] / MEGABYTE:.2f}", f"{row['tokens']:,}"]

    columns = ["files", "MB", "tokens"]
    sources = [[n, row["licence"], f"{row['weight']:g}", *sizes(row)] for n, row in report["sources"].items()]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Corpus</title>",
        f"<style>{STYLE}</style><h1>Corpus</h1>",
        picture(report, lengths_D),
        "<h2>Sources</h2>",
        rows_html(["source", "licences", "weight", *columns], sources),
        rows_html(["", *columns], [[name, *sizes(report[name])] for name in ("total", "tests", "validation")]),
        "<h2>Dropped</h2>",
        rows_html(["reason", "texts"], [[reason, f"{count:,}"] for reason, count in report["dropped"].items()]),
        "<h2>Scrubbed</h2>",
        rows_html(["what", "times"], [[what, f"{count:,}"] for what, count in report["scrubbed"].items()]),
        "<h2>Packages and repositories</h2>",
        rows_html(["name", *columns], [[name, *sizes(row)] for name, row in report["groups"].items()]),
        "<h2>Licences</h2>",
        rows_html(["licence", *columns], [[name, *sizes(row)] for name, row in report["licences"].items()]),
        "<h2>Left out</h2>",
        rows_html(["package", "why"], list(report["left_out"].items())),
        "</html>\n",
    ]
    with replacing(path) as file:
        file.write("\n".join(parts).encode())
