"""The worker that holds the model: started when it is needed, counted when it crashes, ended to give memory back."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from model_runtime.daemon.messages import INTERNAL_ERROR, WORKER_DIED, Progress, RpcError
from model_runtime.daemon.process import Worker
from model_runtime.daemon.worker import OUT_OF_MEMORY
from model_runtime.protocol import ModelError, RequestError

RESTARTS, CRASH_SPAN_S = 3, 300.0  # so many restarts in this time
LOG = logging.getLogger("diffill.host")


class Owner(Protocol):
    """Who a host reports to."""

    def on_loaded(self, model: str, ms: float) -> None:
        """A model is ready."""

    def on_not_loaded(self, model: str, error: Exception) -> None:
        """A model cannot be loaded."""

    def on_message(self, message: dict[str, Any]) -> None:
        """The worker says something about a job."""

    def on_crash(self, error: Exception) -> None:
        """The worker is gone, or cannot be started."""


class Host:
    """At most one worker, with at most one model in it."""

    def __init__(self, owner: Owner, make_worker: Callable[[], Worker], tell: Callable[[Progress], None]):
        self._owner, self._make_worker, self._tell = owner, make_worker, tell
        self._worker: Worker | None = None
        self._starting: asyncio.Task[None] | None = None
        self._loading: tuple[str, int] | None = None  # the model, and the number of the worker's job
        self._numbers = itertools.count(-1, -1)  # those of the scheduler's jobs go up
        self._crashes: deque[float] = deque()
        self.loaded: str | None = None
        self.instructed: dict[str, bool] = {}  # of models loaded so far, where their worker said so

    @property
    def busy(self) -> bool:
        """Whether a worker starts or a model loads."""
        return self._starting is not None or self._loading is not None

    @property
    def pid(self) -> int | None:
        """The worker's process."""
        return self._worker.pid if self._worker is not None else None

    @property
    def running(self) -> bool:
        """Whether there is a worker."""
        return self._worker is not None

    def status(self, default: str) -> dict[str, Any]:
        """The model's and the worker's part of `status`."""
        state = "ready" if self.loaded is not None else "loading" if self.busy else "unloaded"
        name = self.loaded or (self._loading[0] if self._loading is not None else default)
        return {
            "model": {"name": name, "state": state},
            "worker": {"pid": self.pid, "crashes": self.crashes()},
        }

    def ready_for(self, model: str) -> bool:
        """Whether a model is loaded; if not, loading it begins. RpcError if the worker crashed too often."""
        if self.loaded == model:
            return True
        if self.busy:
            return False
        if self._worker is None:
            if self.crashes() > RESTARTS:
                raise RpcError(
                    WORKER_DIED,
                    f"the model process died {self.crashes()} times in {CRASH_SPAN_S / 60:.0f} minutes "
                    "and is not started again before they are over; diffill serve --log",
                )
            self._starting = asyncio.get_running_loop().create_task(self._start(model))
        else:
            self._load(model)
        return False

    def send(self, message: dict[str, Any]) -> None:
        """Tell the worker something."""
        assert self._worker is not None
        self._worker.send(message)

    async def drop(self) -> None:
        """End the worker; its memory is given back when this returns."""
        worker, self._worker = self._worker, None
        had, self.loaded, self._loading = self.loaded, None, None
        if self._starting is not None:
            await asyncio.wait([self._starting])
            worker, self._worker, self._loading = self._worker, None, None
        if worker is not None:
            await worker.stop()
            LOG.info("worker %s was ended", worker.pid)
        if had is not None:
            self._tell(Progress(had, "unloaded"))

    def crashes(self) -> int:
        """How often the worker died lately."""
        now = asyncio.get_running_loop().time()
        while self._crashes and self._crashes[0] < now - CRASH_SPAN_S:
            self._crashes.popleft()
        return len(self._crashes)

    async def _start(self, model: str) -> None:
        """Start a worker, and load the model in it."""
        worker = self._make_worker()
        self._tell(Progress(model, "loading"))
        try:
            await worker.start(lambda message: self._hear(worker, message), lambda code: self._mourn(worker, code))
        except OSError as error:
            LOG.error("the worker cannot be started: %s", type(error).__name__)
            self._starting = None
            self._tell(Progress(model, "failed"))
            self._owner.on_crash(RpcError(WORKER_DIED, "the model process cannot be started"))
            return
        LOG.info("worker %s started", worker.pid)
        self._worker, self._starting = worker, None
        self._load(model, told=True)

    def _load(self, model: str, told: bool = False) -> None:
        """Tell the worker to load a model in the place of the one it has."""
        assert self._worker is not None
        self.loaded, self._loading = None, (model, next(self._numbers))
        if not told:
            self._tell(Progress(model, "loading"))
        self._worker.send({"do": "load", "job": self._loading[1], "model": model})

    def _hear(self, worker: Worker, message: dict[str, Any]) -> None:
        """Take a message of the worker; those of one that was dropped mean nothing."""
        if worker is not self._worker:
            return
        if self._loading is None or message["job"] != self._loading[1]:
            self._owner.on_message(message)
            return
        model, self._loading = self._loading[0], None
        if "error" in message:
            LOG.warning("the model cannot be loaded: %s error", message["error"])
            self._tell(Progress(model, "failed"))
            self._owner.on_not_loaded(model, error_of(message))
            return
        LOG.info("model loaded in %.0f ms", message["loaded"])
        self.loaded = model
        if "instructions" in message:
            self.instructed[model] = message["instructions"]
        self._tell(Progress(model, "ready", message["loaded"]))
        self._owner.on_loaded(model, message["loaded"])

    def _mourn(self, worker: Worker, code: int) -> None:
        """The worker has ended; unless it was dropped, nobody asked it to."""
        if worker is not self._worker:
            return
        LOG.error("worker %s died: %s", worker.pid, ended(code))
        self._crashes.append(asyncio.get_running_loop().time())
        loading, self._worker, self.loaded, self._loading = self._loading, None, None, None
        if loading is not None:
            self._tell(Progress(loading[0], "failed"))
        self._owner.on_crash(RpcError(WORKER_DIED, f"the model process died ({ended(code)})"))


def error_of(message: dict[str, Any]) -> Exception:
    """The exception that an error of the worker means."""
    if message["error"] == "request":
        return RequestError(message["message"])
    if message["error"] == "model":
        return ModelError(message["message"])
    LOG.error("the model failed: %s", message["message"])  # a kind and a place, no text
    return RpcError(INTERNAL_ERROR, f"the fill failed: {message['message']}")


def ended(code: int) -> str:
    """How a process ended, in words."""
    if code == OUT_OF_MEMORY:
        return "out of memory"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
