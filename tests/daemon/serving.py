"""A daemon in this process with a worker whose model needs no weights, and ways to reach it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from pathlib import Path

from websockets.asyncio.client import connect as open_websocket

from model_runtime.daemon.listening import listen
from model_runtime.daemon.messages import SUBPROTOCOL
from model_runtime.daemon.process import WorkerProcess
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.daemon.server import Daemon

TOKEN = "a-token-of-the-tests"
FAKE_COMMAND = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


def run(coroutine, seconds: float = 60.0):
    """Run a test's coroutine; whatever hangs fails."""
    return asyncio.run(asyncio.wait_for(coroutine, seconds))


async def until(condition) -> None:
    """Let the event loop run until something is so; what hangs fails by the time limit of `run`."""
    while not condition():
        await asyncio.sleep(0)


def fake_process() -> WorkerProcess:
    """The real worker process, with a model that needs no weights."""
    return WorkerProcess(FAKE_COMMAND)


@contextlib.asynccontextmanager
async def serving(make_worker=fake_process, send_buffer: int | None = None, **options):
    """A daemon on a port of its own, in this event loop; yields it and its port."""
    daemon = Daemon(Scheduler(make_worker=make_worker), TOKEN, **options)
    listener = listen()
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    task = asyncio.create_task(daemon.serve(listener))
    try:
        yield daemon, listener.getsockname()[1]
    finally:
        await daemon.stop()
        await task


def dial(port: int, token: str | None = TOKEN, origin: str | None = None, subprotocols=(SUBPROTOCOL,), **options):
    """A websocket to a daemon, as any program could open it."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return open_websocket(
        f"ws://127.0.0.1:{port}/",
        additional_headers=headers,
        origin=origin,
        subprotocols=list(subprotocols) or None,
        proxy=None,
        compression=None,
        **options,
    )
