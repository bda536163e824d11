"""`diffill doctor`: what this machine has, whether the model is whole, one timed fill, and what to do about it."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_runtime.catalog.catalog import find_model
from model_runtime.commands import machine
from model_runtime.commands.checkup import examine_daemon, examine_driver, examine_store, examine_weights
from model_runtime.commands.describing import WEIGHTS
from model_runtime.commands.machine import readable
from model_runtime.commands.options import Parser
from model_runtime.models.families import read_facts
from model_runtime.protocol import DiffillError, FillRequest

EXAMPLES = """\
examples:
  diffill doctor                       this installation, with the embedded model
  diffill doctor --model ./my-model    the same with another model
  diffill doctor --json                for a bug report or a program

exit codes: 0 healthy, 1 something is broken (each problem says its remedy),
2 bad use
"""
SUMS = "SHA256SUMS"
CODE = "def mean(values):\n    total = sum(values)\n    return \n\n\nprint(mean([1, 2, 3]))\n"
HOLE = CODE.index("return ") + len("return ")
TOKENS, BUDGET_MS = 16, 60_000.0
SLOW_MS = 2_000.0
LARGE_PARAMETERS = 7.6e9  # of the 7B checkpoints of Dream and DiffuCoder


@dataclass
class Report:
    """What was found; every problem is one sentence with its remedy."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


