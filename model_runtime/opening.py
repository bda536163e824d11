"""How a connection is opened: to the daemon of this machine, which is found or started, or to a server elsewhere."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from pathlib import Path

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import InvalidHandshake, InvalidStatus

from model_runtime.daemon.addresses import in_url
from model_runtime.daemon.discovery import DiscoveryError, RuntimeFile, runtime_directory, token_of_environment
from model_runtime.daemon.messages import SUBPROTOCOL
from model_runtime.daemon.starting import find_or_start
from model_runtime.daemon.tls import client_context
from model_runtime.protocol import DiffillError, RequestError
from model_runtime.remote import Remote, trouble_with

MAX_ANSWER = 64 << 20  # bytes
LEAVING_S, LOOK_S = 5.0, 0.02
QUIET = logging.getLogger("diffill.client")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False  # the library's debug lines hold the texts of messages


class RuntimeDown(DiffillError):
    """No daemon can be reached, and none could be started."""


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
            raise RuntimeDown(f"the daemon refused the connection: {told(error)}") from None
        except (OSError, InvalidHandshake) as error:
            if time.monotonic() > end:
                raise RuntimeDown(f"the daemon cannot be reached: {reason(error)}") from None
        await asyncio.sleep(LOOK_S)


async def open_to(found: RuntimeFile) -> ClientConnection:
    """Open a connection to a daemon whose address is known; DiscoveryError without what it takes."""
    try:
        token = token_of_environment() or found.token
        secure = None if found.certificate is None else client_context(Path(found.certificate), check_hostname=False)
    except RequestError as error:  # of the environment or the daemon, not of a request
        raise DiscoveryError(str(error)) from None
    if token is None:
        raise DiscoveryError("the daemon was started with DIFFILL_TOKEN: set the same here")
    address = f"{'ws' if secure is None else 'wss'}://{in_url(found.host)}:{found.port}/"
    return await open_address(address, token, secure)


async def open_remote(server: Remote) -> ClientConnection:
    """Open a connection to a server elsewhere; RuntimeDown with a sentence that says why not."""
    try:
        secure = server.context()
    except RequestError as error:
        raise RuntimeDown(f"the server {server.address} cannot be trusted: {error}") from None
    try:
        return await open_address(server.address, server.token, secure)
    except InvalidStatus as error:
        raise RuntimeDown(f"the server {server.address} refused the connection: {told(error)}") from None
    except ssl.SSLError as error:
        raise RuntimeDown(f"the server {server.address} cannot be trusted: {trouble_with(error)}") from None
    except (OSError, InvalidHandshake) as error:
        raise RuntimeDown(f"the server {server.address} cannot be reached: {reason(error)}") from None


async def open_address(address: str, token: str, secure: ssl.SSLContext | None) -> ClientConnection:
    """Open a websocket with a token, of which nothing is ever said."""
    return await open_websocket(
        address,
        ssl=secure,
        additional_headers={"Authorization": f"Bearer {token}"},
        subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
        compression=None,
        max_size=MAX_ANSWER,
        proxy=None,
        logger=QUIET,
    )


def told(error: InvalidStatus) -> str:
    """What a daemon said with its refusal, or the status of one that said nothing."""
    said = error.response.body.decode(errors="replace").strip()[:200] if error.response.body else ""
    return said or str(error.response.status_code)


def reason(error: BaseException) -> str:
    """An error in a few words."""
    return " ".join(str(error).split())[:200] or type(error).__name__
