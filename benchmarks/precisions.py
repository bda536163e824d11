"""What each precision costs and what it changes, on a 0.5 B-shaped random model and the embedded one.

`python -m benchmarks.precisions`: load time, resident memory, ms a step and a full pass, the error of log-probabilities
against float32, the first step of a fill (one token a step) at which another token or another place comes out, and how
much more or less from left to right it decodes (global AR-ness@1, arXiv 2506.20639). Each in a process of its own. The
last line is JSON; build/bench/precisions.json has it too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.cases import typed
from benchmarks.peers.ways import REPOSITORY
from benchmarks.shapes import write_checkpoint
from model_runtime.backends.interface import HOLE, Window
from model_runtime.backends.loading import Loading
from model_runtime.backends.onnx import default_threads
from model_runtime.catalog.catalog import EMBEDDED
from model_runtime.commands import machine
from model_runtime.engine.cache import ContextCache, lay_out
from model_runtime.engine.canvas import add_masks, build_canvas
from model_runtime.engine.denoise import Outcome, Settings, denoise
from model_runtime.engine.engine import Engine
from model_runtime.models.convert import convert
from model_runtime.protocol import FillRequest
from training.evaluation.arness import global_arness

FOLDER = REPOSITORY / "build/bench"
ONNX, TORCH = ("none", "int8", "int8-rows", "int4"), ("fp32", "bf16", "int8", "nf4")
HOLE_TOKENS, ASKED = 16, 32  # tokens of a fill, log-probabilities looked at in each row
MODELS = ("embedded", "0.5b")


def load(model: str, backend: str, precision: str, threads: int) -> Engine:
    """An engine in one precision; its folder is prepared."""
    if backend == "onnx":
        return Engine.load(FOLDER / f"{model}-{precision}", backend="onnx", threads=threads, keep_bytes=0)
    import torch

    torch.set_num_threads(threads)
    return Engine.load(
        checkpoint(model), backend="torch", keep_bytes=0, loading=Loading(precision, device="cpu"), threads=threads
    )


def checkpoint(model: str) -> Path:
    return EMBEDDED if model == "embedded" else FOLDER / model


def log_probs(engine: Engine, ids: list[int], masks: int) -> np.ndarray:
    """Log-probabilities of ASKED ids in each of the masked rows behind `ids` [rows, ASKED]; all rows see each other."""
    facts = engine.facts
    whole = np.array([*ids, *[facts.mask_id] * masks])
    rng = np.random.default_rng(7)
    rows = np.repeat(np.arange(len(ids) - 1, len(whole) - 1), ASKED)[None]
    window = Window(
        ids_BW=whole[None],
        positions_BW=np.arange(len(whole))[None],
        segments_BW=np.full((1, len(whole)), HOLE),
        rows_BR=rows,
        bias_CV=np.zeros((1, facts.vocabulary), np.float32),
        bias_rows_BR=np.zeros_like(rows),
        targets_BR=np.tile(rng.integers(5, facts.tokenizer_size, ASKED), masks)[None],
    )
    found = engine.backend.window(window)[0].target_log_probs_BR
    assert found is not None
    return found.reshape(masks, ASKED)


def decode(engine: Engine, text: str, at: int) -> list[tuple[int, int]]:
    """Where and what is revealed, one token a step."""
    request = FillRequest(
        text=text, holes=[(at, at)], steps=HOLE_TOKENS, sampler="maskgit_plus", max_tokens=HOLE_TOKENS
    )
    canvas = build_canvas(engine.tokenizer, engine.facts, text, [(at, at)], heal=False)
    add_masks(canvas.holes[0], HOLE_TOKENS)
    cache = ContextCache(engine.backend, canvas, enabled=True)
    settings = Settings(request, f"fixed:{HOLE_TOKENS}", 0.0, None, None, np.random.default_rng(0))
    for _ in denoise(engine.backend, cache, canvas, engine.bans, settings, Outcome(), engine.tokenizer.line_ends):
        pass
    cells = canvas.holes[0].cells
    order = sorted(range(len(cells)), key=lambda n: cells[n].step)
    return [(n, cells[n].token or 0) for n in order]


def straightness(orders: list[list[tuple[int, int]]]) -> float:
    """The mean global AR-ness of what `decode` returned."""
    return statistics.mean(global_arness([n for n, _ in order]) or 0.0 for order in orders)


def measure(model: str, backend: str, precision: str, threads: int, cases: int) -> dict[str, Any]:
    """All figures of one precision, in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    engine = load(model, backend, precision, threads)
    loaded = time.perf_counter() - start
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    texts = [typed(engine.tokenizer, 2, 0.2 + 0.6 * n / cases)[1] for n in range(cases)]
    ids = engine.tokenizer.encode(texts[0].text[: texts[0].at])[-256:]
    scored = log_probs(engine, ids, 8)
    steps, full = [], []
    for case in texts:
        canvas = build_canvas(engine.tokenizer, engine.facts, case.text, [(case.at, case.at)], heal=False)
        add_masks(canvas.holes[0], 32)
        layout = lay_out(canvas, engine.facts)
        bias, lines = engine.bans.for_cells([(cell, 0) for _, _, cell in layout.masked])
        cache = ContextCache(engine.backend, canvas, enabled=True)
        begun = time.perf_counter()
        cache.step([layout], bias, [lines])  # under full attention with the context
        full.append((time.perf_counter() - begun) * 1000)
        for _ in range(3):
            begun = time.perf_counter()
            cache.step([layout], bias, [lines])
            steps.append((time.perf_counter() - begun) * 1000)
    return {
        "model": model, "backend": backend, "precision": precision, "load_s": round(loaded, 2),
        "resident_mb": round(resident / 1e6),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "begun_with_mb": round(before / 1e3), "step_ms": round(statistics.median(steps), 1),
        "first_step_ms": round(statistics.median(full), 1), "log_probs": np.round(scored, 4).tolist(),
        "orders": [decode(engine, case.text, case.at) for case in texts],
    }  # fmt: skip