def make_parser() -> Parser:
    """Return the parser of `diffill doctor`."""
    parser = Parser(
        prog="diffill doctor",
        description="Examine this installation: versions, machine, model, one timed fill.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--model", metavar="NAME|PATH", default="embedded", help="a model's name or folder (default: embedded)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main(argv: list[str]) -> int:
    """Run `diffill doctor ARGV…`; return 0 if all is well and 1 if something is broken."""
    args = make_parser().parse_args(argv)
    report = examine(args.model)
    if args.json:
        healthy = not report.problems
        print(json.dumps({"healthy": healthy, "problems": report.problems, "advice": report.advice, **report.facts}))
    else:
        print(written(report))
    return 1 if report.problems else 0


def examine(model: str) -> Report:
    """Return the findings about this machine and a model; nothing that is broken raises."""
    report = Report()
    report.facts["versions"] = machine.versions()
    report.facts["hardware"] = machine.hardware()
    for name in machine.NEEDED:
        if report.facts["versions"][name] is None:
            report.problems.append(f"{name} is not installed; install diffill again: pip install --upgrade diffill")
    examine_torch(report)
    examine_driver(report)
    examine_daemon(report)
    examine_store(report)
    folder = examine_model(report, model)
    if folder is not None and examine_weights(report, model, folder):
        time_a_fill(report, folder)
    advise_about_machine(report)
    return report


def examine_torch(report: Report) -> None:
    """Add the torch that is installed and the accelerators it sees."""
    if not machine.is_installed("torch"):
        report.facts["torch"] = None
        report.advice.append(
            "torch is not installed: the embedded model needs none; checkpoints that have no model.onnx do, "
            "and pip install 'diffill[torch]' brings it"
        )
        return
    report.facts["torch"] = found = machine.ask_torch()
    if not found["works"]:
        report.problems.append(
            f"torch is installed but does not work ({found['error']}); install it again or remove it: "
            "the embedded model runs without"
        )
    elif not found["devices"]:
        report.advice.append("torch sees no accelerator: models run on the processor")


def examine_model(report: Report, model: str) -> Path | None:
    """Add the model's files and whether they are whole; return its folder if a fill is worth trying."""
    remedy = "install diffill again" if model == "embedded" else "fetch or export the model again"
    facts: dict[str, Any] = {"name": model, "folder": None, "files": {}, "checksums": None}
    report.facts["model"] = facts
    try:
        folder = find_model(model)
    except DiffillError as error:  # its sentence names the remedy
        report.problems.append(one_line(error))
        return None
    facts["folder"] = str(folder)
    try:
        facts["files"] = files = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
        read_facts(folder)
        wrong = check_sums(folder)
    except (DiffillError, OSError) as error:
        report.problems.append(f"{one_line(error)}; {remedy}, or give another --model")
        return None
    spelled = {"vocab.json", "merges.txt"} <= set(files)
    missing = [] if spelled or "tokenizer.json" in files else ["tokenizer.json"]
    if not any(name in files for name in WEIGHTS):
        missing.append(WEIGHTS[0])
    for name in missing:
        report.problems.append(f"{folder} has no {name}; {remedy}")
    if wrong is not None:
        facts["checksums"] = "differ" if wrong else "match"
        report.problems += [f"{sentence}; {remedy}" for sentence in wrong]
    return None if missing else folder


def check_sums(folder: Path) -> list[str] | None:
    """Return a sentence for each file that is not what SHA256SUMS says, or None if there is no such list."""
    path = folder / SUMS
    if not path.is_file():
        return None
    wrong = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if not match:
            wrong.append(f"{path} holds a line that is no checksum")
        elif not (folder / match[2]).is_file():
            wrong.append(f"{folder / match[2]} is missing")
        elif file_sum(folder / match[2]) != match[1]:
            wrong.append(f"{folder / match[2]} is damaged: its checksum differs from {SUMS}")
    return wrong


def file_sum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def time_a_fill(report: Report, folder: Path) -> None:
    """Fill one small hole twice; add the times of loading, of the first fill and of one that is warmed up."""
    request = FillRequest(text=CODE, holes=[(HOLE, HOLE)], length=f"fixed:{TOKENS}", deadline_ms=BUDGET_MS)
    start = time.perf_counter()
    try:
        from model_runtime.engine.engine import Engine

        engine = Engine.load(folder)
        loaded = time.perf_counter()
        first = engine.fill(request)
        again = engine.fill(request)
    except Exception as error:  # whatever a broken library raises is what the doctor is here to tell
        report.problems.append(f"a fill failed: {one_line(error)}; mend what it names, or give another --model")
        return
    report.facts["fill"] = {
        "tokens": TOKENS,
        "steps": again.steps,
        "end": again.end,
        "load_ms": round((loaded - start) * 1000, 1),
        "first_ms": first.timing_ms["total"],
        "ms": again.timing_ms["total"],
    }
    if again.timing_ms["total"] > SLOW_MS:
        report.advice.append(
            f"a fill of {TOKENS} tokens took {again.timing_ms['total'] / 1000:.1f} s: "
            "give --budget-ms to get the best answer in time, or use a smaller model"
        )


def advise_about_machine(report: Report) -> None:
    """Add what the processor and the memory mean for the user."""
    hardware, torch = report.facts["hardware"], report.facts["torch"] or {}
    cores, features = hardware["cores"], hardware["features"]
    if cores <= 2:
        busy = "shares it" if cores == 1 else "shares both"
        report.advice.append(
            f"{cores} core{'s' * (cores != 1)}: a fill {busy} with the editor; other heavy programs slow it down"
        )
    if features is not None and not {"avx2", "asimd"} & set(features):
        report.advice.append("the processor has no AVX2: fills take several times longer than on one that has")
    free = hardware["memory_free_bytes"]
    if free is not None and free < 1e9:
        report.advice.append(f"only {readable(free)} of memory is free: close programs before loading a larger model")
    need = LARGE_PARAMETERS * 2
    space = [device["memory_bytes"] or 0 for device in torch.get("devices", [])]
    if torch.get("works") and max([free or 0, *space]) < need:
        report.advice.append(
            f"a 7B checkpoint in bfloat16 has {need / 1e9:.0f} GB of weights, more than is free here: "
            "load it quantised to 4 bits, or use a smaller model"
        )


def written(report: Report) -> str:
    """Return the report as a person reads it."""
    facts, hardware, model = report.facts, report.facts["hardware"], report.facts["model"]
    features = hardware["features"]
    rows = [(name, version or "not installed") for name, version in facts["versions"].items()]
    rows += [
        ("platform", hardware["platform"]),
        ("processor", hardware["processor"]),
        ("features", "unknown" if features is None else " ".join(features) or "none that matter"),
        ("cores", str(hardware["cores"])),
        ("memory", f"{readable(hardware['memory_bytes'])}, {readable(hardware['memory_free_bytes'])} free"),
    ]
    for device in (facts["torch"] or {}).get("devices", []):
        rows.append(("accelerator", f"{device['name']}, {readable(device['memory_bytes'])}"))
    rows.append(("model", f"{model['name']} in {model['folder'] or 'no folder'}"))
    rows += [(f"  {name}", readable(size)) for name, size in sorted(model["files"].items())]
    daemon, kept = facts["daemon"], facts["store"]
    running = f"{daemon.get('address')}, process {daemon.get('pid')}, version {daemon.get('version')}"
    rows.append(("daemon", running if daemon["running"] else "none runs; editors start it"))
    rows.append(("models", f"{', '.join(kept['models']) or 'none fetched'} in {kept['folder']}"))
    rows.append(("checksums", model["checksums"] or f"not checked: no {SUMS}"))
    if "fill" in facts:
        fill = facts["fill"]
        steps = f"{fill['tokens']} tokens in {fill['steps']} steps"
        rows.append(("fill", f"{fill['ms']:.0f} ms for {steps} (loading {fill['load_ms']:.0f} ms)"))
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name:<{width}}{value}" for name, value in rows]
    lines += [""] + [f"problem: {sentence}." for sentence in report.problems]
    lines += [f"advice: {sentence}." for sentence in report.advice]
    lines.append("Something is broken." if report.problems else "Everything works.")
    return "\n".join(lines)


def one_line(error: BaseException) -> str:
    """Return an error's text on one line, or its kind if it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__
