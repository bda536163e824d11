"""One client's websocket: reads its calls, answers each once, and sends frames no faster than they are read."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from model_runtime.daemon.callers import Caller
from model_runtime.daemon.jobs import Job
from model_runtime.daemon.messages import (
    BUSY,
    CANCELLED,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    MODEL_ERROR,
    TOO_LARGE,
    BadCall,
    Call,
    CancelParams,
    FillParams,
    Id,
    LoadParams,
    RewriteParams,
    RpcError,
    error_text,
    notification_text,
    parse_call,
    result_text,
)
from model_runtime.protocol import ModelError, RequestError

LOG = logging.getLogger("diffill.connection")
NUMBERS = itertools.count(1)


@dataclass
class Limits:
    """What one daemon bears."""

    message: int = 8 << 20  # characters; a longer one is answered with an error
    frame: int = 16 << 20  # bytes; a longer one closes the connection (1009)
    connections: int = 64
    connections_each: int = 32  # of one named token
    pending: int = 64  # requests a connection
    unread: int = 1024  # answers that a client leaves unread before it is dropped
    first_request_s: float = 10.0  # for the head of an HTTP request, once it has begun or the connection is new
    close_s: float = 3.0  # for a client to take what is still to be sent when its connection ends
    body: int = 4 << 20  # bytes of an HTTP request
    body_s: float = 10.0  # for them to come
    dropped_s: float = 60.0  # for the rest of a body, dropped as it comes, whose request was refused already
    requests: int = 64  # HTTP requests at a time
    unread_s: float = 30.0  # for an HTTP client to take more of an answer that it has stopped reading


class Outbox:
    """What waits to be sent: every answer, and of each request's frames only the latest."""

    def __init__(self, limit: int):
        self._limit, self._texts, self._frames = limit, deque[str](), OrderedDict[Id, str]()
        self._filled = asyncio.Event()
        self.overflown = asyncio.Event()

    def put(self, text: str) -> None:
        """Send a text as soon as can be; one too many and the client counts as lost."""
        if len(self._texts) >= self._limit:
            self.overflown.set()
            return
        self._texts.append(text)
        self._filled.set()

    def put_frame(self, number: Id, text: str) -> None:
        """Send a frame, unless a newer one comes before it can be sent."""
        self._frames[number] = text
        self._filled.set()

    def close_frames(self, number: Id, send: bool) -> None:
        """A request is about to be answered: its newest frame is sent before that, or dropped."""
        frame = self._frames.pop(number, None)
        if send and frame is not None:
            self.put(frame)

    async def get(self) -> str:
        """Wait for the next text."""
        while not self._texts and not self._frames:
            self._filled.clear()
            await self._filled.wait()
        return self._texts.popleft() if self._texts else self._frames.popitem(last=False)[1]


