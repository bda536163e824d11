"""Which request the model works on, and what becomes of the others.

Everything here runs in the event loop and never waits for the model: the worker is told what to do, and its messages
move things on. A job's answer is given at once when it is superseded, cancelled or out of time; the worker, told to
cancel, is free again after the denoising step that it is in. Up to `together` jobs run at once, all with one model.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Hashable
from typing import Any

from model_runtime.daemon.figures import Figures
from model_runtime.daemon.host import Host, error_of
from model_runtime.daemon.jobs import Job, Session, Turns, unserved
from model_runtime.daemon.messages import BUSY, STOPPING, Progress, RpcError
from model_runtime.daemon.process import Worker, WorkerProcess
from model_runtime.daemon.results import Results
from model_runtime.daemon.validation import from_json
from model_runtime.protocol import FillRequest, FillResult, RewriteRequest, to_json

MAX_WAITING = 256
LOG = logging.getLogger("diffill.scheduler")


class Scheduler:
    """The queue, the host of the model, and the answers that are kept."""

    def __init__(
        self,
        model: str = "embedded",
        make_worker: Callable[[], Worker] = WorkerProcess,
        idle_unload_s: float = 600.0,
        results: Results | None = None,
        max_waiting: int = MAX_WAITING,
        drafts: bool = False,
        together: int = 1,
    ):
        self.model = model
        self.results = Results() if results is None else results
        self.on_progress: Callable[[Progress], None] = lambda progress: None
        self.answered = dict.fromkeys(("model", "cache", "superseded", "cancelled", "deadline", "error"), 0)
        self.last: dict[str, Any] | None = None  # how the last fill ended: figures, no text
        self.figures = Figures()
        self.policy: str | None = None  # what "auto" means for the length with the daemon's model, once it was seen
        self._host = Host(self, make_worker, lambda progress: self.on_progress(progress))
        self._idle_unload_s, self._max_waiting, self._drafts = idle_unload_s, max_waiting, drafts
        self._wanted: list[tuple[str, asyncio.Future[float]]] = []  # asked for by `load`
        self._running: dict[int, Job] = {}  # by number
        self._together = together
        self._turns = Turns()
        self._numbers = itertools.count(1)
        self._idle: asyncio.TimerHandle | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(
        self,
        request: FillRequest | RewriteRequest,
        session: Session,
        model: str | None = None,
        on_frame: Callable[[dict[str, Any]], None] | None = None,
        turn: Hashable = None,
    ) -> Job:
        """Take a request in; its answer will be in `job.answer`: a FillResult or one of our errors.

        Jobs of one `turn` share a place in the line; without one, those of a session do.
        """
        loop = asyncio.get_running_loop()
        job = Job(request, model or self.model, session, loop.create_future(), on_frame, next(self._numbers), turn=turn)
        self.figures.watch(job.answer)
        if session[1] is not None:
            for older in [one for one in self._pending() if one.session == session]:
                self._end(older, "superseded", unserved(older, "superseded"))
        if self._closed:
            self._fail(job, RpcError(STOPPING, "the daemon is stopping"))
        elif (kept := self.results.find(job.model, request)) is not None:
            self._end(job, "cache", kept)
        elif len(self._turns) >= self._max_waiting:
            self._fail(job, RpcError(BUSY, f"{self._max_waiting} requests wait already; try again later"))
        else:
            if request.deadline_ms is not None:
                job.until = loop.time() + request.deadline_ms / 1000
                job.timer = loop.call_at(job.until, self._out_of_time, job)
            if self._drafts:
                job.draft = self.results.draft(job.model, request)
            self._turns.add(job)
            self._advance()
        return job

    def cancel(self, job: Job) -> None:
        """Cancel a job's answer, and stop the model if it is at it."""
        self._end(job, "cancelled", None)

    def forget(self, connection: int) -> None:
        """Cancel every job of a connection that is gone."""
        for job in [one for one in self._pending() if one.session[0] == connection]:
            self.cancel(job)

    def load(self, model: str | None = None) -> asyncio.Future[float]:
        """Load a model; the future has the milliseconds that it took, 0 if it was loaded."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(RpcError(STOPPING, "the daemon is stopping"))
        else:
            self._wanted.append((model or self.model, future))
            self._advance()
        return future

    def follows(self, model: str | None = None) -> bool | None:
        """Whether a model that was loaded follows instructions; None where its worker, on a cluster, does not say."""
        return self._host.instructed.get(model or self.model)

    async def unload(self) -> None:
        """End the worker, and with it give the model's memory back; RpcError if it is at work."""
        if self._running or len(self._turns) or self._host.busy:
            raise RpcError(BUSY, "the model is at work; try again when it is done")
        self._wake()
        await self._host.drop()

    async def close(self) -> None:
        """Answer what is pending with an error and end the worker."""
        self._closed = True
        self._fail_all(RpcError(STOPPING, "the daemon is stopping"))
        self._wake()
        await self._host.drop()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def status(self) -> dict[str, Any]:
        """Figures for `status`."""
        return {
            **self._host.status(self.model),
            "queue": {"waiting": len(self._turns), "running": len(self._running)},
            "results": self.results.status(),
            "answered": dict(self.answered),
            "last": self.last,
        }

    def _pending(self) -> list[Job]:
        """Every job that waits or runs."""
        return [*self._turns, *self._running.values()]

    def _advance(self) -> None:
        """Give the worker something to do, if it has room and there is something."""
        while not self._closed and len(self._running) < self._together and not self._host.busy:
            job = self._turns.peek()
            if job is None and not self._wanted:
                self._rest()
                return
            self._wake()
            model = self._wanted[0][0] if self._wanted else job.model if job is not None else self.model
            if self._running and model != self._host.loaded:
                return  # another model comes in when this one's fills have ended
            try:
                if not self._host.ready_for(model):
                    return
            except RpcError as error:
                self._fail_all(error)
                return
            if self._wanted:
                self._tell_loaded(model, 0.0)
            else:
                self._run(self._turns.take())

    def _run(self, job: Job) -> None:
        """Hand a job to the worker, with what is left of its time."""
        if job.timer is not None:
            job.timer.cancel()
        request = to_json(job.request)
        if job.until is not None:
            request["deadline_ms"] = max(1.0, (job.until - asyncio.get_running_loop().time()) * 1000)
        self._running[job.number] = job
        kind = "fill" if isinstance(job.request, FillRequest) else "rewrite"
        self._host.send({"do": kind, "job": job.number, "request": request, "draft": job.draft})

    def _end(self, job: Job, how: str, result: FillResult | None) -> None:
        """Give a job its answer (none: it is cancelled), and take it from wherever it is."""
        self._turns.remove(job)
        if job.timer is not None:
            job.timer.cancel()
        if job.done:
            return
        self.answered[how] += 1
        if result is None:
            job.answer.cancel()
        else:
            job.answer.set_result(result)
        if job.number in self._running:
            self._host.send({"do": "cancel", "job": job.number})

    def _fail(self, job: Job, error: Exception) -> None:
        """Give a job an error for an answer."""
        self._turns.remove(job)
        if job.timer is not None:
            job.timer.cancel()
        if not job.done:
            self.answered["error"] += 1
            job.answer.set_exception(error)

    def _fail_all(self, error: Exception) -> None:
        """Give everything that is pending an error for an answer."""
        for job in self._pending():
            self._fail(job, error)
        for _, future in self._wanted:
            if not future.done():
                future.set_exception(error)
        self._wanted.clear()

    def _out_of_time(self, job: Job) -> None:
        """The deadline of a job that still waits is over."""
        self._end(job, "deadline", unserved(job, "deadline"))

    def _tell_loaded(self, model: str, outcome: float | Exception) -> None:
        """Tell those who asked to load a model what came of it."""
        for entry in [one for one in self._wanted if one[0] == model]:
            self._wanted.remove(entry)
            if entry[1].done():
                continue
            if isinstance(outcome, Exception):
                entry[1].set_exception(outcome)
            else:
                entry[1].set_result(outcome)

    # what the host reports

    def on_loaded(self, model: str, ms: float) -> None:
        """A model is ready: on with what waits for it."""
        self._tell_loaded(model, ms)
        self._advance()

    def on_not_loaded(self, model: str, error: Exception) -> None:
        """A model cannot be loaded: what waits for it cannot be served."""
        self._tell_loaded(model, error)
        for job in [one for one in self._turns if one.model == model]:
            self._fail(job, error)
        self._advance()

    def on_message(self, message: dict[str, Any]) -> None:
        """A frame, the result or the error of a job that runs."""
        job = self._running.get(message["job"])
        if job is None:
            return
        if "frame" in message:
            if job.on_frame is not None and not job.done:
                job.on_frame(message["frame"])
            return
        result = None if "error" in message else from_json(FillResult, message["result"], "result")
        del self._running[job.number]
        if result is None:
            LOG.warning("job %d: %s error", job.number, message["error"])
            self._fail(job, error_of(message))
        else:
            self.last = {"end": result.end, "steps": result.steps, "timing_ms": result.timing_ms}
            total = result.timing_ms.get("total", 0.0)
            LOG.info("job %d: %s after %d steps and %.0f ms", job.number, result.end, result.steps, total)
            self.figures.worked(result)
            if job.request.length == "auto" and job.model == self.model and result.holes:
                self.policy = result.holes[0].length_policy
            self.results.keep(job.model, job.request, result)
            self._end(job, "model", result)
        self._advance()

    def on_crash(self, error: Exception) -> None:
        """The worker is gone: everything pending ends with an error, and a worker that was at work is replaced."""
        interrupted = next(iter(self._running.values()), None)
        self._fail_all(error)
        self._running.clear()
        if interrupted is not None and not self._closed:
            self.load(interrupted.model).add_done_callback(lambda future: future.cancelled() or future.exception())

    # resting

    def _rest(self) -> None:
        """Nothing to do: the worker may go after a while."""
        if self._idle is None and self._host.running and not self._running:
            self._idle = asyncio.get_running_loop().call_later(self._idle_unload_s, self._unload_idle)

    def _wake(self) -> None:
        """There is something to do."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _unload_idle(self) -> None:
        """The model has not been asked for anything for a while."""
        self._idle = None
        task = asyncio.get_running_loop().create_task(self._unload_unless_wanted())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _unload_unless_wanted(self) -> None:
        """Unload the model, if nothing has come between the end of the idle time and now."""
        if not self._running and not self._wanted and not len(self._turns):
            LOG.info("idle for %g s: the model is unloaded", self._idle_unload_s)
            await self._host.drop()
