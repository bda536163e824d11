"""The client of the daemon: finds it or starts it, sends requests, hands on frames, cancels.

    async with await connect() as client:
        result = await client.fill(FillRequest(text=source, holes=[(120, 120)]), session="file:///a.py")

- `connect(start=True, on_progress=None, wait_s=20.0)` finds the daemon or starts one; DiffillError with one sentence if
  that cannot be done. `on_progress(Progress)` is called as a model is loading, ready, failed or unloaded.
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
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from model_runtime.daemon.discovery import DiscoveryError, RuntimeFile, runtime_directory, token_of_environment
from model_runtime.daemon.messages import (
    CANCEL,
    SUBPROTOCOL,
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
from model_runtime.daemon.starting import find_or_start
from model_runtime.daemon.validation import from_json
from model_runtime.protocol import DiffillError, FillRequest, FillResult, Frame, RewriteRequest

__all__ = ["Client", "Progress", "RpcError", "RuntimeDown", "connect"]

OnFrame = Callable[[Frame], None]
OnProgress = Callable[[Progress], None]
MAX_ANSWER = 64 << 20  # bytes
LEAVING_S, LOOK_S = 5.0, 0.02
QUIET = logging.getLogger("diffill.client")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False  # the library's debug lines hold the texts of messages


class RuntimeDown(DiffillError):
    """No daemon can be reached, and none could be started."""


async def connect(
    start: bool = True, on_progress: OnProgress | None = None, wait_s: float = 20.0, any_version: bool = False
) -> Client:
    """Connect to the daemon of this user, and start it first if none runs (unless `start` is false).

    DiffillError if that takes longer than `wait_s`, or if a daemon of another version runs (unless `any_version`).
    """
    client = Client(start, on_progress, wait_s, any_version)
    await client.open()
    return client


@dataclass
class Pending:
    """A request that is not answered yet, and the connection that it was sent on."""

    socket: ClientConnection
    answer: asyncio.Future[Any]
    on_frame: OnFrame | None


class Client:
    """A connection to the daemon, which is renewed once a request when the daemon died."""

    def __init__(self, start: bool, on_progress: OnProgress | None, wait_s: float, any_version: bool):
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
        """Load a model now instead of at the first request; return once it is ready."""
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
                self._socket = await asyncio.wait_for(find_and_open(self._start, self._any), self._wait_s)
            except asyncio.TimeoutError:
                raise RuntimeDown(f"the daemon did not answer within {self._wait_s:g} s") from None
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
                    raise RuntimeDown(f"the daemon closed the connection ({reason(error)})") from None
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
        except (ConnectionClosed, ConnectionError, ValueError, DiffillError) as caught:
            error = caught if not isinstance(caught, ValueError | DiffillError) else ConnectionError("not our protocol")
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
                pending.answer.set_exception(error_from(message["error"]["code"], message["error"]["message"]))
            else:
                pending.answer.set_result(message["result"])
        elif message["method"] == "frame":
            pending = self._pending.get(message["params"]["id"])
            if pending is not None and pending.on_frame is not None and not pending.answer.done():
                pending.on_frame(from_json(Frame, message["params"]["frame"], "frame"))
        elif message["method"] == "progress" and self._on_progress is not None:
            self._on_progress(from_json(Progress, message["params"], "progress"))

    def _lost(self, socket: ClientConnection) -> None:
        """Forget a connection that ended."""
        if self._socket is socket:
            self._socket = None


async def find_and_open(start: bool, any_version: bool) -> ClientConnection:
    """Open a connection to the daemon.

    One that leaves just now is looked for again: of a process that ends, the port is closed before the lock is free.
    """
    folder = runtime_directory()
    end = time.monotonic() + LEAVING_S
    while True:
        found = await find_or_start(folder, start, any_version)
        if found is None:
            raise RuntimeDown("no daemon runs: start one with diffill serve")
        try:
            return await open_to(found)
        except InvalidStatus as error:
            told = error.response.body.decode(errors="replace").strip() if error.response.body else ""
            raise RuntimeDown(f"the daemon refused the connection: {told or error.response.status_code}") from None
        except (OSError, InvalidHandshake) as error:
            if time.monotonic() > end:
                raise RuntimeDown(f"the daemon cannot be reached: {reason(error)}") from None
        await asyncio.sleep(LOOK_S)


async def open_to(found: RuntimeFile) -> ClientConnection:
    """Open a connection to a daemon whose address is known."""
    token = token_of_environment() or found.token
    if token is None:
        raise DiscoveryError("the daemon was started with DIFFILL_TOKEN: set the same here")
    return await open_websocket(
        f"ws://{found.host}:{found.port}/",
        additional_headers={"Authorization": f"Bearer {token}"},
        subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
        compression=None,
        max_size=MAX_ANSWER,
        proxy=None,
        logger=QUIET,
    )


def reason(error: BaseException) -> str:
    """An error in a few words."""
    return " ".join(str(error).split())[:200] or type(error).__name__
