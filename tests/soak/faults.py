"""Faults, each with the real language server, the real daemon and the embedded model."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from editor import PATIENCE, Editor, stop_daemon
from processes import mapped

from model_runtime.daemon.discovery import read_runtime_file

FILE = "file:///soak/{}.py"
TEXT = "def area(width, height):\n    return \n\n\nprint(area(2, 3))\n"
WHOLE = {"start": {"line": 1, "character": 11}, "end": {"line": 1, "character": 11}}


def environment(folder: str) -> dict[str, str]:
    """What processes are started with that find each other through a runtime directory."""
    return {**os.environ, "DIFFILL_RUNTIME_DIR": folder}


def daemon_status(values: dict[str, str]) -> dict[str, Any]:
    """What the daemon says of itself."""
    command = [sys.executable, "-m", "model_runtime", "serve", "--status"]
    return json.loads(subprocess.run(command, env=values, capture_output=True, check=True).stdout)


def suggestion(editor: Editor, uri: str) -> tuple[float, bool]:
    """Seconds of an invoked suggestion, and whether the model had its say: a filter may still have hidden it."""
    began = time.perf_counter()
    answer = editor.complete(uri, 1, 11)[1].result(PATIENCE)
    seconds = time.perf_counter() - began
    return seconds, bool(answer) or editor.silence() in ("filtered", "empty", "low_confidence")


def long_fill(editor: Editor, uri: str) -> tuple[int, Future[Any]]:
    """Start a fill of many steps; its id and what will be its answer, once its first frame is there."""
    number, answer = editor.start(
        "diffill/fill",
        {
            "textDocument": {"uri": uri},
            "ranges": [WHOLE],
            "options": {"length": "fixed:64", "steps": 64, "sampler": "entropy", "seed": 1},
            "partialResultToken": uri,
        },
    )
    editor.wait_for("$/progress", lambda params: params["token"] == uri)
    return number, answer


def killed_daemon(rounds: int) -> dict[str, object]:
    """kill -9 of the daemon in the middle of a fill: how long until the next request is answered."""
    seconds, answered, edits = [], 0, 0
    with tempfile.TemporaryDirectory(prefix="diffill-soak-") as folder:
        values = environment(folder)
        editor = Editor("vscode", values)
        for number in range(rounds):
            uri = FILE.format(number)
            editor.open(uri, TEXT)
            suggestion(editor, uri)
            fill, running = long_fill(editor, uri)
            found = read_runtime_file(Path(folder))
            assert found is not None
            began = time.perf_counter()
            os.kill(found.pid, signal.SIGKILL)
            editor.notify("$/cancelRequest", {"id": fill})
            _, shown = suggestion(editor, uri)
            seconds.append(time.perf_counter() - began)
            answered += shown
            running.exception(PATIENCE)  # answered too
        edits = len(editor.all_heard("workspace/applyEdit"))
        once = all(count == 1 for count in editor.answers.values())
        editor.leave()
        stop_daemon(values)
    return {
        "rounds": rounds,
        "answered": answered,
        "worst_s": round(max(seconds), 2),
        "each_answered_once": once,
        "edits": edits,
    }


def out_of_memory(rounds: int) -> dict[str, object]:
    """The model's process may not have another byte: what the request says, and whether the next is served."""
    said, answered = set(), 0
    with tempfile.TemporaryDirectory(prefix="diffill-soak-") as folder:
        values = environment(folder)
        editor = Editor("vscode", values)
        for number in range(rounds):
            uri, text = FILE.format(number), "".join(f"value_{n} = {number}\n" for n in range(3000))
            editor.open(uri, TEXT)
            suggestion(editor, uri)
            pid = daemon_status(values)["worker"]["pid"]
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.prlimit(pid, resource.RLIMIT_AS, (mapped(pid) + 2**20, hard))
            large = FILE.format(f"large_{number}")
            editor.open(large, text)
            end = {"line": 3000, "character": 0}
            params = {"textDocument": {"uri": large}, "ranges": [{"start": end, "end": end}]}
            error = editor.start("diffill/fill", {**params, "options": {"length": "probe"}})[1].exception(PATIENCE)
            said.add(str(error))
            answered += suggestion(editor, uri)[1]
        editor.leave()
        stop_daemon(values)
    return {"rounds": rounds, "answered_after": answered, "said": sorted(said)}


def two_servers(requests: int) -> dict[str, object]:
    """Two language servers that start at the same moment and ask at once: one daemon, every request answered."""
    with tempfile.TemporaryDirectory(prefix="diffill-soak-") as folder:
        values = environment(folder)

        def work(name: str) -> tuple[int, int]:
            editor = Editor(name, values)
            answered = 0
            for number in range(requests):
                uri = FILE.format(f"{name}_{number}")
                editor.open(uri, f"{TEXT}# {number}\n")
                answered += suggestion(editor, uri)[1]
            pid = daemon_status(values)["pid"]
            editor.leave()
            return answered, pid

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(work, ("vscode", "neovim")))
        stop_daemon(values)
    return {
        "requests": 2 * requests,
        "answered": sum(count for count, _ in answers),
        "daemons": len({pid for _, pid in answers}),
    }


@contextlib.contextmanager
def mounted(options: str) -> Iterator[Path | None]:
    """A folder on a file system of its own; None where this user may not mount."""
    with tempfile.TemporaryDirectory(prefix="diffill-soak-") as folder:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        try:
            done = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            done = False
        try:
            yield Path(folder) if done else None
        finally:
            if done:
                subprocess.run(["umount", "-l", folder], check=False)


def runtime_directories() -> dict[str, object]:
    """A runtime directory that is read-only, and one that is full: what the editor is told, once."""
    said: dict[str, object] = {}
    for name, options in (("read_only", "ro,mode=700"), ("full", "size=4k,nr_inodes=1,mode=700")):
        with mounted(options) as folder:
            if folder is None:
                said[name] = "not tried: this user may not mount"
                continue
            editor = Editor("vscode", environment(str(folder)))
            editor.open(FILE.format(name), TEXT)
            for _ in range(2):
                suggestion(editor, FILE.format(name))
            told = [params["message"] for params in editor.all_heard("window/showMessage")]
            said[name] = {
                "silence": editor.silence(),
                "told": [message.replace(str(folder), "DIR") for message in told],
            }
            editor.leave()
    return said
