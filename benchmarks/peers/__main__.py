"""Diffill against what a user would run instead, on one machine: `python -m benchmarks.peers` (`make bench-peers`).

The same random weights in every program, 512 tokens before the cursor, 259 behind it, 32 to be written. All ways take
turns; what is told are medians, and ratios within a turn. The last line is JSON; build/bench/peers.json has it too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.cases import NEW, typed
from benchmarks.peers.ways import LLAMA_PYTHON, REPOSITORY, Llama, Ours, Time, Torch, write_gguf
from benchmarks.shapes import write_checkpoint
from model_runtime.backends.onnx import default_threads
from model_runtime.commands import machine
from model_runtime.models.convert import convert

FOLDER = REPOSITORY / "build/bench"
KINDS = ("int8-rows", "int8")
STEPS = (8, 32)
PEERS = {"0.5b": ("q4_0", "q8_0"), "24m": ("q8_0",)}
# What was asked for, in 8 steps.
WANTED = {"0.5b": {"key": 1.7, "cold": 1.7}, "24m": {"key": 2.5, "cold": 1.7}}
Rows = dict[str, list[Time]]


def tell(words: str) -> None:
    """What is going on, for who waits."""
    print(f"[{time.strftime('%H:%M:%S')}] {words}", file=sys.stderr, flush=True)


def prepare(shape: str) -> dict[str, Path]:
    """The checkpoint, its conversions and its GGUF files, written once."""
    paths = {"checkpoint": write_checkpoint(FOLDER / shape, shape)}
    for kind in KINDS:
        paths[kind] = FOLDER / f"{shape}-{kind}"
        if not paths[kind].is_dir():
            tell(f"converting {shape} to {kind}")
            convert(paths["checkpoint"], paths[kind], kind)
    for kind in PEERS[shape] if LLAMA_PYTHON.is_file() else ():
        paths[kind] = write_gguf(paths["checkpoint"], kind)
    return paths


def measure(shape: str, rounds: int, keys: int, threads: int, with_torch: bool) -> dict[str, Any]:
    """Every way in turn; times by way, and the agreement of the programs' weights."""
    paths = prepare(shape)
    tell(f"loading {shape}")
    ours = {kind: Ours(paths[kind], threads) for kind in KINDS}
    peers = {kind: Llama(paths[kind], threads) for kind in PEERS[shape] if kind in paths}
    whole = Llama(paths[PEERS[shape][0]], threads, whole=True) if peers else None
    torch = Torch(paths["checkpoint"], threads) if with_torch else None
    tokenizer = next(iter(ours.values())).engine.tokenizer
    warm = typed(tokenizer, 1, 0.5)[0]
    for engine in ours.values():
        engine.fill(warm, 2, True)
    for peer in peers.values():
        peer.ask(do="fill", prompt=warm.plain[:64], new=2, cold=True)
    agreement = agree(peers, torch, warm.plain) if peers and torch else None
    rows: Rows = {}

    def note(name: str, took: Time) -> None:
        rows.setdefault(name, []).append(took)

    for turn in range(rounds):
        tell(f"{shape}, round {turn + 1} of {rounds}")
        cases = typed(tokenizer, keys + 1, 0.15 + 0.7 * turn / rounds)
        for kind, engine in ours.items():
            note(f"ours {kind} cold 8", engine.fill(cases[0], 8, True))
        for kind, peer in peers.items():
            note(f"llama {kind} cold", peer.fill(cases[0].plain, True))
        for case in cases[1:]:
            for kind, engine in ours.items():
                note(f"ours {kind} key 8", engine.fill(case, 8, False))
            for kind, peer in peers.items():
                note(f"llama {kind} key", peer.fill(case.plain, False))
        for kind, engine in ours.items():
            note(f"ours {kind} key 32", engine.fill(cases[-1], 32, False))
        for kind, peer in peers.items():  # the other order of the parts, which keeps the suffix
            peer.ask(do="fill", prompt=cases[-2].suffix_first, new=1, cold=True)
            note(f"llama {kind} key suffix-first", peer.fill(cases[-1].suffix_first, False))
        ids = cases[0].plain[1:-1] + [5] * (NEW + 2)
        if whole is not None:
            note(f"llama {PEERS[shape][0]} diffusion step", whole.whole(ids))
        if torch is not None:
            note("torch reference step", torch.reference_step(ids, 512))
            note("torch qwen2 generate", torch.generate(cases[0].plain))
    for one in [*peers.values(), *([whole] if whole else [])]:
        one.close()
    facts = {kind: peer.facts for kind, peer in peers.items()}
    return {"rows": summary(rows), "ratios": ratios(shape, rows), "agreement": agreement, "llama": facts}


