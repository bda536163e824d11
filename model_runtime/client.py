"""The client of the daemon: finds it or starts it, sends requests, hands on frames, cancels.

    async with await connect() as client:
        result = await client.fill(FillRequest(text=source, holes=[(120, 120)]), session="file:///a.py")

- `connect(start=True, on_progress=None, wait_s=20.0, server=None)` finds the daemon or starts one, or connects to a
  server elsewhere (a `Remote`); DiffillError with one sentence if that cannot be done. `on_progress(Progress)` is
  called as a model is loading, ready, failed or unloaded.
- `await client.fill(request, on_frame=None, session=None, model=None) -> FillResult` and
  `await client.rewrite(request, on_frame=None, session=None, model=None) -> FillResult`. `on_frame(Frame)` is called
  between denoising steps if the request wants `frames`; a slow client sees fewer of them.
- A newer request of the same `session` (any name; it belongs to this client alone) supersedes the older one, which then
  returns, not raises, a FillResult whose `end` is "superseded" and whose holes have no text. The same holds for
  "deadline" where the time was up before the model began. Without a session nothing supersedes a request.
- To cancel, cancel the asyncio task that awaits: the model stops within one denoising step.
- `await client.status() -> dict`, `await client.load(model=None)`, `await client.unload()`, `await client.stop()`.
- Errors: RequestError (the request cannot be served as written), ModelError (the model cannot be loaded or run),
  RpcError with a `code` of daemon/messages.py (BUSY, WORKER_DIED, ...), RuntimeDown (no daemon, even after one
  reconnection). All are DiffillError, their text one sentence.
- A daemon that died is found or started anew, once a request; the request is sent again.

Offsets are code points, as everywhere in protocol.py. Nothing heavy is imported: no torch, no onnxruntime, no numpy.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from model_runtime.daemon.messages import (
    CANCEL,
    CancelParams,
    FillParams,
    LoadParams,
    NoParams,
    Progress,
    RewriteParams,
    RpcError,
    error_from,
    notification_text,
    request_text,
)
from model_runtime.daemon.validation import from_json
from model_runtime.opening import RuntimeDown, find_and_open, open_remote, reason
from model_runtime.protocol import DiffillError, FillRequest, FillResult, Frame, RewriteRequest
from model_runtime.remote import Remote

__all__ = ["Client", "Progress", "RpcError", "RuntimeDown", "connect"]

OnFrame = Callable[[Frame], None]
OnProgress = Callable[[Progress], None]


async def connect(
    start: bool = True,
    on_progress: OnProgress | None = None,
    wait_s: float = 20.0,
    any_version: bool = False,
    server: Remote | None = None,
) -> Client:
    """Connect to the daemon of this user, and start it first if none runs (unless `start` is false), or to a server.

    DiffillError if that takes longer than `wait_s`, or if a daemon of another version runs (unless `any_version`).
    """
    client = Client(start, on_progress, wait_s, any_version, server)
    await client.open()
    return client


@dataclass
class Pending:
    """A request that is not answered yet, and the connection that it was sent on."""

    socket: ClientConnection
    answer: asyncio.Future[Any]
    on_frame: OnFrame | None


class Client:
    """A connection to the daemon or a server, which is renewed once a request when it died."""

    def __init__(
        self, start: bool, on_progress: OnProgress | None, wait_s: float, any_version: bool, server: Remote | None
    ):
        self._server = server
        self._start, self._on_progress, self._wait_s, self._any = start, on_progress, wait_s, any_version
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._pending: dict[int, Pending] = {}
        self._numbers = itertools.count(1)
        self._farewells: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def fill(
        self,
        request: FillRequest,
        on_frame: OnFrame | None = None,
        session: str | None = None,
        model: str | None = None,
    ) -> FillResult:
        """Fill the holes of a request."""
        answer = await self._ask("fill", FillParams(request, session, model), on_frame)
        return from_json(FillResult, answer, "result")

    async def rewrite(
        self,
        request: RewriteRequest,
        on_frame: OnFrame | None = None,
        session: str | None = None,
        model: str | None = None,
    ) -> FillResult:
        """Write a range anew."""
        answer = await self._ask("rewrite", RewriteParams(request, session, model), on_frame)
        return from_json(FillResult, answer, "result")

    async def status(self) -> dict[str, Any]:
        """What the daemon is doing, as docs/protocol.md lists it."""
        return await self._ask("status", NoParams())

    async def load(self, model: str | None = None) -> dict[str, Any]:
        """Load a model now instead of at the first request; returns `ms` and `instructions` once it is ready."""
        return await self._ask("load", LoadParams(model))

    async def unload(self) -> dict[str, Any]:
        """Give the model's memory back."""
        return await self._ask("unload", NoParams())

    async def stop(self) -> None:
        """End the daemon, for every client."""
        with contextlib.suppress(RuntimeDown):
            await self._ask("stop", NoParams(), again=False)

    async def open(self) -> None:
        """Connect, unless a connection is open; what waits for others doing so waits for them."""
        async with self._opening:
            if self._closed:
                raise RuntimeDown("this client is closed")
            if self._socket is not None:
                return
            try:
                way = find_and_open(self._start, self._any) if self._server is None else open_remote(self._server)
                self._socket = await asyncio.wait_for(way, self._wait_s)
            except asyncio.TimeoutError:
                raise RuntimeDown(f"{self._whom} did not answer within {self._wait_s:g} s") from None
            self._reading = asyncio.create_task(self._read(self._socket))

    async def close(self) -> None:
        """Say goodbye; requests that are not answered raise RuntimeDown."""
        self._closed = True
        if self._farewells:
            await asyncio.wait(self._farewells)
        if self._socket is not None:
            await self._socket.close()
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def _ask(self, method: str, params: Any, on_frame: OnFrame | None = None, again: bool = True) -> Any:
        """Send a request and wait for its answer, on a second connection if the first one dies."""
        for attempt in (1, 2):
            await self.open()
            socket = self._socket
            assert socket is not None
            number = next(self._numbers)
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._pending[number] = Pending(socket, answer, on_frame)
            try:
                await socket.send(request_text(number, method, params))
                return await answer
            except (ConnectionClosed, ConnectionError) as error:
                self._lost(socket)
                if attempt == 2 or not again or self._closed:
                    raise RuntimeDown(f"{self._whom} closed the connection ({reason(error)})") from None
            except asyncio.CancelledError:
                self._say(socket, notification_text(CANCEL, CancelParams(number)))
                raise
            finally:
                del self._pending[number]
                if answer.done() and not answer.cancelled():
                    answer.exception()  # seen: the connection may have died twice over, in sending and in reading
        raise AssertionError("the second attempt returns or raises")

    def _say(self, socket: ClientConnection, text: str) -> None:
        """Send without waiting."""

        async def send() -> None:
            with contextlib.suppress(ConnectionClosed, ConnectionError):
                await socket.send(text)

        task = asyncio.get_running_loop().create_task(send())
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def _read(self, socket: ClientConnection) -> None:
        """Hand on what the daemon says until the connection ends."""
        try:
            async for text in socket:
                self._take(json.loads(text))
            error: Exception = ConnectionError("it left")
        except (ConnectionClosed, ConnectionError) as caught:
            error = caught
            await socket.close()
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError, DiffillError):
            error = ConnectionError("it does not speak our protocol")
            await socket.close()
        self._lost(socket)
        for pending in list(self._pending.values()):
            if pending.socket is socket and not pending.answer.done():
                pending.answer.set_exception(error)

    def _take(self, message: dict[str, Any]) -> None:
        """Hand on one message: an answer, a frame or progress."""
        if "method" not in message:
            pending = self._pending.get(message["id"])
            if pending is None or pending.answer.done():
                return
            if "error" in message:
                error = message["error"]
                pending.answer.set_exception(error_from(error["code"], error["message"], error.get("data")))
            else:
                pending.answer.set_result(message["result"])
        elif message["method"] == "frame":
            pending = self._pending.get(message["params"]["id"])
            if pending is not None and pending.on_frame is not None and not pending.answer.done():
                pending.on_frame(from_json(Frame, message["params"]["frame"], "frame"))
        elif message["method"] == "progress" and self._on_progress is not None:
            self._on_progress(from_json(Progress, message["params"], "progress"))

    @property
    def _whom(self) -> str:
        return "the daemon" if self._server is None else f"the server {self._server.address}"

    def _lost(self, socket: ClientConnection) -> None:
        """Forget a connection that ended."""
        if self._socket is socket:
            self._socket = None
