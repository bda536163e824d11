"""`diffill models pull|import|verify|remove`: models that come to this machine, are looked after, and leave it."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from model_runtime.catalog import store
from model_runtime.catalog.pull import OnProgress, entry_of, import_folder, pull, slug
from model_runtime.commands.describing import memories, offered, told_offer
from model_runtime.commands.machine import readable
from model_runtime.home import at_home
from model_runtime.protocol import RequestError

TELL_S = 0.2  # between two lines of progress for a program


def add_actions(actions: Any) -> None:
    """Add the parsers of the four actions."""
    fetch = actions.add_parser("pull", help="fetch a model by its name; what broke off goes on")
    fetch.add_argument("model", metavar="NAME", help="a name that diffill models list shows")
    fetch.add_argument("--accept-license", action="store_true", help="accept its licence without being asked")
    fetch.add_argument("--revision", metavar="REV", help="another revision than the pinned one")
    take = actions.add_parser("import", help="take a model's folder into the store, without a network")
    take.add_argument("path", metavar="PATH", help="a folder with config.json, tokenizer and safetensors or model.onnx")
    take.add_argument("--name", metavar="NAME", help="what it shall be called (default: the folder's name)")
    take.add_argument("--accept-license", action="store_true", help="accept the licence of a catalog's model")
    check = actions.add_parser("verify", help="compare a model's files with what was fetched")
    check.add_argument("model", metavar="NAME", help="a model's name")
    leave = actions.add_parser("remove", help="delete a model's files")
    leave.add_argument("model", metavar="NAME", help="a model's name")
    for action in (fetch, take, check, leave):
        action.add_argument("--json", action="store_true", help="print JSON, one object a line")


def run_action(args: argparse.Namespace) -> int:
    """Run one of the four actions; the exit code."""
    return {"pull": run_pull, "import": run_import, "verify": run_verify, "remove": run_remove}[args.action](args)


def run_pull(args: argparse.Namespace) -> int:
    """Show licence, size and memory, have the licence accepted once, and fetch."""
    entry = entry_of(args.model)
    if not args.json:
        print(told_offer(offered(entry, memories()), store.models_directory()), file=sys.stderr)
    settle_licence(args.model, args.accept_license)
    with progress(args.json, "fetching") as told:
        folder = pull(entry.name, told, args.revision)
    manifest = store.stored(entry.name)
    assert manifest is not None
    if args.json:
        print(json.dumps({"done": entry.name, "folder": str(folder), "revision": manifest.revision}), flush=True)
    else:
        print(
            f"{entry.name} is in {folder} (revision {manifest.revision})\ntry: diffill fill FILE --model {entry.name}"
        )
    return 0


def run_import(args: argparse.Namespace) -> int:
    """Take a folder into the store."""
    from model_runtime.catalog.entries import BY_NAME

    source = at_home(args.path)
    name = args.name or slug(source)
    if name in BY_NAME:
        settle_licence(name, args.accept_license)
    with progress(args.json, "reading") as told:
        folder = import_folder(source, name, told)
    if args.json:
        print(json.dumps({"done": folder.name, "folder": str(folder)}))
    else:
        print(f"{folder.name} is in {folder}\ntry: diffill fill FILE --model {folder.name}")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Compare sizes and checksums; 1 if any differs."""
    wrong = store.verify(args.model)
    if args.json:
        print(json.dumps({"model": args.model, "whole": not wrong, "problems": wrong}))
    else:
        for sentence in wrong:
            print(sentence)
        print(
            f"{args.model} is damaged: diffill models pull {args.model} after diffill models remove"
            if wrong
            else f"{args.model} is whole"
        )
    return 1 if wrong else 0


def run_remove(args: argparse.Namespace) -> int:
    """Delete a model."""
    if args.model == "embedded":
        raise RequestError("the embedded model is part of diffill; pip uninstall diffill removes it")
    freed = store.remove(args.model)
    print(
        json.dumps({"removed": args.model, "bytes": freed})
        if args.json
        else f"{args.model} removed, {readable(freed)} free"
    )
    return 0


def settle_licence(name: str, given: bool) -> None:
    """Have a licence accepted: by the option, by an answer at the terminal, or earlier. RequestError if it is not."""
    entry = entry_of(name)
    if store.accepted(entry.repository, entry.licence):
        return
    named = entry.licence or "not stated"
    if not given:
        if not sys.stdin.isatty() or not sys.stderr.isatty():
            raise RequestError(
                f"the licence of {name} ({named}: {entry.terms}) has to be accepted: "
                f"read {entry.licence_url}, then give --accept-license"
            )
        print(f"Accept the licence {named} for {entry.title}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise RequestError("the licence was not accepted, so nothing is fetched")
    store.accept(entry.repository, entry.licence)


@contextlib.contextmanager
def progress(as_json: bool, verb: str) -> Iterator[OnProgress]:
    """A function that shows progress: lines of JSON for a program, a bar at a terminal, nothing elsewhere."""
    if as_json:
        last = [0.0]

        def tell(file: str, done: int, total: int) -> None:
            now = time.monotonic()
            if now - last[0] >= TELL_S or done == total:
                last[0] = now
                print(json.dumps({"file": file, "done": done, "total": total}), flush=True)

        yield tell
        return
    if not sys.stderr.isatty():
        yield lambda *told: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(verb, total=None)
        yield lambda file, done, total: shown.update(task, description=file, completed=done, total=total)
