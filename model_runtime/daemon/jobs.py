"""What waits for the model: jobs, and the order in which they get it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from model_runtime.protocol import End, FillRequest, FillResult, HoleFill, RewriteRequest

Session = tuple[int, str | None]  # the connection's number, and the name that its client gave


@dataclass(eq=False)
class Job:
    """A request on its way to its answer."""

    request: FillRequest | RewriteRequest
    model: str
    session: Session
    answer: asyncio.Future[FillResult]
    on_frame: Callable[[dict[str, Any]], None] | None = None
    number: int = 0
    until: float | None = None  # of the event loop's clock
    draft: str = ""  # of a kept answer that typing contradicted, what may still hold
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)
    turn: Hashable = None  # with whom it shares a place in the line; none: with its session

    @property
    def done(self) -> bool:
        """Whether it has its answer; a job that runs on after that only has to end."""
        return self.answer.done()


class Turns:
    """Jobs that wait: sessions (or those who share several of them) take turns, and within one the oldest is first."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Hashable, deque[Job]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[Job]:
        for jobs in self._queues.values():
            yield from jobs

    def add(self, job: Job) -> None:
        """Put a job behind those whose turn it shares."""
        self._queues.setdefault(turn_of(job), deque()).append(job)

    def remove(self, job: Job) -> None:
        """Take a job out, wherever it is; nothing if it does not wait."""
        jobs = self._queues.get(turn_of(job))
        if jobs is None or job not in jobs:
            return
        jobs.remove(job)
        if not jobs:
            del self._queues[turn_of(job)]

    def peek(self) -> Job | None:
        """The job whose turn it is."""
        return next(iter(self._queues.values()))[0] if self._queues else None

    def take(self) -> Job:
        """Take out the job whose turn it is; whoever shares it goes to the end of the line."""
        turn, jobs = next(iter(self._queues.items()))
        job = jobs.popleft()
        if jobs:
            self._queues.move_to_end(turn)
        else:
            del self._queues[turn]
        return job


def turn_of(job: Job) -> Hashable:
    """Who waits in line with a job."""
    return job.session if job.turn is None else job.turn


def unserved(job: Job, end: End) -> FillResult:
    """The answer to a request that the model never settled: its holes, without text."""
    request = job.request
    spans = request.holes if isinstance(request, FillRequest) else [request.range]
    holes = [HoleFill(start, finish, "", 0.0, request.length, []) for start, finish in spans]
    timing = {"load": 0.0, "encode": 0.0, "denoise": 0.0, "total": 0.0}
    return FillResult(holes, [], end, 0, job.model, request.seed, timing)
