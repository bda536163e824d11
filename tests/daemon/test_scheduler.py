"""Who gets the model, and what becomes of the others: a worker that answers when the test says so."""

from __future__ import annotations

import asyncio

import pytest
from fake_worker import result_for
from puppet import PuppetWorker
from serving import run

from model_runtime.daemon.messages import RpcError
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.protocol import FillRequest, ModelError, RewriteRequest, to_json


def request(text="x", **options):
    return FillRequest(text=text, holes=[(0, 0)], **options)


async def ready(**options) -> tuple[Scheduler, PuppetWorker]:
    """A scheduler whose model is loaded."""
    scheduler = Scheduler(make_worker=PuppetWorker, **options)
    loading = scheduler.load()
    await turn()
    PuppetWorker.made[-1].load()
    await loading
    return scheduler, PuppetWorker.made[-1]


async def turn():
    """Let what was made ready run."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_newer_request_of_a_session_supersedes_the_older_one_waiting_or_running():
    async def scene():
        scheduler, worker = await ready()
        running = scheduler.submit(request("one"), (1, "s"))
        second = scheduler.submit(request("two"), (1, "s"))
        assert (await running.answer).end == "superseded"
        assert worker.told[-1] == {"do": "cancel", "job": running.number}
        third = scheduler.submit(request("three"), (1, "s"))
        other = scheduler.submit(request("other"), (2, "s"))
        result = await second.answer
        assert (result.end, [hole.text for hole in result.holes], result.steps) == ("superseded", [""], 0)
        assert worker.fills() == ["one"]  # the model is still in the step of the first
        worker.finish(end="cancelled")
        assert worker.fills() == ["one", "three"]
        worker.finish()
        worker.finish()
        assert ((await third.answer).end, (await other.answer).end) == ("complete", "complete")
        assert scheduler.answered["superseded"] == 2

    run(scene())


def test_without_a_session_nothing_is_superseded():
    async def scene():
        scheduler, worker = await ready()
        jobs = [scheduler.submit(request(str(n)), (1, None)) for n in range(3)]
        for _ in jobs:
            worker.finish()
        assert [(await job.answer).end for job in jobs] == ["complete"] * 3

    run(scene())


def test_a_hundred_requests_that_supersede_each_other_are_answered_once_each():
    async def scene():
        scheduler, worker = await ready()
        jobs = [scheduler.submit(request(str(n)), (1, "s")) for n in range(100)]
        worker.finish(end="cancelled")
        worker.finish()
        assert [(await job.answer).end for job in jobs] == ["superseded"] * 99 + ["complete"]
        assert worker.fills() == ["0", "99"]

    run(scene())


def test_sessions_take_turns():
    async def scene():
        scheduler, worker = await ready()
        for text in ("a1", "a2", "a3"):
            scheduler.submit(request(text), (1, None))
        scheduler.submit(request("b1"), (2, None))
        scheduler.submit(request("b2"), (2, None))
        scheduler.submit(request("c1"), (2, "file"))
        for _ in range(6):
            worker.finish()
        assert worker.fills() == ["a1", "a2", "b1", "c1", "a3", "b2"]

    run(scene())


def test_who_shares_a_turn_waits_together():
    async def scene():
        scheduler, worker = await ready()
        for text, connection in (("a1", 1), ("a2", 2), ("a3", 3)):
            scheduler.submit(request(text), (connection, "file"), turn="ann")
        scheduler.submit(request("b1"), (4, "file"), turn="bob")
        scheduler.submit(request("c1"), (5, "file"))
        for _ in range(5):
            worker.finish()
        assert worker.fills() == ["a1", "a2", "b1", "c1", "a3"]

    run(scene())


def test_a_cancel_reaches_the_worker_at_once_and_what_waits_never_runs():
    async def scene():
        scheduler, worker = await ready()
        running, waiting = (scheduler.submit(request(text), (1, None)) for text in ("one", "two"))
        scheduler.cancel(waiting)
        scheduler.cancel(running)
        scheduler.cancel(running)
        assert worker.told[-1] == {"do": "cancel", "job": running.number}
        assert running.answer.cancelled()
        assert waiting.answer.cancelled()
        worker.finish(end="cancelled")
        assert worker.fills() == ["one"]
        assert scheduler.status()["queue"] == {"waiting": 0, "running": 0}
        assert scheduler.answered["cancelled"] == 2

    run(scene())


def test_a_connection_that_is_gone_takes_its_requests_along():
    async def scene():
        scheduler, worker = await ready()
        gone = [scheduler.submit(request(text), (1, None)) for text in ("one", "two")]
        stays = scheduler.submit(request("three"), (2, None))
        scheduler.forget(1)
        assert all(job.answer.cancelled() for job in gone)
        worker.finish(end="cancelled")
        worker.finish()
        assert (await stays.answer).end == "complete"
        assert worker.fills() == ["one", "three"]

    run(scene())


def test_the_deadline_counts_from_the_arrival():
    async def scene():
        scheduler, worker = await ready()
        blocking = scheduler.submit(request("one"), (1, None))
        late = scheduler.submit(request("late", deadline_ms=1.0), (1, None))
        patient = scheduler.submit(request("patient", deadline_ms=60_000.0), (1, None))
        result = await late.answer
        assert (result.end, result.holes[0].text) == ("deadline", "")
        worker.finish()
        assert (await blocking.answer).end == "complete"
        assert worker.fills() == ["one", "patient"]
        assert 0 < worker.told[-1]["request"]["deadline_ms"] < 60_000.0
        worker.finish()
        assert (await patient.answer).end == "complete"

    run(scene())


def test_a_deadline_that_is_over_while_the_model_loads():
    async def scene():
        scheduler = Scheduler(make_worker=PuppetWorker)
        job = scheduler.submit(request(deadline_ms=1.0), (1, None))
        assert (await job.answer).end == "deadline"
        assert scheduler.status()["model"]["state"] == "loading"
        PuppetWorker.made[0].load()  # for the next one
        assert scheduler.status()["model"]["state"] == "ready"

    run(scene())


def test_an_answer_is_kept_and_typed_through():
    async def scene():
        scheduler, worker = await ready()
        first = scheduler.submit(FillRequest(text="ab", holes=[(1, 1)]), (1, "s"))
        worker.finish("width")
        await first.answer
        again = scheduler.submit(FillRequest(text="ab", holes=[(1, 1)]), (1, "s"))
        typed = scheduler.submit(FillRequest(text="awib", holes=[(3, 3)]), (1, "s"))
        assert (await again.answer).holes[0].text == "width"
        assert (await typed.answer).holes[0].text == "dth"
        assert len(worker.fills()) == 1
        contradicted = scheduler.submit(FillRequest(text="awob", holes=[(3, 3)]), (1, "s"))
        assert len(worker.fills()) == 2
        worker.finish()
        await contradicted.answer
        assert scheduler.answered["cache"] == 2

    run(scene())


def test_a_full_queue_refuses():
    async def scene():
        scheduler, worker = await ready(max_waiting=2)
        jobs = [scheduler.submit(request(str(n)), (1, None)) for n in range(4)]
        with pytest.raises(RpcError, match="2 requests wait already"):
            await jobs[3].answer
        for _ in range(3):
            worker.finish()
        assert [(await job.answer).end for job in jobs[:3]] == ["complete"] * 3

    run(scene())


def test_a_crash_answers_everything_pending_and_the_worker_is_started_again_three_times():
    async def scene():
        scheduler, worker = await ready()
        for crash in range(1, 5):
            jobs = [scheduler.submit(request(text), (1, None)) for text in ("one", "two")]
            worker.die(-9)
            for job in jobs:
                with pytest.raises(RpcError, match="the model process died"):
                    await job.answer
            await turn()
            assert scheduler.status()["worker"]["crashes"] == crash
            assert len(PuppetWorker.made) == min(crash + 1, 4)
            if crash < 4:
                worker = PuppetWorker.made[-1]
                worker.load()
        with pytest.raises(RpcError, match="died 4 times in 5 minutes"):
            await scheduler.submit(request(), (1, None)).answer

    run(scene())


def test_a_crash_while_loading_waits_for_the_next_request():
    async def scene():
        scheduler = Scheduler(make_worker=PuppetWorker)
        job = scheduler.submit(request(), (1, None))
        await turn()
        PuppetWorker.made[0].die(1)
        with pytest.raises(RpcError, match="exit code 1"):
            await job.answer
        await turn()
        assert len(PuppetWorker.made) == 1
        scheduler.submit(request(), (1, None))
        await turn()
        assert len(PuppetWorker.made) == 2

    run(scene())


def test_another_model_is_loaded_in_the_place_of_the_first_and_one_that_cannot_be_fails_its_requests_only():
    async def scene():
        scheduler, worker = await ready()
        states = []
        scheduler.on_progress = lambda progress: states.append((progress.model, progress.state))
        here = scheduler.submit(request("here"), (1, None))
        wrong = scheduler.submit(request("wrong"), (2, None), "nonesuch")
        after = scheduler.submit(RewriteRequest(text="after", range=(0, 1)), (3, None))
        worker.finish()
        await here.answer
        assert worker.told[-1]["model"] == "nonesuch"
        worker.say({"job": worker.told[-1]["job"], "error": "model", "message": "there is no such model"})
        with pytest.raises(ModelError, match="no such model"):
            await wrong.answer
        worker.load()
        worker.finish()
        assert (await after.answer).end == "complete"
        told = [("nonesuch", "loading"), ("nonesuch", "failed"), ("embedded", "loading"), ("embedded", "ready")]
        assert states == told

    run(scene())


def test_the_model_is_unloaded_when_idle_and_loaded_again_when_wanted():
    async def scene():
        scheduler = Scheduler(make_worker=PuppetWorker, idle_unload_s=0.001)
        unloaded = asyncio.Event()
        scheduler.on_progress = lambda progress: unloaded.set() if progress.state == "unloaded" else None
        job = scheduler.submit(request(), (1, None))
        await turn()
        PuppetWorker.made[0].load()
        PuppetWorker.made[0].finish()
        await job.answer
        await unloaded.wait()
        assert PuppetWorker.made[0].stopped
        assert scheduler.status()["model"]["state"] == "unloaded"
        scheduler.submit(request("again"), (1, None))
        await turn()
        assert len(PuppetWorker.made) == 2

    run(scene())


def test_a_request_that_comes_as_the_idle_time_ends_is_answered():
    """Between the end of that time and the end of the worker the loop goes round once more."""

    async def scene():
        scheduler, worker = await ready(idle_unload_s=0.0)
        job = scheduler.submit(request("first"), (1, None))
        worker.finish()
        await job.answer
        asked = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.0, lambda: asked.set_result(scheduler.submit(request(), (1, None))))
        late = await asked
        await turn()
        assert not worker.stopped
        worker.finish("late")
        assert (await late.answer).holes[0].text == "late"
        await scheduler.close()

    run(scene(), 10.0)


def test_unload_is_refused_at_work_and_close_answers_what_is_pending():
    async def scene():
        scheduler, worker = await ready()
        job = scheduler.submit(request(), (1, None))
        with pytest.raises(RpcError, match="at work"):
            await scheduler.unload()
        await scheduler.close()
        assert worker.stopped
        for pending in (job, scheduler.submit(request(), (1, None))):
            with pytest.raises(RpcError, match="the daemon is stopping"):
                await pending.answer

    run(scene())


@pytest.mark.parametrize("drafts", [False, True])
def test_what_typing_contradicts_becomes_a_draft_if_that_is_wanted(drafts):
    async def scene():
        scheduler, worker = await ready(drafts=drafts)
        first = scheduler.submit(FillRequest(text="a", holes=[(1, 1)]), (1, None))
        worker.finish("width")
        assert (await first.answer).holes[0].text == "width"
        for text, options in (("ax", {}), ("axy", {"cache": "off"}), ("bx", {})):
            scheduler.submit(FillRequest(text=text, holes=[(len(text), len(text))], **options), (1, None))
            worker.finish()
        assert [told["draft"] for told in worker.told if told["do"] == "fill"][1:] == ["idth" if drafts else "", "", ""]

    run(scene())


def test_several_run_at_once_and_one_cancel_is_told_for_one():
    async def play():
        scheduler, worker = await ready(together=2)
        first, second, third = (scheduler.submit(request(text), (n, None)) for n, text in enumerate("abc"))
        assert worker.fills() == ["a", "b"]
        assert scheduler.status()["queue"] == {"waiting": 1, "running": 2}
        scheduler.cancel(first)
        assert worker.told[-1] == {"do": "cancel", "job": first.number}
        assert worker.fills() == ["a", "b"]  # it runs on to the end of its step
        for job in (second, first):
            worker.say({"job": job.number, "result": to_json(result_for(job.request, "ok"))})
        assert worker.fills() == ["a", "b", "c"]
        assert (await second.answer).holes[0].text == "ok"
        worker.finish()
        assert (await third.answer).end == "complete"
        await scheduler.close()

    run(play())


def test_another_model_waits_until_those_that_run_have_ended():
    async def play():
        scheduler, worker = await ready(together=3)
        first = scheduler.submit(request("a"), (1, None))
        other = scheduler.submit(request("b"), (2, None), "other")
        scheduler.submit(request("c"), (3, None))
        assert worker.fills() == ["a"]  # nobody overtakes the one who waits for another model
        worker.finish()
        await first.answer
        assert worker.told[-1]["model"] == "other"
        worker.load()
        assert worker.fills() == ["a", "b"]
        worker.finish()
        assert (await other.answer).end == "complete"
        await scheduler.close()

    run(play())


def test_a_crash_ends_all_that_ran_together():
    async def play():
        scheduler, worker = await ready(together=2)
        jobs = [scheduler.submit(request(text), (n, None)) for n, text in enumerate("ab")]
        worker.die(3)
        for job in jobs:
            with pytest.raises(RpcError, match="exit code 3"):
                await job.answer
        assert scheduler.status()["queue"]["running"] == 0
        await scheduler.close()

    run(play())
