"""`make bench-lsp`: from a keystroke to its suggestion, through the real server and daemon with the embedded model.

Lines of three real files are taken out and typed back key by key, with gaps between the keys as people leave them
(drawn once from a seed, median 160 ms, a longer rest at a line's end). Every key changes the document and asks for a
suggestion, as VS Code does: the request before is cancelled. Prints a table, and one JSON line last.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "lsp"))

from editor import PATIENCE, Editor, RequestFailed, insertion, stop_daemon

# Three that the embedded model never saw, or else three of the standard library.
SOURCES = (("boltons.iterutils", "argparse"), ("toolz.itertoolz", "textwrap"), ("more_itertools.recipes", "heapq"))
SEED, MEDIAN_GAP, SPREAD, REST = 7, 0.16, 0.5, 0.8
LEAST_LINE = 12  # characters of a line that is worth typing


@dataclass
class Tally:
    """What came of the requests; times in milliseconds."""

    answered: list[float] = field(default_factory=list)  # key to items
    silent: list[float] = field(default_factory=list)  # key to null
    cancelled: int = 0

    @property
    def requests(self) -> int:
        return len(self.answered) + len(self.silent) + self.cancelled


def source(names: tuple[str, ...]) -> str:
    """The text of the first module that is installed."""
    for name in names:
        try:
            found = importlib.util.find_spec(name)
        except ImportError:
            continue
        if found is not None and found.origin:
            return Path(found.origin).read_text(encoding="utf-8")
    raise SystemExit(f"none of {', '.join(names)} is installed")


def lines_to_type(text: str, count: int) -> list[int]:
    """Lines of code spread over a file."""
    lines = text.splitlines()
    worth = [
        n for n, line in enumerate(lines) if len(line.strip()) >= LEAST_LINE and line[:1] == " " and "#" not in line
    ]
    return [worth[(2 * n + 1) * len(worth) // (2 * count)] for n in range(count)]


def type_file(editor: Editor, uri: str, text: str, count: int, rng: random.Random, tally: Tally) -> None:
    """Take lines out of a file one after the other, and type each back."""
    editor.open(uri, text)
    version, lines = 1, text.splitlines()
    waiting: list[tuple[int, Future[Any]]] = []
    for row in lines_to_type(text, count):
        line = lines[row]
        indent = len(line) - len(line.lstrip())
        version += 1
        gap = {"start": {"line": row, "character": indent}, "end": {"line": row, "character": len(line)}}
        editor.change(uri, version, {"range": gap, "text": ""})
        for column in range(indent, len(line)):
            version += 1
            editor.change(uri, version, insertion(row, column, line[column]))
            if waiting and not waiting[-1][1].done():
                editor.notify("$/cancelRequest", {"id": waiting[-1][0]})
            waiting.append(ask(editor, uri, row, column + 1, tally))
            time.sleep(min(max(rng.lognormvariate(0, SPREAD) * MEDIAN_GAP, 0.03), 0.6))
        time.sleep(REST)
    wait([answer for _, answer in waiting], PATIENCE)


def ask(editor: Editor, uri: str, row: int, column: int, tally: Tally) -> tuple[int, Future[Any]]:
    """Ask for a suggestion; what comes of it goes to the tally when it comes."""
    started = time.perf_counter()
    number, answer = editor.complete(uri, row, column, invoked=False)

    def done(result: Any) -> None:
        ms = (time.perf_counter() - started) * 1000
        try:
            items = result.result()
        except RequestFailed as error:
            if error.code != -32800:
                raise
            tally.cancelled += 1
            return
        (tally.answered if items else tally.silent).append(ms)

    answer.add_done_callback(done)
    return number, answer


def percentiles(values: list[float]) -> dict[str, float | None]:
    """p50, p95 and p99, nearest rank."""
    ordered = sorted(values)
    at = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None for name, share in RANKS}
    return {name: None if value is None else round(value, 1) for name, value in at.items()}


RANKS = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


async def daemon_status() -> dict[str, Any]:
    """What the daemon says of itself: how many answers came from where."""
    from model_runtime.client import connect

    async with await connect(start=False) as client:
        return await client.status()


def cold_start(environment: dict[str, str]) -> tuple[float, float, float]:
    """Seconds until `initialize` is answered, and until the first suggestion, of a server without a daemon; and a
    second server's `initialize`, the files read before."""
    started = time.perf_counter()
    editor = Editor("vscode", environment)
    initialized = time.perf_counter() - started
    editor.open("file:///bench/cold.py", "def add(left, right):\n    return \n")
    editor.complete("file:///bench/cold.py", 1, 11)[1].result(PATIENCE)
    first = time.perf_counter() - started
    editor.leave()
    started = time.perf_counter()
    again = Editor("vscode", environment)
    warm = time.perf_counter() - started
    again.leave()
    return initialized, first, warm


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=4, help="lines typed in each file (4)")
    count = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DIFFILL_RUNTIME_DIR"] = str(Path(folder) / "runtime")
        environment = dict(os.environ)
        try:
            report(*measure(environment, count))
        finally:
            stop_daemon(environment)


def measure(environment: dict[str, str], count: int) -> tuple[tuple[float, float, float], Tally, list[float], dict]:
    """Type the three files; the cold start, what came of the requests, the latencies without debounce, the daemon."""
    cold = cold_start(environment)
    before = asyncio.run(daemon_status())["answered"]
    editor, tally, rng = Editor("vscode", environment), Tally(), random.Random(SEED)
    for number, names in enumerate(SOURCES):
        type_file(editor, f"file:///bench/{number}.py", source(names), count, rng, tally)
    told = [status["lastLatencyMs"] for status in editor.all_heard("diffill/didChangeStatus")]
    after = asyncio.run(daemon_status())["answered"]
    editor.leave()
    bare = [one for n, one in enumerate(told) if one is not None and (n == 0 or one != told[n - 1])]
    return cold, tally, bare, {name: after[name] - before[name] for name in after}


def report(cold: tuple[float, float, float], tally: Tally, bare: list[float], daemon: dict[str, int]) -> None:
    """Print the figures for people, and for machines on the last line."""
    answers = daemon["model"] + daemon["cache"]
    figures = {
        "benchmark": "lsp",
        "requests": tally.requests,
        "suggestion_ms": percentiles(tally.answered),
        "without_debounce_ms": percentiles(bare),
        "share_suggested": round(len(tally.answered) / max(1, tally.requests), 3),
        "share_cancelled": round(tally.cancelled / max(1, tally.requests), 3),
        "share_from_cache": round(daemon["cache"] / max(1, answers), 3),
        "initialize_s": round(cold[0], 2),
        "initialize_again_s": round(cold[2], 2),
        "cold_first_answer_s": round(cold[1], 2),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "machine": platform.machine(),
        "commit": commit(),
    }
    for name, value in figures.items():
        print(f"{name:<22}{value}")
    print(json.dumps(figures))


def commit() -> str | None:
    """The commit that was measured."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return done.stdout.strip() or None


if __name__ == "__main__":
    main()