def agree(peers: dict[str, Llama], torch: Torch, prompt: list[int]) -> dict[str, float]:
    """The correlation of each program's logits with those of transformers: they compute one model."""
    expected = torch.logits(prompt)
    return {
        kind: round(float(np.corrcoef(expected, peer.ask(do="logits", tokens=prompt)["logits"])[0, 1]), 4)
        for kind, peer in peers.items()
    }


def summary(rows: Rows) -> dict[str, Any]:
    """Medians and all runs, in milliseconds."""
    return {
        name: {
            "ms": round(statistics.median(wall for wall, _ in runs), 1),
            "cpu_ms": round(statistics.median(busy for _, busy in runs), 1),
            "runs_ms": [round(wall, 1) for wall, _ in runs],
        }
        for name, runs in rows.items()
    }


def ratios(shape: str, rows: Rows) -> dict[str, Any]:
    """How many times longer a peer took, by the clock and in processor time: medians of ratios within a turn."""
    found: dict[str, Any] = {}

    def add(name: str, slow: str, fast: str, times: float = 1.0, wanted: float | None = None) -> None:
        if slow in rows and fast in rows:
            pairs = list(zip(rows[slow], rows[fast], strict=False))
            clock, busy = (round(statistics.median(times * a[n] / b[n] for a, b in pairs), 2) for n in (0, 1))
            found[name] = {"ratio": clock, "cpu_ratio": busy, "wanted": wanted}

    for kind in KINDS:
        for peer in PEERS[shape]:
            for what in ("key", "cold"):
                wanted = WANTED[shape][what]
                add(f"{what}: {kind} over {peer}", f"llama {peer} {what}", f"ours {kind} {what} 8", 1, wanted)
            add(f"key, 32 steps: {kind} over {peer}", f"llama {peer} key", f"ours {kind} key 32")
            add(f"key, suffix first: {kind} over {peer}", f"llama {peer} key suffix-first", f"ours {kind} key 8")
        diffusion, key = f"llama {PEERS[shape][0]} diffusion step", f"ours {kind} key 32"
        add(f"step: {kind} over llama.cpp's diffusion", diffusion, key, 32, 20)  # a step is a 32nd of 32 steps
        add(f"fill: {kind} over the reference", "torch reference step", f"ours {kind} key 8", NEW, 20)
        add(f"fill: {kind} over transformers' Qwen2", "torch qwen2 generate", f"ours {kind} cold 8")
    return found


def print_card(report: dict[str, Any]) -> None:
    """The figures for a person."""
    for shape, one in report["shapes"].items():
        print(f"\n{shape}, {report['threads']} threads, {report['date']}; ms (processor ms)")
        for name, row in one["rows"].items():
            print(f"  {name:34} {row['ms']:10.1f} ({row['cpu_ms']:.0f})")
        for name, row in one["ratios"].items():
            wanted = "" if row["wanted"] is None else f"   wanted {row['wanted']:g}"
            print(f"  x {name:46} {row['ratio']:7.2f}  (processor time {row['cpu_ratio']:.2f}){wanted}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", default="0.5b,24m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--no-torch", action="store_true", help="leave the reference and transformers out")
    parser.add_argument("--out", type=Path, default=FOLDER / "peers.json")
    arguments = parser.parse_args()
    notes = [] if LLAMA_PYTHON.is_file() else ["llama.cpp is not built (make build/llama/.built): left out"]
    shapes = {}
    for shape in arguments.shapes.split(","):
        rounds = arguments.rounds * (1 if shape == "0.5b" else 2)
        shapes[shape] = measure(shape, rounds, arguments.keys, arguments.threads, not arguments.no_torch)
    report = {
        "bench": "peers",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "threads": arguments.threads,
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "shapes": shapes,
        "notes": notes,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print_card(report)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
