"""How a client starts the daemon: one client at a time, and only if none runs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import model_runtime
from model_runtime.daemon.discovery import (
    START_LOCK,
    DiscoveryError,
    RuntimeFile,
    daemon_lives,
    find_daemon,
    take_lock,
)

COMMAND = (sys.executable, "-m", "model_runtime", "serve", "--ready")
HOME = Path(model_runtime.__file__).parents[1]  # python -m looks in its working directory first: ours, not the user's
WAIT_S, LOOK_S = 20.0, 0.02


async def find_or_start(folder: Path, start: bool = True, any_version: bool = False) -> RuntimeFile | None:
    """The daemon that runs, or the one that is started here; None if none runs and `start` is false."""
    found = find_daemon(folder, any_version)
    if found is not None:
        return found
    if not start and not daemon_lives(folder):
        return None
    async with turn_to_start(folder):
        end = time.monotonic() + WAIT_S
        while (found := find_daemon(folder, any_version)) is None and daemon_lives(
            folder
        ):  # it is still starting, or leaving
            if time.monotonic() > end:
                raise DiscoveryError(f"a daemon runs but does not say where: end it, and remove the files in {folder}")
            await asyncio.sleep(LOOK_S)
        if found is None and start:
            await start_daemon()
            found = find_daemon(folder)
            if found is None:
                raise DiscoveryError("the daemon ended as soon as it had started; diffill serve --log tells more")
    return found


@asynccontextmanager
async def turn_to_start(folder: Path) -> AsyncIterator[None]:
    """Hold the lock of those who start a daemon."""
    end = time.monotonic() + WAIT_S
    while (lock := take_lock(folder / START_LOCK)) is None:
        if time.monotonic() > end:
            raise DiscoveryError("another program has been starting the daemon for too long; try again")
        await asyncio.sleep(LOOK_S)
    try:
        yield
    finally:
        lock.close()


async def start_daemon() -> None:
    """Start `diffill serve` in a session of its own and return when it listens; DiscoveryError with what it said."""
    flags = 0
    if os.name == "nt":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined]
    process = subprocess.Popen(
        COMMAND,
        cwd=HOME,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        creationflags=flags,
    )
    try:
        said = await asyncio.wait_for(asyncio.to_thread(last_word, process), WAIT_S)
    except asyncio.TimeoutError:
        process.kill()
        raise DiscoveryError(f"the daemon did not start within {WAIT_S:g} s") from None
    finally:
        threading.Thread(target=process.wait, daemon=True).start()  # leaves no zombie while this process lives
    if said != "ready":
        told = said.removeprefix("diffill: ")
        raise DiscoveryError(told or "the daemon ended before it was ready; diffill serve --log tells more")


def last_word(process: subprocess.Popen[bytes]) -> str:
    """The line "ready", or the last line of a process that ended without it."""
    line = ""
    assert process.stdout is not None
    with process.stdout:
        for said in process.stdout:
            line = said.decode(errors="replace").strip() or line
            if line == "ready":
                break
    return line