class Connection:
    """The calls of one client, and what they wait for."""

    def __init__(
        self,
        caller: Caller,
        limits: Limits,
        status: Callable[[], dict[str, Any]],
        stop: Callable[[], Awaitable[None]],
    ):
        self.number, self.outbox = next(NUMBERS), Outbox(limits.unread)
        self.caller, self._scheduler = caller, caller.scheduler
        self._limits, self._status, self._stop = limits, status, stop
        self._jobs: dict[Id, Job] = {}
        self._waiting: set[Id] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, websocket: WebSocket) -> None:
        """Serve an accepted websocket until it closes; then nothing of it is left."""
        reading = asyncio.create_task(self._read(websocket))
        writing = asyncio.create_task(self._write(websocket))
        overflown = asyncio.create_task(self.outbox.overflown.wait())
        try:
            await asyncio.wait([reading, writing, overflown], return_when=asyncio.FIRST_COMPLETED)
            if overflown.done():
                LOG.warning("connection %d: answers are not read", self.number)
        finally:
            for task in (reading, writing, overflown, *self._tasks):
                task.cancel()
            self._scheduler.forget(self.number)
            await asyncio.gather(reading, writing, overflown, *self._tasks, return_exceptions=True)

    async def _write(self, websocket: WebSocket) -> None:
        """Send what the outbox holds, as fast as the client reads."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await websocket.send_text(await self.outbox.get())

    async def _read(self, websocket: WebSocket) -> None:
        """Take calls until the client leaves."""
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if not self.caller.welcome:
                await websocket.close(1008, "the token was revoked")
                return
            text = message.get("text")
            try:
                if text is None:
                    raise BadCall(INVALID_REQUEST, "messages are text frames")
                if len(text) > self._limits.message:
                    raise BadCall(TOO_LARGE, f"a message has at most {self._limits.message} characters")
                self._take(parse_call(text))
            except BadCall as bad:
                self.outbox.put(error_text(bad.id, bad.code, bad.message))

    def _take(self, call: Call) -> None:
        """Begin to serve a call."""
        params, number = call.params, call.id
        if isinstance(params, CancelParams):
            if (job := self._jobs.get(params.id)) is not None:
                self._scheduler.cancel(job)
            return
        assert number is not None
        if number in self._waiting:
            raise BadCall(INVALID_REQUEST, "a request with this id is not answered yet", number)
        if call.method == "status":
            self.outbox.put(result_text(number, self._status()))
            return
        if len(self._waiting) >= self._limits.pending:
            raise BadCall(BUSY, f"a connection has at most {self._limits.pending} requests at a time", number)
        self._waiting.add(number)
        try:
            self._begin(number, call)
        except (RpcError, RequestError) as error:
            self._waiting.discard(number)
            self.outbox.put(error_answer(number, error))

    def _begin(self, number: Id, call: Call) -> None:
        """Hand a request on; what comes of it will answer it. RpcError or RequestError if it may not be made."""
        params = call.params
        if isinstance(params, FillParams | RewriteParams):
            request = params.request
            job = self.caller.submit(
                request,
                (self.number, params.session),
                params.model,
                (lambda frame: self._frame(number, frame)) if request.frames else None,
            )
            self._jobs[number] = job
            job.answer.add_done_callback(lambda answer: self._answer(number, answer))
        elif isinstance(params, LoadParams):
            loading, model = self.caller.load(params.model), params.model
            loading.add_done_callback(lambda answer: self._answer(number, answer, lambda ms: self._loaded(model, ms)))
        else:
            self.caller.owns(call.method)
            self._do(number, self._scheduler.unload() if call.method == "unload" else self._stop())

    def _loaded(self, model: str | None, ms: float) -> dict[str, Any]:
        """The answer to `load`."""
        return {"ms": ms, "instructions": self.caller.follows(model)}

    def _do(self, number: Id, work: Awaitable[None]) -> None:
        """Wait for something that takes a while, and answer with an empty object."""

        async def wait() -> None:
            await work

        task = asyncio.create_task(wait())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda answer: self._answer(number, answer, lambda _: {}))

    def _frame(self, number: Id, frame: dict[str, Any]) -> None:
        """Tell how a fill stands."""
        self.outbox.put_frame(number, notification_text("frame", {"id": number, "frame": frame}))

    def _answer(
        self, number: Id, answer: asyncio.Future[Any], shape: Callable[[Any], Any] = lambda result: result
    ) -> None:
        """Answer a request once what it waited for is done."""
        self._waiting.discard(number)
        self._jobs.pop(number, None)
        self.outbox.close_frames(number, send=not answer.cancelled())
        if answer.cancelled():
            self.outbox.put(error_text(number, CANCELLED, "the request was cancelled"))
        elif (error := answer.exception()) is None:
            self.outbox.put(result_text(number, shape(answer.result())))
        else:
            self.outbox.put(error_answer(number, error))


def error_answer(number: Id, error: BaseException) -> str:
    """The answer to a request that failed."""
    return error_text(number, code_of(error), sentence_of(error), getattr(error, "retry_after_s", None))


def code_of(error: BaseException) -> int:
    """The wire's code for an error."""
    if isinstance(error, RpcError):
        return error.code
    if isinstance(error, RequestError):
        return INVALID_PARAMS
    return MODEL_ERROR if isinstance(error, ModelError) else INTERNAL_ERROR


def sentence_of(error: BaseException) -> str:
    """What a client is told; an error that is not ours gives its kind only."""
    if isinstance(error, RpcError | RequestError | ModelError):
        return " ".join(str(error).split())
    return f"the daemon failed: {type(error).__name__}"
