"""From what a client of another server asked to fills of ours, and back to texts."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from model_runtime.daemon.callers import Caller
from model_runtime.daemon.compat.texts import Ends, Stream, settled_prefix
from model_runtime.daemon.jobs import Job, Session
from model_runtime.daemon.messages import MAX_TOKENS, check_request
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.protocol import FillRequest, FillResult, HoleFill

TOKENS = 128  # where a client names no number
SESSION: Session = (0, None)  # who has the daemon's own token: all of them take turns with the websockets as one
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class HungUp(Exception):
    """The client is gone; nobody reads an answer."""


@dataclass
class Wanted:
    """One hole, between two texts."""

    before: str
    after: str = ""
    related: list[str] = field(default_factory=list)
    path: str | None = None
    max_tokens: int | None = None  # none or below 0: the default
    count: int = 1
    ends: Ends = field(default_factory=Ends)
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None  # below 0: a new one
    deadline_ms: float | None = None
    cache: bool = True

    def request(self, frames: bool = False) -> FillRequest:
        """The same in our words; RequestError if it cannot be served."""
        at = len(self.before)
        wants_luck = self.temperature > 0 and (self.seed is None or self.seed < 0)
        greedy = self.top_p == 0
        request = FillRequest(
            text=self.before + self.after,
            holes=[(at, at)],
            max_tokens=TOKENS if self.max_tokens is None or self.max_tokens < 0 else min(self.max_tokens, MAX_TOKENS),
            alternatives=self.count,
            temperature=0.0 if greedy else self.temperature,
            top_p=None if greedy or self.top_p in (None, 1) else self.top_p,
            top_k=self.top_k if self.top_k and self.top_k > 0 else None,
            seed=secrets.randbelow(2**31) if wants_luck else max(0, self.seed or 0),
            deadline_ms=self.deadline_ms if self.deadline_ms and self.deadline_ms > 0 else None,
            cache="on" if self.cache else "off",
            related=self.related or None,
            path=self.path,
            frames=frames,
        )
        check_request(request)
        return request


@dataclass
class Text:
    """One of the texts that came of a hole: how many tokens it has, and what ended it."""

    content: str
    tokens: int
    stopped_by: str  # the stop text, or ""
    complete: bool  # not cut off by a limit on tokens or time
    confidence: float


def texts_of(result: FillResult, wanted: Wanted) -> list[Text]:
    """The texts of a result, the best first; fewer than asked for where the model found no more different ones."""
    return [text_of(holes[0], result, wanted) for holes in (result.holes, *result.alternatives)][: wanted.count]


def text_of(fill: HoleFill, result: FillResult, wanted: Wanted) -> Text:
    """One text, ended where the client wants it to."""
    content, word = wanted.ends.cut(fill.text)
    count = sum(token.start < len(content) for token in fill.tokens)
    complete = len(content) < len(fill.text) or result.end in ("complete", "empty")
    return Text(content, count, word, complete, fill.confidence)


NOTHING = Text("", 0, "", False, 0.0)  # for who asks for no token


class Filling:
    """The fills of one HTTP request. They end with it, however it ends."""

    def __init__(self, caller: Caller, wanted: list[Wanted], receive: Receive):
        self._caller, self._wanted, self._receive = caller, wanted, receive

    async def results(self) -> list[FillResult]:
        """One result for each hole; our errors, or HungUp if the client left meanwhile."""
        with self._submitted([wanted.request() for wanted in self._wanted]) as jobs:
            answers = [job.answer for job in jobs]
            async with self._until_gone() as gone:
                while not all(answer.done() for answer in answers):
                    waiting: set[asyncio.Future[Any]] = {gone, *(answer for answer in answers if not answer.done())}
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for answer in answers:
                        if answer.done():
                            answer.result()  # the first error is the answer to all
                    if gone.done() and not all(answer.done() for answer in answers):
                        raise HungUp
            return [answer.result() for answer in answers]

    async def pieces(self) -> AsyncIterator[str | FillResult]:
        """What settles of a single hole's single text, piece by piece, never to change; then the result."""
        (wanted,) = self._wanted
        stream, news, latest = Stream(wanted.ends), asyncio.Event(), ""

        def on_frame(frame: dict[str, Any]) -> None:
            nonlocal latest
            (hole,) = frame["holes"]
            latest = settled_prefix(hole["text"], hole["settled"])
            news.set()

        on_frames = on_frame if streams(self._caller.scheduler) else None
        with self._submitted([wanted.request(frames=on_frames is not None)], on_frames) as (job,):
            job.answer.add_done_callback(lambda _: news.set())
            async with self._until_gone() as gone:
                while not job.done:
                    waiting = asyncio.ensure_future(news.wait())
                    try:
                        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        waiting.cancel()
                    if gone.done() and not job.done:
                        raise HungUp
                    news.clear()
                    if not job.done and (piece := stream.grow(latest)):
                        yield piece
                result = job.answer.result()
                if piece := stream.end(result.holes[0].text):
                    yield piece
                yield result

    @contextlib.contextmanager
    def _submitted(
        self, requests: list[FillRequest], on_frame: Callable[[dict[str, Any]], None] | None = None
    ) -> Iterator[list[Job]]:
        """The jobs for some requests, cancelled at the end if they are not answered by then."""
        jobs: list[Job] = []
        try:
            for request in requests:
                jobs.append(self._caller.submit(request, SESSION, None, on_frame))
            yield jobs
        finally:
            for job in jobs:
                if job.done:
                    job.answer.cancelled() or job.answer.exception()  # told, even if another's came first
                else:
                    self._caller.scheduler.cancel(job)

    @contextlib.asynccontextmanager
    async def _until_gone(self) -> AsyncIterator[asyncio.Task[None]]:
        """A task that ends when the client hangs up."""

        async def listen() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass

        task = asyncio.create_task(listen())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def streams(scheduler: Scheduler) -> bool:
    """Whether the model makes one fill a request, so that its frames lead to the result.

    A model that probes lengths makes several and takes the best; which of the two it does is known from the last fill.
    """
    return scheduler.policy is not None and not scheduler.policy.startswith("probe")
