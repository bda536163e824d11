"""docs/benchmarks.md's tables and pictures from what was measured: `python -m benchmarks.report`.

Reads build/bench/peers.json and build/bench/precisions.json; the prose between the markers' sections is kept by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.peers.ways import REPOSITORY

PAGE, FIGURES = REPOSITORY / "docs/benchmarks.md", REPOSITORY / "docs/figures"
FOLDER = REPOSITORY / "build/bench"
SHAPES = {"0.5b": "0.5 B", "24m": "24 M"}
OURS, THEIRS = "#0072b2", "#d55e00"


def header(report: dict[str, Any]) -> str:
    """When and where."""
    hardware = report["hardware"]
    return f"{hardware['processor']}, {threads(report)} of {hardware['cores']} cores, {report['date'][:10]}"


def threads(report: dict[str, Any]) -> str:
    """How many threads each program got."""
    return "1 thread" if report["threads"] == 1 else f"{report['threads']} threads"


def named(name: str) -> str:
    """A row's name for readers."""
    name = name.replace("torch reference step", "reference algorithm, one step (whole sequence, torch float32)")
    name = name.replace("torch qwen2 generate", "transformers' Qwen2, float32, prompt and 32 tokens")
    name = name.replace("diffusion step", "its diffusion program's pass, one step")
    name = re.sub(r"^ours (\S+) (key|cold) (\d+)$", r"**Diffill** \1, \2, \3 steps", name)
    name = re.sub(r"^llama (\S+) ", r"llama.cpp \1, ", name)
    return name.replace("key suffix-first", "key, suffix first in the prompt").replace("key", "a key")


def tables(report: dict[str, Any]) -> str:
    """Times and ratios of every shape."""
    parts = [f"{header(report)}. Wall time, and processor time of all threads, in ms; medians of turns."]
    for shape, one in report["shapes"].items():
        parts += ["", f"### {SHAPES.get(shape, shape)}", "", "| way | ms | processor ms |", "|---|--:|--:|"]
        parts += [f"| {named(name)} | {row['ms']:,.0f} | {row['cpu_ms']:,.0f} |" for name, row in one["rows"].items()]
        parts += ["", "| how many times faster | by the clock | by processor time | wanted |", "|---|--:|--:|--:|"]
        for name, row in one["ratios"].items():
            wanted = "" if row["wanted"] is None else f"{row['wanted']:g}"
            parts.append(f"| {name} | {row['ratio']:.2f} | {row['cpu_ratio']:.2f} | {wanted} |")
        if one.get("agreement"):
            told = ", ".join(f"{kind} {value:.3f}" for kind, value in one["agreement"].items())
            parts += ["", f"Correlation of llama.cpp's logits with transformers' behind the same prompt: {told}."]
    return "\n".join(parts)


def precision_table(report: dict[str, Any]) -> str:
    """One row a precision."""
    names = ("model", "backend", "precision", "load s", "resident MB", "ms a step", "ms first step", "error",
             "first difference", "AR-ness", "drift")  # fmt: skip
    parts = [f"{header(report)}.", "", "| " + " | ".join(names) + " |", "|---|---|---" + "|--:" * 8 + "|"]
    for row in report["rows"]:
        firsts = ", ".join("none" if n is None else str(n) for n in row["first_difference"])
        kind = {"none": "float32"}.get(row["precision"], row["precision"])
        figures = (row["load_s"], row["resident_mb"], row["step_ms"], row["first_step_ms"], row["error"], firsts,
                   row["ar_ness"], row["ar_ness_drift"])  # fmt: skip
        parts.append(f"| {row['model']} | {row['backend']} | {kind} | " + " | ".join(map(str, figures)) + " |")
    return "\n".join([*parts, *(f"\nLeft out: {note}" for note in report["notes"])])


def draw(report: dict[str, Any]) -> None:
    """Bars of a key and a cold fill, ours and theirs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shapes = report["shapes"]
    figure, axes = plt.subplots(1, len(shapes), figsize=(4.8 * len(shapes), 3.4), layout="constrained", squeeze=False)
    for axis, (shape, one) in zip(axes[0], shapes.items(), strict=True):
        wanted = [name for name in one["rows"] if re.search(r"(key|cold)( 8)?$", name)]
        wanted.sort(key=lambda name: ("cold" in name, name.startswith("llama")), reverse=True)
        values = [one["rows"][name]["ms"] for name in wanted]
        colours = [OURS if name.startswith("ours") else THEIRS for name in wanted]
        labels = [named(name).replace("**", "").replace(", 8 steps", "") for name in wanted]
        bars = axis.barh(range(len(wanted)), values, color=colours)
        axis.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=3, fontsize=8)
        axis.set_yticks(range(len(wanted)), labels, fontsize=8)
        axis.set_xlim(0, max(values) * 1.18)
        axis.set_xlabel("ms for 32 tokens, 512 before and 259 behind", fontsize=8)
        axis.set_title(f"{SHAPES.get(shape, shape)}, {threads(report)}", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(FIGURES / "peers.svg", metadata={"Date": None})
    plt.close(figure)


def put(page: str, name: str, text: str) -> str:
    """Replace what stands between a section's markers."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in page:
        raise ValueError(f"docs/benchmarks.md has no {begin}")
    return page[: page.index(begin) + len(begin)] + f"\n{text}\n" + page[page.index(end) :]


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    for name, make in (("peers", tables), ("precisions", precision_table)):
        path: Path = FOLDER / f"{name}.json"
        if path.is_file():
            report = json.loads(path.read_text(encoding="utf-8"))
            page = put(page, name, make(report))
            if name == "peers":
                draw(report)
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
