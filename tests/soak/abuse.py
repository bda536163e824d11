"""What nobody should send: how the real daemon bears it, and whether anything of it stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Awaitable, Callable

from load import AT, CODE
from processes import descriptors, megabytes, resident
from serving import dial
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from model_runtime.client import Client
from model_runtime.daemon.discovery import find_daemon, runtime_directory
from model_runtime.protocol import FillRequest

MALFORMED = ("{", "[]", "null", '{"jsonrpc": "2.0", "id": 1, "method": "fill", "params": {"request": 3}}', "[" * 900)


async def bear(client: Client, quick: bool) -> dict[str, object]:
    """Every kind of abuse, then: does the daemon still answer, and has it the descriptors and memory of before?"""
    found = find_daemon(runtime_directory())
    assert found is not None
    assert found.token is not None
    port, token = found.port, found.token
    share = 10 if quick else 1
    kinds: dict[str, tuple[int, Callable[[int, str], Awaitable[None]]]] = {
        "malformed": (2000 // share, malformed),
        "oversize": (20 // share, oversize),
        "wrong_token": (200 // share, wrong_token),
        "foreign_origin": (200 // share, foreign_origin),
        "dies_without_goodbye": (200 // share, dies),
    }
    await malformed(port, token)
    held, memory = descriptors(found.pid), resident(found.pid)
    for count, one in kinds.values():
        for _ in range(count):
            await one(port, token)
    half_open = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
    slow = await slow_reader(port, token)
    began = time.perf_counter()
    result = await client.fill(FillRequest(text=CODE, holes=[(AT, AT)], seed=77))
    answered = (time.perf_counter() - began) * 1000
    for reader, writer in half_open:  # the daemon's patience with them ends by itself
        assert await reader.read() == b""
        writer.close()
    return {
        **{name: count for name, (count, _) in kinds.items()},
        "half_open": len(half_open),
        "slow_reader_dropped": slow,
        "fill_among_them_ms": round(answered, 1),
        "answered": bool(result.holes),
        "descriptors_left": descriptors(found.pid) - held,
        "growth_mb": megabytes(resident(found.pid) - memory),
    }


async def malformed(port: int, token: str) -> None:
    """Messages that are no calls; each gets its error, and the connection stays."""
    async with dial(port, token) as socket:
        for message in MALFORMED:
            await socket.send(message)
            assert "error" in json.loads(await socket.recv())


async def oversize(port: int, token: str) -> None:
    """A message larger than a connection may send."""
    async with dial(port, token, max_size=None) as socket:
        with contextlib.suppress(ConnectionClosed):
            await socket.send("x" * (17 << 20))
            await socket.recv()
            raise AssertionError("a frame of 17 MB was taken")


async def wrong_token(port: int, token: str) -> None:
    """Somebody who guesses."""
    await refused(port, token[::-1] + "x", None)


async def foreign_origin(port: int, token: str) -> None:
    """A page in a browser that knows the token."""
    await refused(port, token, "https://example.org")


async def refused(port: int, token: str, origin: str | None) -> None:
    """A connection that must not come about."""
    try:
        await dial(port, token, origin)
    except InvalidHandshake:
        return
    raise AssertionError("a connection was made that must be refused")


async def dies(port: int, token: str) -> None:
    """A client that is gone in the middle of a fill."""
    client = await dial(port, token)
    request = {
        "text": CODE,
        "holes": [[AT, AT]],
        "length": "fixed:64",
        "sampler": "entropy",
        "steps": 64,
        "cache": "off",
    }
    await client.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "fill", "params": {"request": request}}))
    client.transport.abort()


async def slow_reader(port: int, token: str) -> bool:
    """Whether a client that asks and never reads is dropped."""
    client = await dial(port, token, max_queue=1)
    client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    try:
        for _ in range(100_000):
            await client.send("{" * 900)
    except ConnectionClosed:
        return True
    client.transport.abort()
    return False
