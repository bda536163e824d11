"""The daemon's worker where the model runs on a cluster: what it is told to do, replicas do.

A replica that dies takes nothing with it but time: its fills are asked of another. An answer does not depend on which
replica gave it, so nothing is lost or answered twice.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from model_runtime.cluster.deploying import APP, join, load_ray
from model_runtime.protocol import DiffillError, FillResult, HoleFill, ModelError, to_json

ATTEMPTS = 3
NEAR = 2000  # characters at a document's start that tell it from others where it has no path
LOG = logging.getLogger("diffill.cluster")


class ClusterWorker:
    """Speaks as a worker process does; `load` waits until the cluster serves, whatever the model's name."""

    pid: int | None = None

    def __init__(self, address: str):
        self._address = address
        self._handle: Any = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._say: Callable[[dict[str, Any]], None] = lambda message: None

    async def start(self, on_message: Callable[[dict[str, Any]], None], on_exit: Callable[[int], None]) -> None:
        """Begin; a cluster that leaves later is told with each fill."""
        self._say = on_message

    def send(self, message: dict[str, Any]) -> None:
        """Take `load`, `fill`, `rewrite` or `cancel`."""
        number = message["job"]
        if message["do"] == "cancel":
            if number in self._tasks:
                self._tasks[number].cancel()
            return
        work = self._load(number) if message["do"] == "load" else self._serve(number, message)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[number] = task
        task.add_done_callback(functools.partial(self._over, number, message))

    def _over(self, number: int, message: dict[str, Any], task: asyncio.Task[None]) -> None:
        """Forget a job; answer one that failed, and a fill that was cancelled, even before its task had begun."""
        self._tasks.pop(number, None)
        if task.cancelled():
            if message["do"] != "load":
                self._say({"job": number, "result": to_json(cancelled(message["request"]))})
        elif (error := task.exception()) is not None:
            LOG.error("job %d: %s", number, type(error).__name__)
            self._say({"job": number, "error": "internal", "message": type(error).__name__})

    async def stop(self) -> None:
        """Leave; what runs on the cluster goes on running, for others."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _load(self, number: int) -> None:
        """Find the deployment."""
        start = time.perf_counter()
        try:
            self._handle = await asyncio.to_thread(find, self._address)
        except DiffillError as error:
            self._say({"job": number, "error": "model", "message": str(error)})
            return
        self._say({"job": number, "loaded": round((time.perf_counter() - start) * 1000, 1)})

    async def _serve(self, number: int, message: dict[str, Any]) -> None:
        """Ask replicas until one has answered."""
        request, begun = message["request"], time.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            if attempt > 1 and request["deadline_ms"] is not None:
                left = request["deadline_ms"] - (time.monotonic() - begun) * 1000
                message = {**message, "request": {**request, "deadline_ms": max(1.0, left)}}
            try:
                await self._ask(number, message)
                return
            except lost() as error:
                LOG.warning("job %d: attempt %d: %s", number, attempt, type(error).__name__)
        self._say({"job": number, "error": "model", "message": "replicas of the model keep dying"})

    async def _ask(self, number: int, message: dict[str, Any]) -> None:
        """Hand on what one replica says."""
        document = document_of(message["request"])
        stream = self._handle.options(stream=True).work.remote(document, json.dumps(message))
        try:
            async for said in stream:
                self._say({**json.loads(said), "job": number})
        except asyncio.CancelledError:
            stream.cancel()
            raise


def find(address: str) -> Any:
    """The deployment's handle, on a cluster that is joined for it; ModelError if nothing is deployed there."""
    join(address)
    try:
        return load_ray().serve.get_app_handle(APP)
    except Exception as error:  # RayServeException, and those of a cluster that is gone
        raise ModelError("no model runs on the cluster: diffill cluster deploy puts one there") from error


def lost() -> tuple[type[BaseException], ...]:
    """The errors that say a replica is gone, and its fill with it."""
    ray = load_ray()
    return (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.ObjectLostError)


def document_of(request: dict[str, Any]) -> str:
    """What tells the requests of one document from others: a digest of its path, else of its beginning."""
    name = request.get("path") or request["text"][:NEAR]
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()


def cancelled(request: dict[str, Any]) -> FillResult:
    """How a fill ends that was cancelled: nobody waits for it."""
    spans = request.get("holes") or [request["range"]]
    holes = [HoleFill(start, end, "", 0.0, request["length"], []) for start, end in spans]
    timing = {"load": 0.0, "encode": 0.0, "denoise": 0.0, "total": 0.0}
    return FillResult(holes, [], "cancelled", 0, "", request["seed"], timing)
