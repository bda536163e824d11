"""What goes wrong around the editor: it mends itself, or says once what is wrong."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import tasks
from codeserver import children, is_running, wait_until
from playwright.sync_api import expect


def servers_of(server):
    """The language servers of a code-server's windows."""
    return [pid for pid in children(server.process.pid) if b"\0lsp" in command_line(pid)]


def command_line(pid):
    """A process's words; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def open_at(window, place):
    """Open the place's file."""
    file = f"{window.name}.py"
    window.write(file, place.before)
    window.show(file, place.line + 1, place.column + 1)


def test_the_daemon_is_killed_and_started_again(window, plain):
    place = tasks.place(plain)
    open_at(window, place)
    window.type(place.key)
    window.wait_ghost()
    window.press("Escape", "Backspace")
    window.wait_no_ghost()
    before = window.server.daemon()["pid"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not is_running(before), "the daemon to be gone")
    window.shot("killed")
    window.type(place.key)
    window.wait_ghost(seconds=60)
    window.shot("recovered")
    assert window.server.daemon()["pid"] != before
    window.wait_state("ready")


def test_the_language_server_is_killed_and_started_again(window, plain):
    place = tasks.place(plain)
    open_at(window, place)
    (before,) = servers_of(window.server)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: servers_of(window.server) not in ([before], []), "another server")
    window.ready()
    window.type(place.key)
    window.wait_ghost(seconds=60)
    window.shot("recovered")


def test_two_windows_share_one_daemon(window, open_window, plain):
    place = tasks.place(plain)
    open_at(window, place)
    window.type(place.key)
    shown = window.wait_ghost()
    other = open_window(window.server, {"other.py": place.before})
    other.open("other.py", place.line + 1, place.column + 1).ready()
    other.type(place.key)
    assert other.wait_ghost() == shown
    other.shot("second")
    assert len(servers_of(window.server)) == 2
    files = list(window.server.runtime.glob("daemon*.json"))
    assert len(files) == 1
    pid = window.server.daemon()["pid"]
    daemons = [one for one in all_processes() if b"\0serve\0" in command_line(one) and runs_in(one, window.server)]
    assert daemons == [pid]


def all_processes():
    """Every process of this machine."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def runs_in(pid, server):
    """Whether a process has a server's runtime directory."""
    try:
        return f"DIFFILL_RUNTIME_DIR={server.runtime}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def test_a_bad_python_is_said_once(start_server, open_window):
    window = open_window(start_server(diffill__python="/nowhere/python"), {"file.py": "x = 1\n"})
    window.open("file.py")
    window.wait_state("error")
    message = window.notice("/nowhere/python")
    message.first.wait_for()
    window.shot("error")
    expect(message).to_have_count(1)
    expect(message).to_contain_text("diffill.python")
    assert "/nowhere/python" in window.status()
    window.server.set({**window.server.settings, "diffill.python": sys.executable})
    window.ready()
    window.shot("mended")
