"""`diffill eval report`: the paper's figures for any model, in one page with its pictures beside it.

AR-ness, decoding orders, the first step's confidence ("entropy sink"), a temperature sweep with pass@k and order
diversity, and what halving the steps costs. Every measurement is a run of its own in the report's folder, below the
model's label, so that a report that was killed goes on, and models are added without measuring the others again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from model_runtime.commands.options import Parser
from model_runtime.protocol import RequestError
from training.corpus.store import replacing, write_json
from training.evaluation import figures, page
from training.evaluation.benchmarks.problem import Problem
from training.evaluation.eval_run import (
    add_options,
    decide,
    evaluate,
    load,
    model_folder,
    numbers,
    percent,
    read_data,
    short_problems,
)
from training.evaluation.reporting import say
from training.evaluation.traces import first_steps, kept, traces

EXAMPLES = """\
examples:
  diffill eval report mbpp --model before=build/sft --model after=build/grpo --data mbpp.jsonl --out build/report
  diffill eval report infilling-single-line --model embedded --data holes.jsonl --out build/report --length fixed:oracle
"""
HALVINGS = 5
LOOKED_AT = 32  # problems whose first step is looked at
Measured = dict[str, Any]


def make_parser() -> Parser:
    """The parser of `diffill eval report`."""
    parser = Parser(prog="diffill eval report", epilog=EXAMPLES)
    parser.add_argument("benchmark", metavar="BENCHMARK", help="whose problems are decoded (diffill eval list)")
    parser.add_argument("--model", action="append", metavar="[LABEL=]NAME|PATH", help="again for each (embedded)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the report's folder; what is there is kept"
    )
    sweep = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
    parser.add_argument(
        "--temperature", type=numbers(float), default=sweep, metavar="A,B,…", help="of the sweep (0.2,0.4,…,1.2)"
    )
    add_options(parser)
    parser.set_defaults(samples=4)
    return parser


def main(argv: list[str]) -> int:
    """Run `diffill eval report ARGV…` and return the exit code."""
    args = make_parser().parse_args(argv)
    args.no_gold = True
    models = dict(labelled(text) for text in args.model or ["embedded"])
    if len(models) < len(args.model or ["embedded"]):
        raise RequestError("two models have the same label: give each its own with LABEL=PATH")
    measured = {label: measure(args, label, model) for label, model in models.items()}
    draw(measured, args.out)
    problems, data = read_data(args)
    write_page(args, measured, {problem.id: problem for problem in problems}, data.name)
    write_json(args.out / "report.json", {label: told(found) for label, found in measured.items()})
    console = Console()
    for name in ("report.html", "report.json", *(f"{name}.png" for name in PICTURES)):
        say(str(args.out / name), console)
    return 0


def labelled(text: str) -> tuple[str, str]:
    """The label and the model of "LABEL=PATH"; by itself a model is labelled with its last part."""
    label, sign, model = text.partition("=")
    if sign and not (label and model):
        raise RequestError(f"--model takes LABEL=PATH, not {text!r}")
    label = label if sign else Path(text).name
    if "/" in label or label.startswith("."):
        raise RequestError(f"the label {label!r} names a folder of the report: it has no / and no . in front")
    return label, model if sign else text


def measure(args: argparse.Namespace, label: str, model: str) -> Measured:
    """All that is drawn of one model; made, or read where it is there."""
    folder, options = args.out / label, argparse.Namespace(**vars(args))
    problems, _ = read_data(options)
    infill = problems[0].shape == "infill"
    options.length = options.length or ("fixed:oracle" if infill else None)
    options.alg = options.alg or "entropy"
    tokens = options.max_new_tokens
    ks = tuple(k for k in (1, 2, 4, 8, 16) if k <= options.samples * len(options.seeds))
    base = min(options.temperature)
    sweep = evaluate(options, model, folder / "sweep", options.temperature, ks)
    most = options.steps or (min(16, tokens) if infill else tokens)
    steps: dict[int, Measured] = {}
    for count in sorted({max(1, most >> n) for n in range(HALVINGS)}, reverse=True):
        run = evaluate(options, model, folder / f"steps-{count}", (base,), (1,), steps=count, samples=1)
        steps[count] = run["temperatures"][str(base)]
    place = model_folder(model)
    kind, sampling = decide(options, place, problems)
    decoder = load(kind, place, sampling, options)
    if options.max_prompt is not None:
        problems = short_problems(problems, decoder, options.max_prompt)
    return {
        "about": sweep["about"],
        "decoder": kind,
        "length": sampling.length if infill else f"{tokens} tokens",
        "sweep": sweep["temperatures"],
        "steps": steps,
        "first": kept(folder / "first.json", lambda: first_steps(decoder, problems[:LOOKED_AT])),
        "traces": kept(folder / "traces.json", lambda: traces(decoder, looked_at(problems), base)),
    }


def looked_at(problems: list[Problem]) -> list[Problem]:
    """The problems whose decodings are shown: those with the longest holes, or the first."""
    if problems[0].shape != "infill":
        return problems[: figures.PANELS]
    return sorted(problems, key=lambda problem: -len(problem.gold or ""))[: figures.PANELS]


PICTURES = {
    "arness": (
        "AR-ness",
        "How near to left to right the tokens were revealed, at the lowest temperature. Local@k: the k tokens revealed "
        "before are the k to the left, as a set over all T steps (the paper's formula, in which left to right is "
        "(T - k)/T), or as a run over the T - k steps that can match. Global@k: the token was among the k leftmost "
        "masks; the band is one standard deviation over samples.",
    ),
    "orders": (
        "Decoding orders",
        "When each position was revealed, at the lowest temperature; the grey line is left to right. Grey points are "
        "positions behind the end of the answer.",
    ),
    "first": (
        "The first step",
        "How sure the model is of each mask before anything is revealed (median, and 80 % of the problems). DiffuCoder "
        'calls it an "entropy sink" when confidence is highest next to the prefix and falls off as an L.',
    ),
    "sweep": (
        "Temperature",
        "pass@k (band: 95 % of a bootstrap over problems); global AR-ness; how differently samples of one problem are "
        "ordered (the share of pairs of positions in opposite order: 0 alike, 0.5 unrelated), and the share of "
        "different texts. In the paper a higher temperature also makes orders more diverse.",
    ),
    "steps": (
        "Fewer steps",
        "The same problems in half as many steps, again and again: several tokens are then revealed at once.",
    ),
}


def draw(measured: Mapping[str, Measured], out: Path) -> None:
    """All pictures, beside the page."""
    lowest = {label: found["sweep"][min(found["sweep"], key=float)] for label, found in measured.items()}
    try:
        figures.draw_arness(lowest, out / "arness.png")
        figures.draw_orders({label: found["traces"] for label, found in measured.items()}, out / "orders.png")
        figures.draw_first_step({label: found["first"] for label, found in measured.items()}, out / "first.png")
        figures.draw_sweep({label: found["sweep"] for label, found in measured.items()}, out / "sweep.png")
        figures.draw_steps({label: found["steps"] for label, found in measured.items()}, out / "steps.png")
    except OSError as error:
        raise RequestError(f"{out} cannot be written: {error.strerror or error}") from error


def write_page(
    args: argparse.Namespace, measured: Mapping[str, Measured], problems: Mapping[str, Problem], data: str
) -> None:
    """report.html."""
    first = next(iter(measured.values()))
    counts = next(iter(first["sweep"].values()))
    about = (
        f"{args.benchmark} ({data}): {counts['problems']} problems, {counts['samples']} samples a temperature; "
        f"{first['about']['hardware']}, {first['about']['date']}"
    )
    parts = [overview(measured)]
    parts += [page.picture(args.out / f"{name}.png", *words) for name, words in PICTURES.items()]
    parts += ["<h2>Single decodings</h2>", page.ramp()]
    for label, found in measured.items():
        for trace in found["traces"]:
            problem = problems[trace["task_id"]]
            parts.append(f"<p><b>{page.html.escape(label)}</b>, {page.html.escape(trace['task_id'])}</p>")
            parts.append(page.decoding(trace, problem.prompt, problem.suffix))
    with replacing(args.out / "report.html") as file:
        file.write(page.page("How the models decode", about, parts).encode())


def overview(measured: Mapping[str, Measured]) -> str:
    """The table at the top: a row for each model and temperature."""
    rows = []
    for label, found in measured.items():
        for temperature, row in found["sweep"].items():
            known = row.get("arness", {})
            cells = [f"{label}, T = {temperature}", percent(row["pass@1"]), percent(row["parses"])]
            cells += [
                mean_of(known, "local_set_over_T", "1"),
                mean_of(known, "global", "1"),
                mean_of(known, "global", "4"),
            ]
            distance = row.get("order_distance")
            cells += ["-" if distance is None else f"{distance:.3f}", f"{row.get('tokens_a_step', 0):.2f}"]
            rows.append(cells)
    heads = ("model", "pass@1 %", "parses %", "local@1", "global@1", "global@4", "orders differ", "tokens a step")
    lines = [f"{label}: decoder {found['decoder']}, {found['length']}" for label, found in measured.items()]
    return page.table(heads, rows) + f"<p class=about>{page.html.escape('; '.join(lines))}</p>"


def mean_of(known: Mapping[str, Any], name: str, k: str) -> str:
    """A mean of AR-ness, with the standard deviation over samples."""
    found = known.get(name, {}).get(k)
    return f"{found['mean']:.2f} ± {found['sd']:.2f}" if found else "-"


def told(found: Measured) -> Measured:
    """What report.json keeps of a model: all but the single decodings."""
    kept_names = {name: value for name, value in found.items() if name not in ("traces", "first")}
    return kept_names | {"first_step": figures.sink(found["first"])}
