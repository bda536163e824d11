"""The daemon's port: who may connect, and how long it stays. On it are the websocket and the endpoints of `compat`.

Before a websocket is accepted: no Origin unless it is allowed by name (a browser's page cannot connect), room for one
more connection, a token, and the subprotocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from model_runtime import __version__
from model_runtime.daemon.accounts import Accounts
from model_runtime.daemon.audit import Audit
from model_runtime.daemon.callers import Caller, Door, address_of, token_of
from model_runtime.daemon.compat.llama import model_name
from model_runtime.daemon.compat.routes import Api, not_found, not_so
from model_runtime.daemon.connection import Connection, Limits
from model_runtime.daemon.listening import Listener, make_listener
from model_runtime.daemon.messages import SUBPROTOCOL, Progress, notification_text
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.daemon.tls import Identity
from model_runtime.protocol import RequestError

LOG = logging.getLogger("diffill.server")


@dataclass
class Sharing:
    """What a daemon needs beyond the user's own machine."""

    accounts: Accounts | None = None
    audit: Audit | None = None
    identity: Identity | None = None
    behind_proxy: bool = False  # a proxy says where clients are


class Daemon:
    """The connections of all clients, and the scheduler that serves them."""

    def __init__(
        self,
        scheduler: Scheduler,
        token: str,
        origins: Sequence[str] = (),
        limits: Limits | None = None,
        idle_exit_s: float | None = 1800.0,
        sharing: Sharing | None = None,
        grace_s: float = 0.0,
    ):
        self.scheduler, self.limits, self._sharing = scheduler, limits or Limits(), sharing or Sharing()
        self._door = Door(scheduler, self._sharing.accounts, self._sharing.audit)
        self._grace_s, self._hurry = grace_s, asyncio.Event()
        self._token, self._origins, self._idle_exit_s = token, frozenset(origins), idle_exit_s
        self._connections: set[Connection] = set()
        self._visits = 0  # HTTP requests that are being served
        self._leaving: asyncio.TimerHandle | None = None
        self._began = time.monotonic()
        self._server: Listener | None = None
        self._tls: ssl.SSLContext | None = None
        self._stopping: asyncio.Task[None] | None = None
        scheduler.on_progress = self._broadcast

    async def serve(self, listener: socket.socket) -> None:
        """Serve a listening socket until asked to stop, or until no client has come for a while."""
        identity = self._sharing.identity
        self._tls = None if identity is None else identity.context()
        self._server = make_listener(self.app(), self.limits, self._tls, self.on_signal)
        if self._tls is not None and hasattr(signal, "SIGHUP"):
            with contextlib.suppress(RuntimeError, ValueError):  # not the main thread
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.renew)
        self._wait_for_clients()
        try:
            await self._server.serve(sockets=[listener])
        finally:
            if self._leaving is not None:
                self._leaving.cancel()
            await self.scheduler.close()

    def on_signal(self) -> None:
        """Stop; a second signal ends the waiting for fills that run."""
        if self._stopping is not None:
            self._hurry.set()
        self._stopping = self._stopping or asyncio.create_task(self._stop())

    async def stop(self) -> None:
        """Let nothing new in, let what is pending be answered for a while, then leave; nobody need wait for it."""
        self._stopping = self._stopping or asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        left = await self._door.drain(self._grace_s, self._hurry)
        LOG.info("stopping; %d requests get no answer", left)
        await self.scheduler.close()
        self.leave()

    def renew(self) -> None:
        """Take a renewed certificate for connections to come; what cannot be used is logged and left."""
        identity = self._sharing.identity
        if identity is not None and self._tls is not None:
            try:
                LOG.info("the certificate was read again; %.0f days left", identity.load_into(self._tls))
            except RequestError as error:
                LOG.error("the certificate stays the old one: %s", error)

    def leave(self) -> None:
        """End `serve`."""
        if self._server is not None:
            self._server.should_exit = True

    def app(self) -> Starlette:
        """The routes: the websocket, the probe, and the endpoints of other servers."""
        routes = [Route("/health", self.health), WebSocketRoute("/", self.accept), *Api(self).routes()]
        return Starlette(routes=routes, exception_handlers={404: not_found, 405: not_so})

    async def health(self, request: Request) -> Response:
        """Say that the daemon lives, or that it leaves, and nothing more: this needs no token."""
        leaving = self._door.closing
        told = JSONResponse({"status": "stopping" if leaving else "ok"}, 503 if leaving else 200)
        return self.refuse_origin(request) or told

    async def accept(self, websocket: WebSocket) -> None:
        """Accept a websocket that may connect, and serve it."""
        caller = self.caller(websocket, "websocket")
        refusal = self.refuse_origin(websocket) or self._refuse(websocket, caller)
        if refusal is not None or caller is None:
            await websocket.send_denial_response(refusal or PlainTextResponse("refused", 401))
            return
        connection = Connection(caller, self.limits, lambda: self.status(caller), self.stop)
        self._connections.add(connection)
        self._stay()
        self._door.note("connect", token=caller.name, address=caller.address)
        try:
            await websocket.accept(subprotocol=SUBPROTOCOL)
            await connection.serve(websocket)
        finally:
            self._connections.discard(connection)
            self._door.note("disconnect", token=caller.name, address=caller.address)
            self._wait_for_clients()

    def status(self, caller: Caller | None = None) -> dict[str, Any]:
        """The answer to `status`; who has a named token is told no process and no folder."""
        found = {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._began, 1),
            "clients": len(self._connections),
            **self.scheduler.status(),
        }
        if caller is not None and caller.account is not None:
            found |= {"pid": None, "last": None, "worker": {**found["worker"], "pid": None}}
            found["model"] = {**found["model"], "name": model_name(self.scheduler)}
        return found

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

    def caller(self, connection: HTTPConnection, via: str) -> Caller | None:
        """Who shows a token that is known; None, and a line in the audit log, if nobody is."""
        token, accounts = token_of(connection), self._sharing.accounts
        address = address_of(connection, self._sharing.behind_proxy)
        if hmac.compare_digest(token.encode(), self._token.encode()):
            return Caller(self._door, None, address, via)
        account = accounts.find(token) if accounts is not None else None
        if account is None:
            self._door.refuse(address, via, "no token" if not token else "unknown token")
            return None
        return Caller(self._door, account, address, via)

    def refuse_origin(self, connection: HTTPConnection) -> Response | None:
        """The refusal of a browser's page, unless its origin is allowed by name."""
        origin = connection.headers.get("origin")
        if origin is None or origin in self._origins:
            return None
        return PlainTextResponse("this origin is not allowed", 403)

    def _refuse(self, websocket: WebSocket, caller: Caller | None) -> Response | None:
        """The refusal of a websocket that may not connect."""
        if len(self._connections) >= self.limits.connections:
            return PlainTextResponse(f"the daemon has its {self.limits.connections} clients already", 503)
        if caller is None:
            return PlainTextResponse("the token is missing or wrong", 401, {"WWW-Authenticate": "Bearer"})
        if self._door.closing:
            return PlainTextResponse("the daemon is stopping", 503, {"Retry-After": "1"})
        same = sum(one.caller.account == caller.account for one in self._connections)
        if caller.account is not None and same >= self.limits.connections_each:
            sentence = f"this token has its {self.limits.connections_each} connections already"
            return PlainTextResponse(sentence, 429, {"Retry-After": "1"})
        if SUBPROTOCOL not in websocket.scope["subprotocols"]:
            return PlainTextResponse(f"the websocket subprotocol must be {SUBPROTOCOL}", 400)
        return None

    def _broadcast(self, progress: Progress) -> None:
        """Tell every client how loading the model goes."""
        told = notification_text("progress", asdict(progress))
        named = notification_text("progress", {**asdict(progress), "model": model_name(self.scheduler)})
        for connection in self._connections:
            connection.outbox.put(told if connection.caller.account is None else named)

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
