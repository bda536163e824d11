"""The daemon's end of the worker: starts the process, writes to it, and tells what it says and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from model_runtime.daemon.pipe import pack
from model_runtime.daemon.starting import HOME

LAST_WORDS_S = 5.0
LOG = logging.getLogger("diffill.process")
COMMAND = (sys.executable, "-m", "model_runtime.daemon.worker")


class Worker(Protocol):
    """Runs jobs one after another; the scheduler knows no more of it."""

    pid: int | None

    async def start(self, on_message: Callable[[dict[str, Any]], None], on_exit: Callable[[int], None]) -> None:
        """Begin; `on_exit` is called once, after the last `on_message`, with the exit code."""

    def send(self, message: dict[str, Any]) -> None:
        """Hand over `load`, `fill`, `rewrite` or `cancel`."""

    async def stop(self) -> None:
        """End it now, and return when its memory is given back."""


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, command: Sequence[str] = COMMAND):
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.pid: int | None = None

    async def start(self, on_message: Callable[[dict[str, Any]], None], on_exit: Callable[[int], None]) -> None:
        """Start the process; OSError if the system refuses."""
        # what native libraries print could hold a user's text: it goes nowhere
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=HOME,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self.pid = self._process.pid
        self._reading = asyncio.create_task(self._read(self._process, on_message, on_exit))

    def send(self, message: dict[str, Any]) -> None:
        """Write a message; to a process that has ended, nothing."""
        assert self._process is not None
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(pack(message))

    async def stop(self) -> None:
        """Kill the process and wait for its end."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def _read(
        self,
        process: asyncio.subprocess.Process,
        on_message: Callable[[dict[str, Any]], None],
        on_exit: Callable[[int], None],
    ) -> None:
        """Hand on every message until the process ends."""
        assert process.stdout is not None
        try:
            while True:
                (size,) = struct.unpack(">I", await process.stdout.readexactly(4))
                on_message(json.loads(await process.stdout.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception as error:  # of another version: the package was replaced while the daemon ran
            LOG.error("worker %d says what means nothing here: %s", process.pid, type(error).__name__)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        try:
            # no kill yet: asyncio's would reap a process that has just died, and its exit code would be lost
            code = await asyncio.wait_for(process.wait(), LAST_WORDS_S)
        except asyncio.TimeoutError:  # it closed its output and lives on
            process.kill()
            code = await process.wait()
        on_exit(code)
