"""`make load`: one to thirty-two people who write at the same time, against a real `diffill serve` with named tokens.

Everyone has a file of the standard library, a token and a connection. They take out a line and type it back word by
word, with gaps between the keys as people leave them (median 160 ms). A key after which nothing is typed for 100 ms
asks for a suggestion, as the language server does, and the next one supersedes it. At a word's end they look at what
comes, then think (1.5 s on average; 6 s at a line's end; exponential). All is drawn once from a seed, and on loopback.

Prints a table, and one JSON line last. Milliseconds are what people wait at the ends of words, from asking to the
answer; "kept" is the share of those that came from memory, "fresh" are the others; "late" are answers that 2 s cut off.
Options behind `--` go to `diffill serve`. It takes under five minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import math
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_runtime.client import Client, connect
from model_runtime.daemon import accounts
from model_runtime.daemon.compat.metrics import resident
from model_runtime.daemon.discovery import RUNTIME_FILE
from model_runtime.protocol import DiffillError, FillRequest, FillResult
from model_runtime.remote import remote_of

FILES = (
    *("argparse", "textwrap", "heapq", "shlex", "tarfile", "zipfile"),
    *("configparser", "mailbox", "optparse", "pathlib", "pdb", "statistics"),
)
SEED, MEDIAN_GAP, SPREAD, PAUSE = 7, 0.16, 0.5, 0.1
WORD_REST, LINE_REST, MOST_REST = 1.5, 6.0, 20.0
LINES, LEAST_LINE, WARM_S = 300, 12, 3.0
WORD = re.compile(r"\w+\W*")
OPTIONS: dict[str, Any] = {"max_lines": 1, "max_tokens": 32, "deadline_ms": 2000.0, "language": "python"}
LONGER = {1: 2.0, 2: 1.5}  # few people are watched for longer
HEAD = (
    "users  asked  superseded  answered/s  waits   p50 ms   p95 ms  kept  fresh p50  fresh p95  late  errors  memory MB"
)


@dataclass
class Tally:
    """What came of one level's requests; times in milliseconds."""

    waited: list[float] = field(default_factory=list)  # at the ends of words
    fresh: list[float] = field(default_factory=list)  # of those, not from memory
    ends: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    counting: bool = False

    def took(self, milliseconds: float, result: FillResult, looks: bool) -> None:
        """Count an answer, for which somebody looks or which is soon superseded."""
        if self.counting:
            self.ends[result.end] += 1
            if looks:
                self.waited.append(milliseconds)
                if result.timing_ms["total"] or result.end == "deadline":
                    self.fresh.append(milliseconds)

    def failed(self, error: Exception) -> None:
        """Count a request that failed."""
        if self.counting:
            self.errors[f"{type(error).__name__} {getattr(error, 'code', '')}".strip()] += 1


