"""What keeping far context between fills changes under full attention: `python -m benchmarks.anchored MODEL`.

MODEL is a trained one with full attention (`diffill train export`). Lines of real code are filled, their length given,
one token a step, four ways: everything computed in every step, context kept within the fill, far context kept between
fills (engine/anchor.py), and settled tokens kept as well (engine/settled.py). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any, Literal

import numpy as np

from model_runtime.commands.bench_cases import read_code
from model_runtime.engine.cache import ContextCache, lay_out
from model_runtime.engine.canvas import add_masks, build_canvas
from model_runtime.engine.engine import Engine
from model_runtime.engine.kept import KeptContext
from model_runtime.protocol import FillRequest

WAYS = ("off", "within", "between", "settled")
CACHE: dict[str, Literal["on", "context", "off"]] = {
    "off": "off",
    "within": "context",
    "between": "context",
    "settled": "on",
}


def lines_of(code: str, count: int) -> list[tuple[int, int]]:
    """`count` lines with something on them, spread over the code; indentation is given."""
    spans, start = [], 0
    for line in code.splitlines(keepends=True):
        body = line.strip()
        if len(body) > 8 and not body.startswith(("#", '"', "'")):
            at = start + len(line) - len(line.lstrip())
            spans.append((at, at + len(body)))
        start += len(line)
    spans = [span for span in spans if span[0] > 1500]
    return [spans[n * len(spans) // count] for n in range(count)]


def measure(engine: Engine, code: str, spans: list[tuple[int, int]]) -> dict[str, Any]:
    """Agreement with computing everything, and with what stood there."""
    same: dict[str, list[bool]] = {way: [] for way in WAYS}
    right: dict[str, list[float]] = {way: [] for way in WAYS}
    first: dict[str, list[float]] = {way: [] for way in WAYS}
    nats: dict[str, list[float]] = {way: [] for way in WAYS}
    for start, end in spans:
        truth = engine.tokenizer.encode(code[start:end])
        canvas = build_canvas(engine.tokenizer, engine.facts, code, [(start, end)], heal=False)
        add_masks(canvas.holes[0], len(truth))
        layout = lay_out(canvas, engine.facts)
        bias, lines = engine.bans.for_cells([(cell, 0) for _, _, cell in layout.masked])
        exact, whole = None, ""
        for way in WAYS:
            engine.kept = KeptContext(64 << 20 if way in ("between", "settled") else 0)
            cache = ContextCache(engine.backend, canvas, way != "off", engine.kept)
            told = np.array(truth)[None]
            found = cache.step([layout], bias, [lines], targets_BR=told)
            exact = found if exact is None else exact
            first[way].append(float((found.ids_BRA[0, :, 0] == exact.ids_BRA[0, :, 0]).mean()))
            assert found.target_log_probs_BR is not None
            nats[way].append(-float(found.target_log_probs_BR.mean()))
            request = FillRequest(
                text=code, holes=[(start, end)], length=f"fixed:{len(truth)}", max_tokens=len(truth), steps=len(truth),
                sampler="maskgit_plus", cache=CACHE[way], expert="off",
            )  # fmt: skip
            text = engine.fill(request).holes[0].text
            whole = text if way == "off" else whole
            same[way].append(text == whole)
            made = engine.tokenizer.encode(text)
            right[way].append(statistics.mean(a == b for a, b in zip(made + [-1] * len(truth), truth, strict=False)))
    return {
        way: {
            "first_step_same": round(statistics.mean(first[way]), 4),
            "nats_a_token": round(statistics.mean(nats[way]), 3),
            "same_text": round(statistics.mean(same[way]), 4),
            "right_tokens": round(statistics.mean(right[way]), 4),
        }
        for way in WAYS
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    engine = Engine.load(arguments.model, backend=arguments.backend, threads=arguments.threads)
    name, code = read_code()
    figures = measure(engine, code, lines_of(code, arguments.count))
    for way, row in figures.items():
        print(way, " ".join(f"{key} {value}" for key, value in row.items()))
    print(
        json.dumps({"bench": "anchored", "model": engine.facts.name, "code": name, "lines": arguments.count, **figures})
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
