"""What is cancelled or fails on the way to a cluster is answered all the same; needs no Ray."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from model_runtime.cluster import worker as cluster_worker
from model_runtime.cluster.worker import ClusterWorker
from model_runtime.daemon.messages import RpcError
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.daemon.validation import from_json
from model_runtime.protocol import FillRequest, FillResult, RewriteRequest


class Unready(ClusterWorker):
    """Joins no cluster, and its replicas never answer."""

    async def _load(self, number):
        self._say({"job": number, "loaded": 0.0})

    async def _ask(self, number, message):
        await asyncio.Event().wait()


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("do", "request_"),
    [("fill", FillRequest(text="ab", holes=[(1, 1)])), ("rewrite", RewriteRequest(text="ab", range=(0, 2)))],
)
def test_a_cancelled_job_is_answered_once(do, request_, begun, monkeypatch):
    monkeypatch.setattr(cluster_worker, "lost", lambda: ())  # the errors are Ray's
    said = []

    async def play():
        worker = Unready("auto")
        await worker.start(said.append, lambda code: None)
        worker.send({"do": do, "job": 1, "request": dataclasses.asdict(request_), "draft": ""})
        if begun:
            await asyncio.sleep(0)  # a turn of the loop: the task has begun
        worker.send({"do": "cancel", "job": 1})
        await worker.stop()

    asyncio.run(play())
    (message,) = said
    assert message["job"] == 1
    result = from_json(FillResult, message["result"], "result")
    assert (result.end, [one.text for one in result.holes]) == ("cancelled", [""])


def test_a_fill_that_is_cancelled_at_once_leaves_its_place_to_the_next():
    async def play():
        scheduler = Scheduler(make_worker=lambda: Unready("auto"), together=1)
        try:
            await scheduler.load()
            job = scheduler.submit(FillRequest(text="ab", holes=[(1, 1)]), (1, None))
            scheduler.cancel(job)
            while scheduler.status()["queue"]["running"]:
                await asyncio.sleep(0)
        finally:
            await scheduler.close()

    asyncio.run(asyncio.wait_for(play(), 30))


def test_what_fails_in_a_way_that_nobody_foresaw_is_answered(monkeypatch):
    def find(address):
        raise OSError("the disk of the cluster is full")

    monkeypatch.setattr(cluster_worker, "find", find)

    async def play():
        scheduler = Scheduler(make_worker=lambda: ClusterWorker("auto"))
        try:
            with pytest.raises(RpcError, match="the fill failed: OSError"):
                await scheduler.submit(FillRequest(text="ab", holes=[(1, 1)]), (1, None)).answer
        finally:
            await scheduler.close()

    asyncio.run(asyncio.wait_for(play(), 30))