def share(values: list[float], part: float) -> float:
    """The value below which a part of all values lies; 0 without any."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)], 1) if ordered else 0.0


def source(number: int) -> list[str]:
    """The lines of a user's file, an own beginning before them."""
    found = importlib.util.find_spec(FILES[number % len(FILES)])
    assert found is not None
    assert found.origin is not None
    text = Path(found.origin).read_text(encoding="utf-8").splitlines()
    start = min(number // len(FILES) * LINES, max(0, len(text) - LINES))
    return [f"# the file of user {number}", *text[start : start + LINES]]


async def write(number: int, client: Client, tally: Tally, until: float) -> None:
    """One person: types lines back word by word, looks, thinks."""
    rng, lines = random.Random(SEED + number), source(number)
    worth = [n for n, line in enumerate(lines) if len(line.strip()) >= LEAST_LINE]
    asked: set[asyncio.Task[None]] = set()

    async def ask(before: str, after: str, looks: bool) -> None:
        request = FillRequest(text=before + after, holes=[(len(before),) * 2], path=f"user{number}.py", **OPTIONS)
        began = time.perf_counter()
        try:
            result = await client.fill(request, session="file")
        except DiffillError as error:
            tally.failed(error)
        else:
            tally.took((time.perf_counter() - began) * 1000, result, looks)

    async def rest(mean: float) -> None:
        await asyncio.sleep(min(rng.expovariate(1 / mean), MOST_REST, max(0.0, until - time.perf_counter())))

    await asyncio.sleep(rng.uniform(0, 2))  # they do not begin as one
    while time.perf_counter() < until:
        at = rng.choice(worth)
        line, after = lines[at], "\n" + "\n".join(lines[at + 1 :])
        head = "\n".join([*lines[:at], ""])
        ends = {found.end() for found in WORD.finditer(line)}
        for end in range(len(line) - len(line.lstrip()) + 1, len(line) + 1):
            if time.perf_counter() > until:
                break
            gap = MEDIAN_GAP * math.exp(rng.gauss(0, SPREAD))
            await asyncio.sleep(PAUSE if end in ends else min(gap, PAUSE))
            if end in ends:
                await ask(head + line[:end], after, looks=True)
                await rest(WORD_REST)
            elif gap > PAUSE:
                task = asyncio.create_task(ask(head + line[:end], after, looks=False))
                asked.add(task)
                task.add_done_callback(asked.discard)
                await asyncio.sleep(gap - PAUSE)
        await rest(LINE_REST)
    await asyncio.gather(*asked)


async def level(users: int, address: str, tokens: list[str], seconds: float, owner: Client) -> dict[str, Any]:
    """So many people for so many seconds."""
    tally, seconds = Tally(), seconds * LONGER.get(users, 1.0)
    clients = [await connect(server=remote_of(address, token)) for token in tokens[:users]]
    before = await memory(owner)
    until = time.perf_counter() + WARM_S + seconds
    people = [asyncio.create_task(write(n, client, tally, until)) for n, client in enumerate(clients)]
    await asyncio.sleep(WARM_S)
    tally.counting = True
    await asyncio.gather(*people)
    after = await memory(owner)
    for client in clients:
        await client.close()
    asked = sum(tally.ends.values()) + sum(tally.errors.values())
    return {
        "users": users,
        "asked": asked,
        "superseded": round(tally.ends["superseded"] / max(1, asked), 3),
        "answered_per_s": round((asked - tally.ends["superseded"]) / seconds, 2),
        "waits": len(tally.waited),
        "p50_ms": share(tally.waited, 0.5),
        "p95_ms": share(tally.waited, 0.95),
        "kept": round(1 - len(tally.fresh) / max(1, len(tally.waited)), 3),
        "fresh_p50_ms": share(tally.fresh, 0.5),
        "fresh_p95_ms": share(tally.fresh, 0.95),
        "deadline": tally.ends["deadline"],
        "errors": dict(tally.errors),
        "daemon_mb": round(after[0] / 1e6, 1),
        "worker_mb": round(after[1] / 1e6, 1),
        "growth_mb": round((sum(after) - sum(before)) / 1e6, 1),
    }


async def memory(owner: Client) -> tuple[int, int]:
    """Resident bytes of the daemon and of the model's process."""
    status = await owner.status()
    return resident(status["pid"]) or 0, resident(status["worker"]["pid"]) or 0


def row(one: dict[str, Any]) -> str:
    """A level as the table has it."""
    numbers = (
        f"{one['users']:5}  {one['asked']:5}  {one['superseded']:10.0%}  {one['answered_per_s']:10.2f}",
        f"{one['waits']:5}  {one['p50_ms']:7.1f}  {one['p95_ms']:7.1f}  {one['kept']:4.0%}",
        f"{one['fresh_p50_ms']:9.1f}  {one['fresh_p95_ms']:9.1f}  {one['deadline']:4}  {sum(one['errors'].values()):6}",
        f"{one['daemon_mb'] + one['worker_mb']:.0f} ({one['growth_mb']:+.0f})",
    )
    return "  ".join(numbers)


async def measure(
    address: str, token: str, tokens: list[str], users: list[int], seconds: float
) -> list[dict[str, Any]]:
    """All levels, one after the other, each printed as it is done."""
    found = []
    async with await connect(server=remote_of(address, token)) as owner:
        await owner.load()
        print(HEAD)
        for count in users:
            found.append(await level(count, address, tokens, seconds, owner))
            print(row(found[-1]), flush=True)
    return found


@contextmanager
def serving(options: list[str], users: int) -> Iterator[tuple[str, str, list[str]]]:
    """A server of its own: its address, its owner's token, and named tokens."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIFFILL_")}
    with tempfile.TemporaryDirectory(prefix="diffill-load-") as name:
        folder = Path(name)
        tokens = [accounts.create(folder / "tokens.json", f"user{n}") for n in range(users)]
        command = [sys.executable, "-m", "model_runtime", "serve", "--ready", "--tokens", str(folder / "tokens.json")]
        process = subprocess.Popen(
            [*command, *options],
            env={**environment, "DIFFILL_RUNTIME_DIR": str(folder / "runtime")},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            said = process.stdout.readline().strip()
            if said != "ready":
                raise SystemExit(said or "diffill serve did not start")
            found = json.loads((folder / "runtime" / RUNTIME_FILE).read_text())
            yield f"ws://127.0.0.1:{found['port']}", found["token"], tokens
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", default="1,2,4,8,16,32", help="how many, level by level (default: 1,2,4,8,16,32)")
    parser.add_argument("--seconds", type=float, default=30.0, help="a level (default: 30)")
    parser.add_argument("serve", nargs="*", metavar="OPTION", help="for diffill serve, behind --")
    args = parser.parse_args()
    users = [int(count) for count in args.users.split(",")]
    with serving(args.serve, max(users)) as (address, token, tokens):
        levels = asyncio.run(measure(address, token, tokens, users, args.seconds))
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    print(json.dumps({"load": levels, "seconds": args.seconds, "serve": args.serve, **machine}))
    return int(any(one["errors"] for one in levels))


if __name__ == "__main__":
    sys.exit(main())