def compare(rows: list[dict[str, Any]]) -> None:
    """Turn what was computed into differences from float32 in torch (else in ONNX)."""
    for model in MODELS:
        these = [row for row in rows if row["model"] == model]
        exact = next((row for row in these if row["precision"] == "fp32"), None)
        exact = exact or next((row for row in these if row["precision"] == "none"), None)
        if exact is None:
            continue
        true, orders = np.array(exact["log_probs"]), exact["orders"]
        spread = np.sqrt(np.mean((true - true.mean(axis=1, keepdims=True)) ** 2))
        straight = straightness(orders)
        for row in these:
            row["error"] = round(float(np.sqrt(np.mean((np.array(row["log_probs"]) - true) ** 2)) / spread), 5)
            firsts = []
            for one, other in zip(row["orders"], orders, strict=True):
                pairs = enumerate(zip(one, other, strict=True), start=1)
                firsts.append(next((n for n, (a, b) in pairs if list(a) != list(b)), None))
            row["first_difference"] = firsts
            own = straightness(row["orders"])
            row["ar_ness"], row["ar_ness_drift"] = round(own, 3), round(own - straight, 3)
    for row in rows:
        del row["log_probs"], row["orders"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--one", metavar="MODEL,BACKEND,PRECISION", help="measure one, print JSON (used by itself)")
    parser.add_argument("--out", type=Path, default=FOLDER / "precisions.json")
    arguments = parser.parse_args()
    if arguments.one:
        model, backend, precision = arguments.one.split(",")
        print(json.dumps(measure(model, backend, precision, arguments.threads, arguments.cases)))
        return 0
    rows, notes = [], []
    for model in arguments.models.split(","):
        if model != "embedded":
            write_checkpoint(FOLDER / model, model)
        for backend, precision in [("onnx", one) for one in ONNX] + [("torch", one) for one in TORCH]:
            print(f"[{time.strftime('%H:%M:%S')}] {model} {backend} {precision}", file=sys.stderr, flush=True)
            if backend == "onnx" and not (FOLDER / f"{model}-{precision}").is_dir():
                convert(checkpoint(model), FOLDER / f"{model}-{precision}", precision)
            command = [sys.executable, "-m", "benchmarks.precisions", "--one", f"{model},{backend},{precision}"]
            command += ["--threads", str(arguments.threads), "--cases", str(arguments.cases)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
            if done.returncode:
                notes.append(f"{model} {backend} {precision}: {done.stderr.strip().splitlines()[-1][:200]}")
                continue
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    compare(rows)
    report = {
        "bench": "precisions",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "threads": arguments.threads, "hole": HOLE_TOKENS, "hardware": machine.hardware(),
        "versions": machine.versions(), "rows": rows, "notes": notes,
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(" ".join(f"{name} {value}" for name, value in row.items()))
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
