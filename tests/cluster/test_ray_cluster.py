"""A Ray cluster on this machine, two replicas of the embedded model: what becomes of fills when one dies or goes.

`make cluster-test` installs Ray and runs this; elsewhere it is skipped.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from types import SimpleNamespace

import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed: make cluster-test")
psutil = pytest.importorskip("psutil")

from model_runtime.cluster import deploying, routing  # noqa: E402
from model_runtime.cluster.worker import ClusterWorker, document_of  # noqa: E402
from model_runtime.daemon.scheduler import Scheduler  # noqa: E402
from model_runtime.engine.engine import Engine  # noqa: E402
from model_runtime.protocol import FillRequest, ModelError, RequestError  # noqa: E402

TOGETHER = 4
PLAN = deploying.Plan(least=2, most=2, cpus=0.5, together=TOGETHER)
DONE = ("complete", "empty")  # by itself; the model may have nothing to add
NAMES = ("area", "width", "height", "total", "count", "price", "items", "store", "index", "value", "first", "other")


def request(number: int, **options) -> FillRequest:
    """A small fill; every third is of the same document."""
    name = NAMES[number % len(NAMES)]
    text = f"def get_{name}(self, {name}):\n    return \n\n\nprint(get_{name}({number}))\n"
    at = text.index("return ") + len("return ")
    path = f"/project/file{number % 3}.py"
    return FillRequest(text=text, holes=[(at, at)], max_lines=1, max_tokens=12, path=path, cache="off", **options)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The model on a cluster of this process's own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        "local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=80 << 20,
        namespace=deploying.APP,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        deploying.deploy(PLAN)
        yield
    finally:
        ray.shutdown()


def scene(play):
    """Run a scene with a scheduler whose fills go to the cluster."""

    async def whole():
        scheduler = Scheduler(make_worker=lambda: ClusterWorker("auto"), together=64)
        try:
            await asyncio.wait_for(play(scheduler), 240)  # what hangs fails; busy machines are slow
        finally:
            await scheduler.close()

    asyncio.run(whole())


def replicas() -> list[int]:
    """The processes of the replicas that live."""
    found = []
    for process in psutil.Process().children(recursive=True):
        if process.is_running() and any("ServeReplica:diffill:model" in part for part in process.cmdline()):
            found.append(process.pid)
    return found


async def answers(jobs) -> list:
    """What the fills are, without their times."""
    return [(one.holes, one.end, one.steps) for one in await asyncio.gather(*(job.answer for job in jobs))]


def test_no_fill_is_lost_with_a_replica_and_answers_are_those_of_one_process(cluster):
    engine = Engine.load("embedded", threads=1, together=TOGETHER)
    alone = [engine.fill(request(n)) for n in range(len(NAMES))]

    async def play(scheduler):
        jobs = [scheduler.submit(request(n), (n, None)) for n in range(len(NAMES))]
        await asyncio.wait([job.answer for job in jobs], return_when=asyncio.FIRST_COMPLETED)
        os.kill(replicas()[0], signal.SIGKILL)
        got = await answers(jobs)
        assert [(holes, end) for holes, end, _ in got] == [(one.holes, one.end) for one in alone]

    scene(play)


def test_a_cancel_a_deadline_and_frames_reach_the_replicas(cluster):
    async def play(scheduler):
        frames = []
        framed = scheduler.submit(request(1, frames=True), (1, None), on_frame=frames.append)
        assert (await framed.answer).end in DONE
        assert len(frames) == (await framed.answer).steps
        late = scheduler.submit(request(2, deadline_ms=1.0), (2, None))
        assert (await late.answer).end == "deadline"
        jobs = [scheduler.submit(request(n), (n, None)) for n in range(3)]
        scheduler.cancel(jobs[1])
        assert {(await jobs[n].answer).end for n in (0, 2)} <= set(DONE)
        assert jobs[1].answer.cancelled()
        with pytest.raises(RequestError):
            await scheduler.submit(request(1, length="fixed:x"), (1, None)).answer

    scene(play)


def test_a_model_is_replaced_while_fills_run_and_none_is_lost(cluster):
    async def play(scheduler):
        before = set(replicas())
        rolling = asyncio.create_task(asyncio.to_thread(deploying.deploy, dataclasses.replace(PLAN, keep_context=8.0)))
        served = 0
        while not rolling.done():
            jobs = [scheduler.submit(request(n), (n, None)) for n in range(2)]
            assert all(end in DONE for _, end, _ in await answers(jobs))
            served += len(jobs)
        await rolling
        assert served
        assert deploying.state()["replicas"].get("RUNNING") == 2
        assert not before & set(replicas())

    scene(play)


def test_where_nothing_is_deployed(cluster):
    deploying.remove()

    async def play(scheduler):
        with pytest.raises(ModelError, match="diffill cluster deploy"):
            await scheduler.submit(request(1), (1, None)).answer

    scene(play)
    assert deploying.state() == {}


def ranked(document: str, names) -> list[str]:
    """The replicas' names in the order in which they are tried for a document."""
    candidates = [SimpleNamespace(replica_id=name) for name in names]
    choose = routing.ByDocument.choose_replicas(None, candidates, SimpleNamespace(args=[document, "{}"]))
    return [one.replica_id for (one,) in asyncio.run(choose)]


def test_a_document_stays_with_its_replica_when_another_goes():
    names = [f"r{n}" for n in range(5)]
    documents = [str(n) for n in range(200)]
    first = {document: ranked(document, names)[0] for document in documents}
    assert first == {document: ranked(document, names[::-1])[0] for document in documents}
    assert all(list(first.values()).count(name) >= 20 for name in names)  # of 40 each
    for document in documents:
        left = ranked(document, [name for name in names if name != "r2"])[0]
        assert left == first[document] or first[document] == "r2"


def test_requests_of_one_file_are_one_document():
    one, other = (dataclasses.asdict(request(n)) for n in (0, 3))
    assert document_of(one) == document_of(other) != document_of(dataclasses.asdict(request(1)))
    assert document_of(one | {"path": None}) != document_of(other | {"path": None})
