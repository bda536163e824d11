"""`diffill serve`: the daemon that editors share, and what to ask of one that runs."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO

from model_runtime import __version__
from model_runtime.commands.options import Parser, real_number, whole_number
from model_runtime.daemon import discovery
from model_runtime.daemon.logs import last_lines, open_log
from model_runtime.protocol import RequestError

EXAMPLES = """\
examples:
  diffill serve              in the foreground; editors start it by themselves
  diffill serve --port 8012 --token-file ~/.diffill-token
                             for editors that are told an address and a token once, and ask as they ask llama.cpp
  diffill serve --token      the token of the one that runs
  diffill serve --status     what the one that runs is doing
  diffill serve --stop       end it, and give its memory back

exit codes: 0 done, 1 none runs (--status, --token), 2 bad use, or one runs already
"""
MOST_CONTEXT_MIB = 1 << 20
IDLE_EXIT_S = 1800.0
LOCK_WAIT_S, STOP_WAIT_S, LOOK_S = 1.0, 15.0, 0.02


def make_parser() -> Parser:
    """Return the parser of `diffill serve`."""
    parser = Parser(
        prog="diffill serve",
        description="Keep a model loaded for every editor of this user, on a loopback port that asks for a token.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--port", type=whole_number, metavar="N", default=0, help="(default: any that is free)")
    parser.add_argument(
        "--model", metavar="NAME|PATH", default="embedded", help="for requests that name none (default: embedded)"
    )
    parser.add_argument(
        "--idle-unload",
        type=real_number,
        metavar="S",
        default=600.0,
        help="give the model's memory back after this time without a fill (default: 600)",
    )
    parser.add_argument(
        "--idle-exit",
        type=real_number,
        metavar="S",
        help="leave after this time without a client (default: 1800; with --port: never)",
    )
    parser.add_argument(
        "--keep-context",
        type=real_number,
        metavar="MIB",
        default=64.0,
        help="memory for context that is encoded already, 0 encodes it all at every key (default: 64)",
    )
    parser.add_argument(
        "--drafts",
        choices=("on", "off"),
        default="off",
        help="on starts a fill from what typing left of a suggestion that it contradicts (default: off)",
    )
    parser.add_argument(
        "--allow-origin", metavar="ORIGIN", action="append", default=[], help="let pages of this origin connect"
    )
    parser.add_argument(
        "--token-file", metavar="FILE", help="ask for the token in this file; it is made if there is none"
    )
    parser.add_argument("--ready", action="store_true", help='print "ready" once it listens, then nothing')
    asking = parser.add_mutually_exclusive_group()
    asking.add_argument("--status", action="store_true", help="print what the daemon that runs is doing, as JSON")
    asking.add_argument("--token", action="store_true", help="print the token of the daemon that runs")
    asking.add_argument("--stop", action="store_true", help="end the daemon that runs")
    asking.add_argument("--log", action="store_true", help="print the end of the daemon's log")
    return parser


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
    if not 0 <= args.port <= 65535:
        raise RequestError(f"--port lies between 0 and 65535, not at {args.port}")
    for name in ("idle_unload", "idle_exit"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            raise RequestError(f"--{name.replace('_', '-')} is above 0 seconds, not {getattr(args, name):g}")
    if not 0 <= args.keep_context <= MOST_CONTEXT_MIB:
        raise RequestError(f"--keep-context lies between 0 and {MOST_CONTEXT_MIB} MiB, not at {args.keep_context:g}")
    lock = take_daemon_lock(folder)
    try:
        return serve(folder, args)
    finally:
        discovery.remove_runtime_file(folder)
        lock.close()


def serve(folder: Path, args: argparse.Namespace) -> int:
    """Serve until stopped; the daemon's lock is held."""
    from model_runtime.catalog.catalog import find_model
    from model_runtime.daemon.process import COMMAND, WorkerProcess
    from model_runtime.daemon.scheduler import Scheduler
    from model_runtime.daemon.server import HOST, Daemon, listen

    model = args.model if args.model == "embedded" else str(find_model(args.model).resolve())
    token, written = discovery.own_token(args.token_file)
    port = args.port
    try:
        listener = listen(port)
    except OSError as error:
        raise RequestError(f"cannot listen on port {port} of {HOST}: {error.strerror}") from None
    port = listener.getsockname()[1]
    discovery.write_runtime_file(folder, discovery.RuntimeFile(HOST, port, written, os.getpid(), __version__))
    ready = args.ready
    open_log(folder / discovery.LOG_FILE, to_terminal=not ready)
    if ready:
        print("ready", flush=True)
        silence()
    else:
        print(f"diffill: listening on {HOST}:{port}; diffill serve --token prints the token", file=sys.stderr)
    for name in ("SIGINT", "SIGTERM"):  # uvicorn ends on them, then raises them again
        signal.signal(getattr(signal, name), lambda *_: None)

    worker = (*COMMAND, "--keep-context", str(args.keep_context))
    idle_exit = None if args.port and args.idle_exit is None else args.idle_exit or IDLE_EXIT_S

    async def run() -> None:
        daemon = Daemon(
            Scheduler(model, lambda: WorkerProcess(worker), idle_unload_s=args.idle_unload, drafts=args.drafts == "on"),
            token,
            args.allow_origin,
            idle_exit_s=idle_exit,
        )
        await daemon.serve(listener)

    asyncio.run(run())
    return 0


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
