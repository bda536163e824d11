"""One copy of the model on the cluster: a Ray actor in which the worker's loop runs in a thread."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import queue
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from model_runtime.backends.loading import Loading
from model_runtime.daemon.worker import Cancels, Jobs, load_engine, serve_all, take
from model_runtime.protocol import ModelError

Told = dict[str, Any]


class Replica:
    """Loads a model, and answers what the daemon's worker would answer."""

    def __init__(self, model: str, keep_context: float = 64.0, together: int = 1, loading: Loading | None = None):
        self._jobs: Jobs = queue.SimpleQueue()
        self._cancels: Cancels = {}
        self._numbers = itertools.count(1)
        self._hear: dict[int, Callable[[Told], None]] = {}
        loaded: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._hear[0] = loaded.put
        load = functools.partial(load_engine, keep_context=keep_context, together=together, loading=loading)
        self._thread = threading.Thread(
            target=serve_all, args=(load, self._jobs, self._cancels, self._say), daemon=True
        )
        self._thread.start()
        take({"do": "load", "job": 0, "model": model}, self._jobs, self._cancels)
        said = loaded.get()
        if "error" in said:
            raise ModelError(said["message"])

    async def work(self, document: str, message: str) -> AsyncIterator[str]:
        """Serve a `fill` or `rewrite` of daemon/worker.py; yields its frames and last its result or error, as JSON.

        `document` says no more than which requests belong together. Whoever stops listening cancels.
        """
        number, loop = next(self._numbers), asyncio.get_running_loop()
        inbox: asyncio.Queue[Told] = asyncio.Queue()
        self._hear[number] = lambda said: void(loop.call_soon_threadsafe(inbox.put_nowait, said))
        take({**json.loads(message), "job": number}, self._jobs, self._cancels)
        try:
            while True:
                said = await inbox.get()
                yield json.dumps(said)
                if "frame" not in said:
                    return
        finally:
            take({"do": "cancel", "job": number}, self._jobs, self._cancels)
            del self._hear[number]

    def check_health(self) -> None:
        """Ray asks now and then, and replaces a replica that raises."""
        if not self._thread.is_alive():
            raise RuntimeError("the model's thread has ended")

    def _say(self, said: Told) -> None:
        """What the model's thread has to tell; nobody may be there any more to hear it."""
        hear = self._hear.get(said["job"])
        if hear is not None:
            hear(said)


def void(_: Any) -> None:
    """Nothing."""
