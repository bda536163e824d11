"""The daemon's port: who may connect, and how long it stays. On it are the websocket and the endpoints of `compat`.

Before a websocket is accepted: no Origin unless it is allowed by name (a browser's page cannot connect), room for one
more connection, the token, and the subprotocol. Loopback only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from model_runtime import __version__
from model_runtime.daemon.compat.routes import Api, not_found, not_so, token_of
from model_runtime.daemon.connection import Connection, Limits
from model_runtime.daemon.messages import SUBPROTOCOL, Progress, notification_text
from model_runtime.daemon.patience import firm, hasty
from model_runtime.daemon.scheduler import Scheduler

HOST = "127.0.0.1"


class Daemon:
    """The connections of all clients, and the scheduler that serves them."""

    def __init__(
        self,
        scheduler: Scheduler,
        token: str,
        origins: Sequence[str] = (),
        limits: Limits | None = None,
        idle_exit_s: float | None = 1800.0,
    ):
        self.scheduler, self.limits = scheduler, limits or Limits()
        self._token, self._origins, self._idle_exit_s = token, frozenset(origins), idle_exit_s
        self._connections: set[Connection] = set()
        self._visits = 0  # HTTP requests that are being served
        self._leaving: asyncio.TimerHandle | None = None
        self._began = time.monotonic()
        self._server: uvicorn.Server | None = None
        self._stopping: asyncio.Task[None] | None = None
        scheduler.on_progress = self._broadcast

    async def serve(self, listener: socket.socket) -> None:
        """Serve a listening socket until asked to stop, or until no client has come for a while."""
        config = uvicorn.Config(
            self.app(),
            http=hasty(self.limits.first_request_s, self.limits.dropped_s, self.limits.unread_s),
            ws=firm(self.limits.close_s),
            ws_max_size=self.limits.frame,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._wait_for_clients()
        try:
            await self._server.serve(sockets=[listener])
        finally:
            if self._leaving is not None:
                self._leaving.cancel()
            await self.scheduler.close()

    async def stop(self) -> None:
        """Answer what is pending, then leave; whoever asked may be gone by then."""
        self._stopping = self._stopping or asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        await self.scheduler.close()
        self.leave()

    def leave(self) -> None:
        """End `serve`."""
        if self._server is not None:
            self._server.should_exit = True

    def app(self) -> Starlette:
        """The routes: the websocket, the probe, and the endpoints of other servers."""
        routes = [Route("/health", self.health), WebSocketRoute("/", self.accept), *Api(self).routes()]
        return Starlette(routes=routes, exception_handlers={404: not_found, 405: not_so})

    async def health(self, request: Request) -> Response:
        """Say that the daemon lives, and nothing more: this needs no token."""
        return self.refuse_origin(request) or JSONResponse({"status": "ok"})

    async def accept(self, websocket: WebSocket) -> None:
        """Accept a websocket that may connect, and serve it."""
        refusal = self.refuse_origin(websocket) or self._refuse(websocket)
        if refusal is not None:
            await websocket.send_denial_response(refusal)
            return
        connection = Connection(self.scheduler, self.limits, self.status, self.stop)
        self._connections.add(connection)
        self._stay()
        try:
            await websocket.accept(subprotocol=SUBPROTOCOL)
            await connection.serve(websocket)
        finally:
            self._connections.discard(connection)
            self._wait_for_clients()

    def status(self) -> dict[str, Any]:
        """The answer to `status`."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._began, 1),
            "clients": len(self._connections),
            **self.scheduler.status(),
        }

    @contextlib.contextmanager
    def visit(self) -> Iterator[int]:
        """For as long as an HTTP request is served, the daemon does not leave; says how many are."""
        self._visits += 1
        self._stay()
        try:
            yield self._visits
        finally:
            self._visits -= 1
            self._wait_for_clients()

    def knows(self, token: str) -> bool:
        """Whether a token is the right one."""
        return hmac.compare_digest(token.encode(), self._token.encode())

    def refuse_origin(self, connection: HTTPConnection) -> Response | None:
        """The refusal of a browser's page, unless its origin is allowed by name."""
        origin = connection.headers.get("origin")
        if origin is None or origin in self._origins:
            return None
        return PlainTextResponse("this origin is not allowed", 403)

    def _refuse(self, websocket: WebSocket) -> Response | None:
        """The refusal of a websocket that may not connect."""
        if len(self._connections) >= self.limits.connections:
            return PlainTextResponse(f"the daemon has its {self.limits.connections} clients already", 503)
        if not self.knows(token_of(websocket)):
            return PlainTextResponse("the token is missing or wrong", 401, {"WWW-Authenticate": "Bearer"})
        if SUBPROTOCOL not in websocket.scope["subprotocols"]:
            return PlainTextResponse(f"the websocket subprotocol must be {SUBPROTOCOL}", 400)
        return None

    def _broadcast(self, progress: Progress) -> None:
        """Tell every client how loading the model goes."""
        text = notification_text("progress", asdict(progress))
        for connection in self._connections:
            connection.outbox.put(text)

    def _stay(self) -> None:
        """A client is there."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _wait_for_clients(self) -> None:
        """If no client is there, leave after a while."""
        if self._connections or self._visits or self._idle_exit_s is None:
            return
        self._stay()
        self._leaving = asyncio.get_running_loop().call_later(self._idle_exit_s, self.leave)


def listen(port: int = 0) -> socket.socket:
    """A listening socket on loopback; OSError if the port is taken."""
    return socket.create_server((HOST, port))
