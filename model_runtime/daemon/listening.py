"""Where the daemon listens: uvicorn with our patience, our TLS, and signals that ask before they end anything."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from model_runtime.daemon.addresses import HOST
from model_runtime.daemon.connection import Limits
from model_runtime.daemon.patience import firm, hasty


class Listener(uvicorn.Server):
    """A server that on a signal asks instead of hanging up on everybody; it ends once `should_exit` is set."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], None]):
        super().__init__(config)
        self._loop, self._on_signal = asyncio.get_running_loop(), on_signal

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called in between anything at all: what is to be done is done by the event loop."""
        self._loop.call_soon_threadsafe(self._on_signal)


def make_listener(app: Any, limits: Limits, context: ssl.SSLContext | None, on_signal: Callable[[], None]) -> Listener:
    """A server for an application, with the daemon's limits, and with TLS if there is a context."""
    config = uvicorn.Config(
        app,
        http=hasty(limits.first_request_s, limits.dropped_s, limits.unread_s),
        ws=firm(limits.close_s),
        ws_max_size=limits.frame,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
        ssl_context_factory=None if context is None else lambda config, default: context,
    )
    return Listener(config, on_signal)


def listen(port: int = 0, host: str = HOST) -> socket.socket:
    """A listening socket, on loopback unless told otherwise; OSError if that cannot be."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family)
