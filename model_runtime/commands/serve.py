"""`diffill serve`: the daemon that editors share, and what to ask of one that runs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import IO

from model_runtime import __version__
from model_runtime.backends.loading import as_arguments, loading_of
from model_runtime.commands.serve_options import IDLE_EXIT_S, check, is_shared, make_parser, sharing_of
from model_runtime.daemon import discovery
from model_runtime.daemon.logs import last_lines, open_log
from model_runtime.protocol import RequestError

LOCK_WAIT_S, STOP_WAIT_S, LOOK_S = 1.0, 15.0, 0.02
DESCRIPTORS = 8192  # files and sockets for a team, where the system allows it
AT_CLUSTER = 256  # fills at a time: the replicas have their own queues


def main(argv: list[str]) -> int:
    """Run `diffill serve ARGV…` and return the exit code."""
    args = make_parser().parse_args(argv)
    folder = discovery.runtime_directory()
    if args.log:
        print(last_lines(folder / discovery.LOG_FILE) or "the log is empty")
        return 0
    if args.token:
        return print_token(folder)
    if args.status or args.stop:
        return ask(folder, args.stop)
    check(args)
    lock = take_daemon_lock(folder)
    try:
        return serve(folder, args)
    finally:
        discovery.remove_runtime_file(folder)
        lock.close()


def serve(folder: Path, args: argparse.Namespace) -> int:
    """Serve until stopped; the daemon's lock is held."""
    from model_runtime.catalog.catalog import find_model
    from model_runtime.daemon.addresses import reachable
    from model_runtime.daemon.connection import Limits
    from model_runtime.daemon.listening import listen
    from model_runtime.daemon.process import COMMAND, Worker, WorkerProcess
    from model_runtime.daemon.scheduler import MAX_WAITING, Scheduler
    from model_runtime.daemon.server import Daemon

    model = args.model if args.model == "embedded" else str(find_model(args.model).resolve())
    token, written = discovery.own_token(args.token_file)
    sharing, shared = sharing_of(args), is_shared(args)
    port = args.port
    try:
        listener = listen(port, args.host)
    except OSError as error:
        raise RequestError(f"cannot listen on port {port} of {args.host}: {why(error)}") from None
    port = listener.getsockname()[1]
    certificate = None if sharing.identity is None else str(sharing.identity.certificate)
    host = reachable(args.host)
    discovery.write_runtime_file(
        folder, discovery.RuntimeFile(host, port, written, os.getpid(), __version__, certificate)
    )
    ready = args.ready
    open_log(folder / discovery.LOG_FILE, to_terminal=not ready)
    if ready:
        print("ready", flush=True)
        silence()
    else:
        print(f"diffill: listening on {args.host}:{port}; diffill serve --token prints the token", file=sys.stderr)
        if sharing.accounts is not None and not len(sharing.accounts):
            print(
                f"diffill: nobody has a token in {sharing.accounts.path}: diffill tokens create NAME", file=sys.stderr
            )
    limits = Limits()
    if shared:
        raise_descriptors()
        limits = Limits(connections=1024, requests=256)

    def make_worker() -> Worker:
        if args.cluster is None:
            return WorkerProcess(worker)
        from model_runtime.cluster.worker import ClusterWorker

        return ClusterWorker(args.cluster)

    worker: tuple[str, ...] = (*COMMAND, "--keep-context", str(args.keep_context), "--together", str(args.together))
    worker += tuple(as_arguments(loading_of(args)))
    stays = (args.port or shared) and args.idle_exit is None
    idle_exit = None if stays else args.idle_exit or IDLE_EXIT_S

    async def run() -> None:
        scheduler = Scheduler(
            model,
            make_worker,
            idle_unload_s=args.idle_unload,
            max_waiting=1024 if shared else MAX_WAITING,
            drafts=args.drafts == "on",
            together=args.together if args.cluster is None else AT_CLUSTER,
        )
        daemon = Daemon(scheduler, token, args.allow_origin, limits, idle_exit, sharing, args.grace)
        await daemon.serve(listener)

    asyncio.run(run())
    return 0


def why(error: OSError) -> str:
    """Why a socket cannot be had; Python's own words repeat the address."""
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error.strerror)


def raise_descriptors() -> None:
    """Let the process have as many files and sockets as a team needs; what the system does not allow stays as it is."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def silence() -> None:
    """Let go of the pipe to the program that started the daemon: nobody reads it from now on."""
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def take_daemon_lock(folder: Path) -> IO[bytes]:
    """Take the lock that the daemon holds for life; one who only looks holds it for a moment."""
    end = time.monotonic() + LOCK_WAIT_S
    while (lock := discovery.take_lock(folder / discovery.DAEMON_LOCK)) is None:
        if time.monotonic() > end:
            found = discovery.read_runtime_file(folder)
            where = f" on port {found.port}, process {found.pid}" if found is not None else ""
            raise RequestError(f"a daemon runs already{where}; diffill serve --status tells more")
        time.sleep(LOOK_S)
    discovery.remove_runtime_file(folder)
    return lock


def print_token(folder: Path) -> int:
    """Print the token of the daemon that runs, for editors that want it in their settings."""
    found = discovery.find_daemon(folder, any_version=True)
    if found is None:
        print("no daemon runs", file=sys.stderr)
        return 1
    if found.token is None:
        raise RequestError("the token is the DIFFILL_TOKEN with which the daemon was started; no file has it")
    print(found.token)
    return 0


def ask(folder: Path, stop: bool) -> int:
    """Print the daemon's status, or stop it and wait until it is gone."""
    from model_runtime.client import RuntimeDown, connect

    if discovery.find_daemon(folder, any_version=True) is None:
        print("no daemon runs")
        return 0 if stop else 1

    async def talk() -> None:
        async with await connect(start=False, any_version=True) as client:
            if stop:
                await client.stop()
            else:
                print(json.dumps(await client.status(), indent=2))

    try:
        asyncio.run(talk())
    except RuntimeDown:
        if not stop:
            raise
    end = time.monotonic() + STOP_WAIT_S
    while stop and discovery.daemon_lives(folder):
        if time.monotonic() > end:
            raise RequestError("the daemon was asked to stop and has not; end its process")
        time.sleep(LOOK_S)
    return 0
