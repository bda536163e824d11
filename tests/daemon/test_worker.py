"""The worker as a process: cancels between steps, crashes, and what it must not do to the daemon."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import pytest
from serving import fake_process, run

from model_runtime.daemon.messages import RpcError
from model_runtime.daemon.process import WorkerProcess
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.protocol import FillRequest, ModelError, RequestError, RewriteRequest


def request(text="x", **options):
    return FillRequest(text=text, holes=[(0, 0)], **options)


def scene(play):
    """Run a scene with a scheduler whose worker is a process, and end that worker."""

    async def whole():
        scheduler = Scheduler(make_worker=fake_process)
        try:
            await play(scheduler)
        finally:
            await scheduler.close()

    run(whole())


def test_fills_rewrites_and_frames():
    async def play(scheduler):
        frames = []
        job = scheduler.submit(request(frames=True), (1, None), on_frame=frames.append)
        assert (await job.answer).holes[0].text == "ok"
        assert [frame["holes"][0]["text"] for frame in frames] == ["o░", "ok"]
        rewritten = await scheduler.submit(RewriteRequest(text="ab", range=(0, 2)), (1, None)).answer
        assert (rewritten.holes[0].start, rewritten.holes[0].end) == (0, 2)

    scene(play)


def test_a_draft_reaches_the_model():
    async def whole():
        scheduler = Scheduler(make_worker=fake_process, drafts=True)
        try:
            assert (await scheduler.submit(request("x"), (1, None)).answer).holes[0].text == "ok"
            typed = FillRequest(text="nx", holes=[(1, 1)])
            assert (await scheduler.submit(typed, (1, None)).answer).holes[0].text == "<k>"
        finally:
            await scheduler.close()

    run(whole())


def test_a_cancel_stops_the_model_in_the_step_that_it_is_in():
    async def play(scheduler):
        stepped = asyncio.Event()
        job = scheduler.submit(request("hold", frames=True), (1, None), on_frame=lambda frame: stepped.set())
        await stepped.wait()
        scheduler.cancel(job)
        assert (await scheduler.submit(request("next"), (1, None)).answer).end == "complete"
        assert job.answer.cancelled()

    scene(play)


def test_what_a_superseded_fill_had_done_when_it_stopped():
    async def play(scheduler):
        stepped = asyncio.Event()
        scheduler.submit(request("hold", frames=True), (1, "s"), on_frame=lambda frame: stepped.set())
        await stepped.wait()
        last = []
        waiting = scheduler.submit(request("next"), (1, "s"), on_frame=lambda _: last.append(scheduler.last))
        await waiting.answer
        assert last[0]["end"] == "cancelled"
        assert last[0]["steps"] == 1

    scene(play)


@pytest.mark.parametrize(("text", "how"), [("crash", "exit code 3"), ("memory", "out of memory")])
def test_a_worker_that_dies_is_replaced(text, how):
    async def play(scheduler):
        ready = asyncio.Event()
        await scheduler.submit(request("fine"), (1, None)).answer
        first = scheduler.status()["worker"]["pid"]
        scheduler.on_progress = lambda progress: ready.set() if progress.state == "ready" else None
        jobs = [scheduler.submit(request(text), (1, None)), scheduler.submit(request("waits"), (2, None))]
        for job in jobs:
            with pytest.raises(RpcError, match=how):
                await job.answer
        await ready.wait()  # it is started again without being asked
        assert (await scheduler.submit(request("after"), (1, None)).answer).end == "complete"
        assert scheduler.status()["worker"]["pid"] != first
        assert scheduler.status()["worker"]["crashes"] == 1

    scene(play)


def test_a_killed_worker_is_told_by_its_signal():
    async def play(scheduler):
        stepped = asyncio.Event()
        job = scheduler.submit(request("hold", frames=True), (1, None), on_frame=lambda frame: stepped.set())
        await stepped.wait()
        os.kill(scheduler.status()["worker"]["pid"], signal.SIGKILL)
        with pytest.raises(RpcError, match="signal 9"):
            await job.answer

    scene(play)


def test_a_model_that_kills_its_worker_is_given_up_after_three_restarts():
    async def play(scheduler):
        for _ in range(4):
            with pytest.raises(RpcError, match="exit code 4"):
                await scheduler.submit(request(), (1, None), "deadly").answer
        with pytest.raises(RpcError, match="died 4 times"):
            await scheduler.submit(request(), (1, None)).answer

    scene(play)


def test_errors_of_the_model_leave_the_worker_alive_and_no_text_in_the_log(caplog):
    async def play(scheduler):
        with pytest.raises(ModelError, match="nonesuch"):
            await scheduler.load("nonesuch")
        with pytest.raises(RpcError, match="KeyError in stream") as caught:
            await scheduler.submit(request("bug hunter2"), (1, None)).answer
        assert "hunter2" not in str(caught.value)
        with pytest.raises(RequestError):
            await scheduler.submit(request(length="never checked", temperature="hot"), (1, None)).answer
        assert (await scheduler.submit(request(), (1, None)).answer).end == "complete"
        assert scheduler.status()["worker"]["crashes"] == 0

    caplog.set_level(logging.DEBUG)
    scene(play)
    assert "the model failed: KeyError" in caplog.text
    assert "hunter2" not in caplog.text


ANOTHER_VERSION = """
import sys
from model_runtime.daemon.pipe import pack, receive_one
while (told := receive_one(sys.stdin.buffer)) is not None:
    say = {"loaded": 1.0} if told["do"] == "load" else ANSWER
    sys.stdout.buffer.write(pack({"job": told["job"], **say}))
    sys.stdout.buffer.flush()
"""


@pytest.mark.parametrize("answer", ['{"result": {"what": "we do not know"}}', '{"answer": "ok"}'])
def test_a_worker_that_speaks_otherwise_has_died_and_nobody_waits_for_it(answer):
    """Of another version: the package was replaced while the daemon ran."""

    async def whole():
        script = ANOTHER_VERSION.replace("ANSWER", answer)
        scheduler = Scheduler(make_worker=lambda: WorkerProcess((sys.executable, "-c", script)))
        try:
            with pytest.raises(RpcError, match="the model process died"):
                await scheduler.submit(request(), (1, None)).answer
        finally:
            await scheduler.close()

    run(whole(), 20.0)


def test_unloading_ends_the_process():
    async def play(scheduler):
        await scheduler.load()
        pid = scheduler.status()["worker"]["pid"]
        await scheduler.unload()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert scheduler.status()["model"]["state"] == "unloaded"

    scene(play)


def test_a_worker_that_cannot_be_started():
    async def play():
        scheduler = Scheduler(make_worker=lambda: WorkerProcess(("/nonexistent/python",)))
        with pytest.raises(RpcError, match="cannot be started"):
            await scheduler.submit(request(), (1, None)).answer
        await scheduler.close()

    run(play())


def test_the_worker_ends_when_its_daemon_does():
    async def play():
        worker, ended = fake_process(), asyncio.Event()
        await worker.start(lambda message: None, lambda code: ended.set())
        worker._process.stdin.close()  # as the system does for a daemon that was killed
        await ended.wait()

    run(play())
