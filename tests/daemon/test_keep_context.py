"""`diffill serve --keep-context`: how much context the worker may keep between keystrokes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from serving import run

from model_runtime.daemon.process import COMMAND, WorkerProcess
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.daemon.worker import load_engine
from model_runtime.protocol import FillRequest

CODE = "def area(width, height):\n    return "


@pytest.mark.parametrize(("mib", "limit"), [(0.0, 0), (0.5, 1 << 19), (64.0, 64 << 20)])
def test_the_worker_gives_its_engine_that_much(mib, limit):
    engine = load_engine("embedded", mib)
    engine.fill(FillRequest(text=CODE, holes=[(len(CODE), len(CODE))], length="fixed:2"))
    assert engine.kept.limit == limit
    assert (engine.kept.bytes > 0) == (limit > 0)


def test_typing_gets_the_same_answers_with_and_without():
    """Through the real worker: every key of a line is a request, and nothing is answered from memory."""

    async def typing(mib):
        scheduler = Scheduler(make_worker=lambda: WorkerProcess((*COMMAND, "--keep-context", mib)))
        answers = []
        try:
            for key in range(6):
                text = CODE + "width "[:key] + "\n\nprint(area(2, 3))\n"
                hole = len(CODE) + key
                request = FillRequest(text=text, holes=[(hole, hole)], max_lines=1, max_tokens=8, seed=key)
                answers.append(dataclasses.replace(await scheduler.submit(request, (1, None)).answer, timing_ms={}))
            assert scheduler.answered["model"] == 6
        finally:
            await scheduler.close()
        return answers

    assert run(typing("64")) == run(typing("0"))


@pytest.mark.parametrize("mib", ["-1", "9e9"])
def test_a_bound_out_of_range_is_refused(mib, tmp_path):
    command = [sys.executable, "-m", "model_runtime", "serve", "--keep-context", mib]
    done = subprocess.run(
        command, env={"DIFFILL_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "--keep-context lies between 0 and 1048576 MiB" in done.stderr
