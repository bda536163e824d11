"""Faults and load for minutes, with figures: `python tests/soak/soak.py` (under fifteen minutes; --quick: one or two).

- A storm: 200 requests a second, each superseding the last, on the fake model: every one is answered exactly once.
- 10,000 fills on the fake model and 2,000 on the embedded one: how much the memory of every process grows.
- How long `status` takes while a fill runs; how much memory unloading gives back; how often what is left of a kept
  fill that was typed through is what a fresh fill would say.
- Abuse: malformed and oversize frames, wrong tokens, foreign origins, half-open connections, a reader who never reads,
  clients that die. Nothing of it may stay behind.
- Faults: the daemon killed in the middle of a fill, the model out of memory, two language servers at once, a runtime
  directory that is read-only or full.

The last line is JSON. The exit code is 1 if something was not as it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "daemon"))
sys.path.insert(0, str(Path(__file__).parents[1] / "lsp"))

import abuse
import faults
import load

from model_runtime.client import connect

STATUS_MS, GROWTH, RECOVERY_S = 50.0, 0.05, 5.0
Figures = dict[str, dict[str, Any]]


def note(figures: Figures, name: str, values: dict[str, Any]) -> None:
    """Keep what was measured, and print it: the whole takes minutes."""
    figures[name] = values
    print(f"{name}: {values}", flush=True)


async def under_load(figures: Figures, quick: bool) -> None:
    """Load and abuse, one after the other."""
    note(figures, "storm", await load.storm(6 if quick else 60))
    note(figures, "fake", await load.fake_fills(1000 if quick else 10_000))
    async with await connect() as client:
        note(figures, "memory", await load.given_back(client))
        await client.load()
        note(figures, "status", await load.status_times(client, 100 if quick else 500))
        note(figures, "typed_through", await load.typed_through(client, 20 if quick else 50))
        note(figures, "embedded", await load.real_fills(client, 100 if quick else 2000))
        note(figures, "abuse", await abuse.bear(client, quick))
        await client.stop()


def with_faults(figures: Figures, quick: bool) -> None:
    """Faults, one after the other."""
    note(figures, "killed_daemon", faults.killed_daemon(2 if quick else 5))
    note(figures, "out_of_memory", faults.out_of_memory(1 if quick else 3))
    note(figures, "two_servers", faults.two_servers(10 if quick else 100))
    note(figures, "runtime_directories", faults.runtime_directories())


def verdicts(figures: Figures) -> list[str]:
    """One sentence for everything that was not as it must be."""
    killed, memory, servers, borne = (
        figures[name] for name in ("killed_daemon", "out_of_memory", "two_servers", "abuse")
    )
    wrong = {
        "a request was not answered exactly once": not figures["storm"]["answered_once"],
        f"status takes more than {STATUS_MS:g} ms": figures["status"]["median_ms"] > STATUS_MS,
        "unloading left the model's process": figures["memory"]["worker_after_mb"] > 0,
        "abuse left something open": borne["descriptors_left"] > 0 or not borne["slow_reader_dropped"],
        "no answer after the daemon was killed": killed["answered"] < killed["rounds"],
        f"more than {RECOVERY_S:g} s until the answer": killed["worst_s"] > RECOVERY_S,
        "an answer came twice or never": not killed["each_answered_once"],
        "no answer after the memory ran out": memory["answered_after"] < memory["rounds"],
        "running out of memory was not told": not all("out of memory" in said for said in memory["said"]),
        "two servers had not one daemon": servers["daemons"] != 1 or servers["answered"] < servers["requests"],
        "a broken runtime directory was not told once": any(
            isinstance(said, dict) and (said["silence"] != "runtime_down" or len(said["told"]) != 1)
            for said in figures["runtime_directories"].values()
        ),
    }
    for name in ("fake", "embedded"):
        wrong[f"memory grew by more than {GROWTH:.0%} ({name})"] = max(figures[name]["growth"]) > GROWTH
    return [sentence for sentence, holds in wrong.items() if holds]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    quick = parser.parse_args().quick
    os.environ.pop("DIFFILL_TOKEN", None)
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="diffill-soak-") as folder:
        Path(folder).chmod(0o700)
        os.environ["DIFFILL_RUNTIME_DIR"] = folder
        asyncio.run(under_load(figures, quick))
    with_faults(figures, quick)
    wrong = verdicts(figures)
    for sentence in wrong:
        print(f"wrong: {sentence}")
    print(json.dumps({"soak": figures, "wrong": wrong}))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
