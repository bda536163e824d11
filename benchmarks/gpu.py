"""A 7 B-shaped model with random weights on a GPU: `python -m benchmarks.gpu` (anywhere: `--shape tiny --device cpu`).

For each precision ms of a window pass (33 rows against 768 cached) and of a full pass, against the floor that the
weights' bytes and the multiplications set; and tokens a second of a fill at several thresholds. On random weights
nothing is sure, so that a threshold is given as the share of masks that it reveals at once: k tokens a step. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.shapes import SHAPES, write_checkpoint
from model_runtime.backends.interface import HOLE, Past, Window
from model_runtime.backends.loading import Loading
from model_runtime.backends.precision import BYTES
from model_runtime.backends.torch import TorchBackend
from model_runtime.commands import machine
from model_runtime.protocol import DiffillError

PRECISIONS = ("bf16", "int8", "nf4")
WINDOW, CACHED, NEW = 33, 768, 32
TOKENS_A_STEP = (1, 2, 4, 8)
# Dense 16-bit TFLOP/s and TB/s of memory, as the makers tell; "measured" where a card is not here.
CARDS = {
    "H200": (989, 4.8), "H100": (989, 3.35), "A100": (312, 2.0), "4090": (165, 1.01), "4080": (97, 0.72),
    "4070": (58, 0.5), "4060": (30, 0.27), "3090": (71, 0.94), "L4": (121, 0.3), "T4": (65, 0.32),
}  # fmt: skip


def sizes(shape: str) -> tuple[int, int]:
    """Numbers in the blocks' matrices, and in the head."""
    one = SHAPES[shape]
    width, inner = one["hidden_size"], one["intermediate_size"]
    narrow = one["num_key_value_heads"] * (width // one["num_attention_heads"])
    layer = 2 * width * width + 2 * width * narrow + 3 * width * inner
    return one["num_hidden_layers"] * layer, one["vocab_size"] * width


def ceilings(device: torch.device) -> tuple[float, float, str]:
    """FLOP/s and bytes/s of the device, and where the figures come from."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for card, (flops, speed) in CARDS.items():
            if card in name:
                return flops * 1e12, speed * 1e12, f"{name}, as its maker tells"
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    side = 4096 if device.type == "cuda" else 1024
    matrix = torch.randn(side, side, device=device, dtype=kind)
    took = timed(lambda: matrix @ matrix, device)
    copied = timed(matrix.clone, device)
    return 2 * side**3 / took, 2 * matrix.nbytes / copied, "measured here"


def timed(run: Any, device: torch.device, repeats: int = 5) -> float:
    """Median seconds, after a run to warm up."""
    runs = []
    for n in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if n:
            runs.append(time.perf_counter() - start)
    return statistics.median(runs)


def window_of(backend: TorchBackend, width: int, cached: int, asked: int) -> Window:
    """Random rows against a random past; the last `asked` of them want candidates."""
    facts, rng = backend.facts, np.random.default_rng(0)
    shape = facts.layers, 1, facts.kv_heads, cached, facts.head_width
    kept = torch.randn(shape, device=backend.device, dtype=backend._no_past.dtype)
    past = Past(kept, kept, np.arange(cached)[None], np.full((1, cached), HOLE)) if cached else None
    return Window(
        ids_BW=rng.integers(5, 8000, (1, width)),
        positions_BW=np.arange(cached, cached + width)[None],
        segments_BW=np.full((1, width), HOLE),
        rows_BR=np.arange(width - asked, width)[None],
        bias_CV=np.zeros((1, facts.vocabulary), np.float32),
        bias_rows_BR=np.zeros((1, asked), np.int64),
        past=past,
    )


def measure(folder: Path, shape: str, precision: str, device: str, compiled: bool) -> dict[str, Any]:
    """The figures of one precision."""
    begun = time.perf_counter()
    backend = TorchBackend(folder, loading=Loading(precision, device, None, compiled))
    loaded, place = time.perf_counter() - begun, backend.device
    flops, speed, told = ceilings(place)
    blocks, head = sizes(shape)
    row: dict[str, Any] = {"precision": precision, "load_s": round(loaded, 1), "ceilings": told}
    if place.type == "cuda":
        row["memory_gb"] = round(torch.cuda.max_memory_allocated(place) / 1e9, 2)
        torch.cuda.reset_peak_memory_stats(place)
    passes = {"window": (WINDOW, CACHED, NEW), "full": (WINDOW + CACHED, 0, NEW)}
    for name, (width, cached, asked) in passes.items():
        window = window_of(backend, width, cached, asked)
        took = timed(lambda window=window: backend.window(window), place)
        small, large = BYTES[precision]
        floor = max((blocks * small + head * large) / speed, 2 * (width * blocks + asked * head) / flops)
        row[f"{name}_ms"], row[f"{name}_floor_ms"] = round(took * 1e3, 2), round(floor * 1e3, 2)
    for count in TOKENS_A_STEP:
        spent = 0.0
        for left in range(NEW, 0, -count):
            window = window_of(backend, WINDOW, CACHED, left)
            spent += timed(lambda window=window: backend.window(window), place, 1)
        row[f"tokens_s_{count}"] = round(NEW / spent, 1)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=tuple(SHAPES), default="7b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--compile", action="store_true", help="with torch.compile and CUDA graphs")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    folder = write_checkpoint(arguments.folder / arguments.shape, arguments.shape)
    rows, notes = [], []
    for precision in arguments.precisions.split(","):
        try:
            rows.append(measure(folder, arguments.shape, precision, arguments.device, arguments.compile))
        except DiffillError as error:
            notes.append(f"{precision}: {error}")
            continue
        print(" ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    for note in notes:
        print(f"note: {note}")
    report = {
        "bench": "gpu", "shape": arguments.shape, "device": arguments.device, "compiled": arguments.compile,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "hardware": machine.hardware(), "versions": machine.versions(), "rows": rows, "notes": notes,
    }  # fmt: skip
    print(json.dumps(report))
    return 0 if rows else 1


if __name__ == "__main__":
    raise SystemExit(main())
