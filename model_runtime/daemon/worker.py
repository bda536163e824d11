"""The process that runs the model, a child of the daemon: reads jobs from stdin, writes frames and results to stdout.

In come `load`, `fill`, `rewrite` and `cancel`; out go `loaded`,
`frame`, `result` and `error`, each with the job's number. Fills that come while others run join them and share their
passes (`engine/batching.py`); how many run at once, the daemon decides by what it sends. Another thread reads, so that
`cancel` is seen between two denoising steps. When stdin ends, the daemon is gone, and so is this process.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol

from model_runtime.backends.failures import ran_out_of_memory
from model_runtime.backends.loading import Loading, add_loading_options, loading_of
from model_runtime.daemon.pipe import pack, receive_one
from model_runtime.daemon.validation import from_json
from model_runtime.engine.batching import Courses
from model_runtime.protocol import (
    FillRequest,
    FillResult,
    Frame,
    ModelError,
    RequestError,
    RewriteRequest,
    to_json,
)

OUT_OF_MEMORY = 77  # exit code


class Model(Protocol):
    """What a worker runs: an Engine, or what a test puts in its place."""

    @property
    def instructed(self) -> bool: ...

    def stream(
        self, request: FillRequest | RewriteRequest, cancel: threading.Event, draft: str
    ) -> Iterator[Frame | FillResult]: ...


Loader = Callable[[str], Model]
Jobs = queue.SimpleQueue[dict[str, Any]]
Cancels = dict[int, threading.Event]
Say = Callable[[dict[str, Any]], None]


def load_engine(model: str, keep_context: float = 64.0, together: int = 1, loading: Loading | None = None) -> Model:
    """Load a model as `diffill fill` does; `keep_context` are the MiB of context that stay between fills."""
    from model_runtime.engine.engine import Engine

    return Engine.load(model, keep_bytes=int(keep_context * (1 << 20)), together=together, loading=loading)


def work(load: Loader, source: BinaryIO, sink: BinaryIO) -> None:
    """Serve the jobs of `source` until the process is ended; answers go to `sink`."""
    jobs: Jobs = queue.SimpleQueue()
    cancels: Cancels = {}
    threading.Thread(target=receive, args=(source, jobs, cancels), daemon=True).start()
    serve_all(load, jobs, cancels, functools.partial(send, sink))


def serve_all(load: Loader, jobs: Jobs, cancels: Cancels, say: Say) -> None:
    """Serve jobs for ever; what there is to tell, `say` is told."""
    model: Model | None = None
    courses = Courses()
    while True:
        for job in arrived(jobs, wait=not len(courses)):
            if job["do"] == "load":
                while len(courses):
                    courses.advance()
                model = None  # two models at once may be more than the memory holds
                model = try_to_load(load, job, say)
                cancels.pop(job["job"], None)
            else:
                courses.start(functools.partial(serve, model, job, cancels, say))
        try:
            courses.advance()
        except Exception as error:  # not a fill's, which sees to its own: there was no room for a thread
            os._exit(OUT_OF_MEMORY if ran_out_of_memory(error) else 1)


def arrived(jobs: Jobs, wait: bool) -> Iterator[dict[str, Any]]:
    """The jobs that came in; if told to `wait`, at least one."""
    with contextlib.suppress(queue.Empty):
        while True:
            yield jobs.get(block=wait)
            wait = False


def try_to_load(load: Loader, job: dict[str, Any], say: Say) -> Model | None:
    """Load a model, and say how it went."""
    try:
        start = time.perf_counter()
        model = load(job["model"])
        ms = round((time.perf_counter() - start) * 1000, 1)
        say({"job": job["job"], "loaded": ms, "instructions": model.instructed})
        return model
    except Exception as error:
        fail(error, job["job"], say)
        return None


def serve(model: Model | None, job: dict[str, Any], cancels: Cancels, say: Say) -> None:
    """Run a fill or a rewrite to its end."""
    number = job["job"]
    try:
        if model is None:
            raise ModelError("no model is loaded")
        kind: type[FillRequest | RewriteRequest] = FillRequest if job["do"] == "fill" else RewriteRequest
        for message in model.stream(from_json(kind, job["request"], "request"), cancels[number], job["draft"]):
            name = "frame" if isinstance(message, Frame) else "result"
            say({"job": number, name: to_json(message)})
    except Exception as error:
        fail(error, number, say)
    finally:
        cancels.pop(number, None)


def fail(error: Exception, number: int, say: Say) -> None:
    """Say what went wrong; where memory ran out, end."""
    if ran_out_of_memory(error):
        os._exit(OUT_OF_MEMORY)  # what the libraries hold by now is in no known state
    say({"job": number, **told(error)})


def receive(source: BinaryIO, jobs: Jobs, cancels: Cancels) -> None:
    """Take in the messages of `source`; end the process with it."""
    while (message := receive_one(source)) is not None:
        take(message, jobs, cancels)
    os._exit(0)


def take(message: dict[str, Any], jobs: Jobs, cancels: Cancels) -> None:
    """Put a job into the queue, or set the cancel of one that is no longer wanted."""
    if message["do"] == "cancel":
        if (event := cancels.get(message["job"])) is not None:
            event.set()
        return
    cancels[message["job"]] = threading.Event()
    jobs.put(message)


def send(sink: BinaryIO, message: dict[str, Any]) -> None:
    """Write one message; a daemon that is gone ends the process."""
    try:
        sink.write(pack(message))
        sink.flush()
    except OSError:
        os._exit(0)


def told(error: Exception) -> dict[str, Any]:
    """An error as the daemon is told of it; of an unexpected one only the kind and the place, which may be logged."""
    if isinstance(error, RequestError):
        return {"error": "request", "message": str(error)}
    if isinstance(error, ModelError):
        return {"error": "model", "message": str(error)}
    return {"error": "internal", "message": place_of(error)}


def place_of(error: BaseException) -> str:
    """The kind of an error and where it was raised: no message, for that may hold source text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_name} ({os.path.basename(code.co_filename)}:{trace.tb_lineno})"  # noqa: PTH119


def run(load: Loader = load_engine) -> None:
    """Serve jobs on stdin and stdout; whatever else prints to stdout is sent to stderr."""
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    work(load, source, sink)


def main() -> None:
    """The process that the daemon starts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep-context", type=float, default=64.0)
    add_loading_options(parser)
    parser.add_argument("--together", type=int, default=1)
    args = parser.parse_args()
    loading = loading_of(args)
    run(functools.partial(load_engine, keep_context=args.keep_context, together=args.together, loading=loading))


if __name__ == "__main__":
    main()
