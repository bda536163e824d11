"""The model as the server sees it: one connection, opened when it is first needed; failures become silences."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, TypeVar

from lsp_server.silence import Silence
from model_runtime.daemon.messages import BUSY, LIMITED, RpcError
from model_runtime.protocol import (
    DiffillError,
    FillRequest,
    FillResult,
    Frame,
    ModelError,
    RequestError,
    RewriteRequest,
)
from model_runtime.remote import Remote

if TYPE_CHECKING:
    from model_runtime.client import Client, Progress

State = Literal["idle", "loading", "working", "down"]
OnFrame = Callable[[Frame], None]
T = TypeVar("T")


class Runtime:
    """`on_state` is told of every change of `state`, `on_progress` of a model that loads, is ready or fails.

    `server` is asked instead of this machine's daemon, if there is one; it has one model for all.
    """

    def __init__(self, on_state: Callable[[State], None], on_progress: Callable[[Progress], None]):
        self.model = "embedded"
        self.server: Remote | None = None
        self.state: State = "idle"
        self._on_state, self._on_progress = on_state, on_progress
        self._client: Client | None = None
        self._opening: asyncio.Task[Client] | None = None
        self._running = 0

    @property
    def address(self) -> str | None:
        """Where the server is; None for this machine's daemon."""
        return None if self.server is None else self.server.address

    @property
    def _model(self) -> str | None:
        return self.model if self.server is None else None

    async def fill(
        self, request: FillRequest, on_frame: OnFrame | None = None, session: str | None = None
    ) -> FillResult:
        """Fill; Silence where the model process cannot, RequestError for what cannot be served as written."""
        client = await self._connected()
        return await self._watch(client.fill(request, on_frame, session, self._model))

    async def rewrite(
        self, request: RewriteRequest, on_frame: OnFrame | None = None, session: str | None = None
    ) -> FillResult:
        """Rewrite, with the errors of `fill`."""
        client = await self._connected()
        return await self._watch(client.rewrite(request, on_frame, session, self._model))

    async def warm(self) -> bool | None:
        """Have the model process running and the model loaded; returns whether it follows instructions, if it says."""
        client = await self._connected()
        answer = await self._watch(client.load(self._model), working=False)
        return answer.get("instructions")

    async def use(self, server: Remote | None) -> None:
        """Ask a server, or this machine's daemon, from now on; DiffillError, and all stays, if it does not answer.

        What runs at the one that was asked before ends as a silence.
        """
        from model_runtime.client import connect

        client = None if server is None else await connect(on_progress=self._progress, server=server)
        if self._opening is not None:
            self._opening.cancel()
        self._opening = None
        old, self._client, self.server = self._client, client, server
        self._change("idle")
        if old is not None:
            await old.close()

    async def close(self) -> None:
        """Leave the daemon; it goes by itself once nobody needs it."""
        if self._opening is not None:
            self._opening.cancel()
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> Client:
        """The open client. Who waits for it may be cancelled; the opening goes on for the next request."""
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._open())
        return await self._watch(asyncio.shield(self._opening), working=False)

    async def _open(self) -> Client:
        """Find or start the daemon, or make sure that it is still there."""
        if self._client is None:
            from model_runtime.client import connect  # websockets load after the editor has its first answer

            self._client = await connect(on_progress=self._progress, server=self.server)
        await self._client.open()
        return self._client

    async def _watch(self, work: Awaitable[T], working: bool = True) -> T:
        """Await one piece of work; say what is going on, and turn failures into silences."""
        self._running += working
        server = self.server
        try:
            if working and self.state != "loading":
                self._change("working")
            done = await work
        except ModelError as error:
            self._change("down")
            raise Silence("no_model", str(error)) from None
        except RequestError:
            raise
        except DiffillError as error:
            if isinstance(error, RpcError) and error.code in (BUSY, LIMITED):
                raise Silence("busy", str(error)) from None
            if server is self.server:
                self._change("down")
            raise Silence("runtime_down", str(error)) from None
        finally:
            self._running -= working
            if not self._running and self.state == "working":
                self._change("idle")
        if self.state == "down":
            self._change("working" if self._running else "idle")
        return done

    def _progress(self, progress: Progress) -> None:
        """Take what the daemon says of its models."""
        if progress.state == "loading":
            self._change("loading")
        elif self.state == "loading":
            self._change("working" if self._running else "idle")
        self._on_progress(progress)

    def _change(self, state: State) -> None:
        """Take a state, and tell if it is another."""
        if state != self.state:
            self.state = state
            self._on_state(state)
