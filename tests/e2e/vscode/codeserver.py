"""A code-server of the test's own: fresh state, the packaged extension, a daemon that nobody else uses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import places

START_SECONDS = 90
STOP_SECONDS = 10
LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)/")

SETTINGS: dict[str, Any] = {
    "diffill.python": sys.executable,
    # whether a suggestion comes shall not hang on how sure this year's model is, nor on how busy this machine
    "diffill.minConfidence": 0,
    "diffill.deadlineMs": 30_000,
    "telemetry.telemetryLevel": "off",
    "update.mode": "none",
    "extensions.autoCheckUpdates": False,
    "extensions.autoUpdate": False,
    "extensions.ignoreRecommendations": True,
    "workbench.enableExperiments": False,
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
    "workbench.colorTheme": "Default Dark Modern",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "chat.disableAIFeatures": True,
    "git.enabled": False,
    "remote.autoForwardPorts": False,
    "files.autoSave": "off",
    "files.hotExit": "off",
    "editor.minimap.enabled": False,
    "editor.cursorBlinking": "solid",
    # typed text goes into the file as it was typed
    "editor.autoIndent": "none",
    "editor.autoClosingBrackets": "never",
    "editor.autoClosingQuotes": "never",
    "editor.wordBasedSuggestions": "off",
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "editor.suggestOnTriggerCharacters": False,
}
# A command that has no key of its own; the palette would hide the ghost text that it is about.
KEYS = [{"key": "ctrl+alt+l", "command": "editor.action.inlineSuggest.acceptNextLine"}]


def wait_until(holds: Callable[[], Any], what: Callable[[], str] | str, seconds: float = 30.0) -> Any:
    """The condition's value as soon as it is true; an AssertionError that says what was waited for."""
    end = time.monotonic() + seconds
    while not (value := holds()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:.0f} s for {what if isinstance(what, str) else what()}")
        time.sleep(0.02)
    return value


def environment(home: Path) -> dict[str, str]:
    """What code-server starts with, and so the language server and the daemon: a home of its own, nothing of ours."""
    ours = ("DIFFILL_", "XDG_", "VSCODE_", "PYTHON", "VIRTUAL_ENV", "PYTEST")
    values = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    values |= {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    values |= {
        "HOME": str(home),
        "PATH": os.pathsep.join((str(places.node().parent), values["PATH"])),
        "EXTENSIONS_GALLERY": '{"serviceUrl":""}',  # no gallery is asked
        "DIFFILL_RUNTIME_DIR": str(home / "run"),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": values.get("OMP_NUM_THREADS", "1"),
    }
    return values


def command(home: Path, extensions: Path) -> list[str]:
    """The beginning of every command line."""
    folders = ("--user-data-dir", str(home / "user"), "--extensions-dir", str(extensions))
    return [str(places.node()), str(places.CODE_SERVER_ENTRY), "--config", str(home / "config.yaml"), *folders]


def install_extension(folder: Path) -> Path:
    """Install the packaged extension into a folder, as a user would; the folder serves many code-servers."""
    home, extensions = folder / "home", folder / "extensions"
    home.mkdir(parents=True)
    done = subprocess.run(
        [*command(home, extensions), "--install-extension", str(places.vsix())],
        env=environment(home),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=START_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    return extensions


class CodeServer:
    """One code-server process and all it starts; `close` ends them whatever happened."""

    def __init__(self, home: Path, extensions: Path, settings: dict[str, Any] | None = None):
        self.home, self.environment = home, environment(home)
        self.runtime = Path(self.environment["DIFFILL_RUNTIME_DIR"])
        self.settings_path = home / "user" / "User" / "settings.json"
        self.settings_path.parent.mkdir(parents=True)
        self.set({**SETTINGS, **(settings or {})})
        self.settings_path.with_name("keybindings.json").write_text(json.dumps(KEYS))
        self.log = home / "code-server.log"
        options = ("--auth=none", "--disable-telemetry", "--disable-update-check", "--disable-workspace-trust")
        options += ("--disable-getting-started-override", "--bind-addr=127.0.0.1:0")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command(home, extensions), *options],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self.port = int(wait_until(self.listening, "code-server to listen", START_SECONDS)[1])
        except BaseException:
            self.close()
            raise

    def listening(self) -> re.Match[str] | None:
        """The line of the log that names the port."""
        said = self.log.read_text()
        assert self.process.poll() is None, said
        return LISTENING.search(said)

    def set(self, settings: dict[str, Any]) -> None:
        """Let settings hold from now on; VS Code watches the file."""
        self.settings = settings
        machine = self.home / "user" / "Machine" / "settings.json"  # read where the machine is not the browser's
        for path in (self.settings_path, machine):
            path.parent.mkdir(parents=True, exist_ok=True)
            written = path.with_suffix(".new")
            written.write_text(json.dumps(settings, indent=1))
            written.replace(path)

    def daemon(self) -> dict[str, Any] | None:
        """What the running daemon says of itself in its file; None without one."""
        path = self.runtime / "daemon.json"
        if not path.exists():
            return None
        told: dict[str, Any] = json.loads(path.read_text())
        return told if is_running(told["pid"]) else None

    def close(self) -> None:
        """End code-server with all of its children, and the daemon."""
        end_group(self.process)
        if told := self.daemon():
            os.kill(told["pid"], signal.SIGTERM)
            wait_until(lambda: not is_running(told["pid"]), "the daemon to leave", STOP_SECONDS)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and the group: kindly first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found += [int(path.parent.name), *children(int(path.parent.name))]
    return found
