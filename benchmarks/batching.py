"""`make bench-batching`: fills that share passes against fills one after another, one to thirty-two people at once.

Everyone asks again as soon as they are answered (a closed loop: the model is never idle), in a file of their own. With
one at a time the others queue; with `--together` so many run at once. Both in turn, in one process, without a network.
Prints a table and one JSON line last; `--figure FILE` draws it. Processor time tells the same on a busy machine.

The embedded model searches one line in about 400 tokens of kept context. A random model in the shape of 0.5 B (8 bits)
settles a hole of FIXED masks in STEPS steps between about 60 tokens of context: its speed, not its text, is meant.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapes import write_checkpoint

from model_runtime.engine.batching import Courses
from model_runtime.engine.engine import Engine
from model_runtime.models.convert import convert
from model_runtime.protocol import FillRequest, FillResult

FILES = ("argparse", "textwrap", "tarfile", "zipfile", "configparser", "mailbox", "optparse", "pathlib")
LEVELS = (1, 2, 4, 8, 16, 32)
FIXED, STEPS, NEAR = 8, 4, 160
LEAST = 8  # fills at a level: few people ask several times each
SPAN = 150  # lines of a file before and behind
KEPT = 512 << 20  # bytes: the context of all who take part


@dataclass
class Level:
    """What came of one number of people: seconds each fill took from the question, and all took together."""

    seconds: list[float]
    span: float
    cpu: float  # seconds of processor time, of all threads
    shared: float  # fills in a pass, on average

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.span

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def searches(count: int) -> list[list[FillRequest]]:
    """For each person, lines of one file to be written anew."""
    people = []
    for person in range(count):
        spec = importlib.util.find_spec(FILES[person % len(FILES)])
        assert spec is not None
        assert spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        first = 150 + 61 * (person // len(FILES))
        lines = lines[first - SPAN : first + SPAN]
        text = "".join(lines)
        near = [n for n in range(SPAN, len(lines)) if len(lines[n].strip()) > 12][:LEAST]
        asked = []
        for n in near:
            start = sum(map(len, lines[:n])) + len(lines[n]) - len(lines[n].lstrip())
            end = start + len(lines[n].strip())
            asked.append(FillRequest(text=text, holes=[(start, end)], max_lines=1, max_tokens=24, path=f"{person}.py"))
        people.append(asked)
    return people


def settlings(count: int) -> list[list[FillRequest]]:
    """For each person, small holes for the random model."""
    people = []
    for asked in searches(count):
        small = []
        for request in asked:
            start, end = request.holes[0]
            text = request.text[start - NEAR : start] + request.text[end : end + NEAR]
            hole = (NEAR, NEAR)
            small.append(FillRequest(text=text, holes=[hole], length=f"fixed:{FIXED}", steps=STEPS, sampler="entropy"))
        people.append(small)
    return people


def closed_loop(engine: Engine, people: list[list[FillRequest]], at_once: int) -> Level:
    """Everybody asks, and asks again when answered, until all is answered; at most `at_once` fills run."""
    courses, seconds = Courses(), []
    begun, worked = time.perf_counter(), time.process_time()
    waiting = deque((person, 0, begun) for person in range(len(people)))

    def work(person: int, turn: int, asked: float) -> None:
        for message in engine.stream(people[person][turn]):
            assert isinstance(message, FillResult)
        now = time.perf_counter()
        seconds.append(now - asked)
        if turn + 1 < len(people[person]):
            waiting.append((person, turn + 1, now))

    while waiting or len(courses):
        while waiting and len(courses) < at_once:
            courses.start(functools.partial(work, *waiting.popleft()))
        courses.advance()
    shared = courses.windows / courses.rounds if courses.rounds else 1.0
    return Level(seconds, time.perf_counter() - begun, time.process_time() - worked, shared)


def measure(
    folder: str, people_of: Callable[[int], list[list[FillRequest]]], args: argparse.Namespace
) -> dict[str, Any]:
    """Both ways at every level, in turn, each the median of the repeats."""
    alone = Engine.load(folder, threads=args.threads, keep_bytes=KEPT)
    joint = Engine.load(folder, threads=args.threads, keep_bytes=KEPT, together=args.together)
    everybody = people_of(max(args.users))
    for engine in (alone, joint):  # what loads once; and the contexts, as when somebody has typed there before
        for asked in everybody if people_of is searches else everybody[:2]:
            engine.fill(asked[0])
    rows = []
    for users in args.users:
        people = [asked[: max(1, LEAST // users)] for asked in everybody[:users]]
        found: dict[str, list[Level]] = {"off": [], "on": []}
        for _ in range(args.repeats):
            found["off"].append(closed_loop(alone, people, 1))
            found["on"].append(closed_loop(joint, people, args.together))
        row: dict[str, Any] = {"users": users}
        for name, levels in found.items():
            row[name] = {
                "rate": statistics.median(level.rate for level in levels),
                "p50_ms": statistics.median(level.percentile(0.5) for level in levels),
                "p95_ms": statistics.median(level.percentile(0.95) for level in levels),
                "cpu_ms": statistics.median(1000 * level.cpu / len(level.seconds) for level in levels),
                "shared": statistics.median(level.shared for level in levels),
            }
        pairs = zip(found["on"], found["off"], strict=True)
        row["gain"] = statistics.median(on.rate / off.rate for on, off in pairs)
        rows.append(row)
        say(row)
    return {"together": args.together, "rows": rows}


def say(row: dict[str, Any]) -> None:
    """A line of the table."""
    parts = [
        f"{row[name]['rate']:7.2f} {row[name]['p50_ms']:8.0f} {row[name]['p95_ms']:8.0f} {row[name]['cpu_ms']:7.0f}"
        for name in ("off", "on")
    ]
    print(f"{row['users']:5}  {parts[0]}   {parts[1]}  {row['on']['shared']:6.1f}  {row['gain']:6.2f}", flush=True)


def draw(report: dict[str, Any], path: Path) -> None:
    """Fills a second against the 95th percentile of the wait, both ways, a panel a model."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    models = report["models"]
    figure, axes = plt.subplots(1, len(models), figsize=(4.2 * len(models), 3.4), layout="constrained", squeeze=False)
    for axis, (name, found) in zip(axes[0], models.items(), strict=True):
        for way, colour, label in (("off", "#d55e00", "one after another"), ("on", "#0072b2", "together")):
            x = [row[way]["p95_ms"] / 1000 for row in found["rows"]]
            y = [row[way]["rate"] for row in found["rows"]]
            axis.plot(x, y, "o-", color=colour, label=label, ms=4)
            for row, at in zip(found["rows"], zip(x, y, strict=True), strict=True):
                shift = (-4, 6) if way == "on" else (2, -11)
                axis.annotate(str(row["users"]), at, textcoords="offset points", xytext=shift, fontsize=7, color=colour)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.set_ylim(0)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("95 % wait less than (s)")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("fills a second")
    axes[0][0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default="embedded,0.5b", help="embedded, or shapes of benchmarks/shapes.py")
    parser.add_argument("--users", type=lambda text: [int(n) for n in text.split(",")], default=list(LEVELS))
    parser.add_argument("--together", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="where random models are kept")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    report: dict[str, Any] = {"models": {}}
    for name in args.models.split(","):
        folder, people_of = "embedded", searches
        if name != "embedded":
            written = args.folder / f"{name}-int8"
            if not written.is_dir():
                convert(write_checkpoint(args.folder / name, name), written, "int8")
            folder, people_of = str(written), settlings
        print(f"{name}: one after another, and {args.together} together")
        print("users  fills/s   p50 ms   p95 ms  cpu ms   fills/s   p50 ms   p95 ms  cpu ms  shared    gain")
        report["models"][name] = measure(folder, people_of, args)
    report["about"] = {
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }
    if args.figure is not None:
        draw(report, args.figure)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
