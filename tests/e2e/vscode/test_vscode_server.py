"""A server elsewhere instead of this machine's model: connected to by hand, over TLS, and left again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tasks
from codeserver import wait_until
from playwright.sync_api import TimeoutError, expect

sys.path.insert(0, str(Path(__file__).parents[2] / "daemon"))

import certificates

from model_runtime.daemon import accounts


@pytest.fixture
def team(tmp_path_factory, server):
    """A server with TLS of an authority of its own, and a named token: address, token, authority, audit log."""
    folder = tmp_path_factory.mktemp("team")
    papers = certificates.issue(folder)
    tokens, audit = folder / "tokens.json", folder / "audit.jsonl"
    token = accounts.create(tokens, "ann")
    options = ["--tls-certificate", papers.certificate, "--tls-key", papers.key, "--tokens", tokens, "--audit", audit]
    process = subprocess.Popen(
        [sys.executable, "-m", "model_runtime", "serve", "--ready", *map(str, options)],
        env={**server.environment, "DIFFILL_RUNTIME_DIR": str(folder / "runtime")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    port = json.loads((folder / "runtime" / "daemon.json").read_text())["port"]
    yield f"wss://localhost:{port}", token, papers.authority, audit
    process.terminate()
    process.wait(60)
    process.stdout.close()


def answer(window, label, text):
    """Write into the box that asks for something, and go on."""
    box = window.page.locator(".quick-input-widget").filter(has_text=label)
    box.wait_for()
    box.locator("input.input").first.fill(text)
    window.press("Enter")


def fills(audit):
    return sum('"event": "fill"' in line for line in audit.read_text().splitlines())


def test_a_window_asks_a_server_and_this_machine_again(start_server, open_window, plain, team):
    address, token, authority, audit = team
    host = address.removeprefix("wss://")
    place = tasks.place(plain)
    own = start_server()
    window = open_window(own, {"store.py": place.before}).open("store.py", place.line + 1, place.column + 1).ready()

    window.run("Diffill: Connect to a Server")
    answer(window, "Its address", "http://localhost")
    expect(window.page.locator(".quick-input-widget")).to_contain_text("The address begins with wss://")
    answer(window, "The address begins", address)
    answer(window, "Your token", token)
    window.shot("asked")
    window.page.locator(".monaco-dialog-box .monaco-button").filter(has_text="Connect").click()
    told = window.notice("cannot be trusted")
    told.wait_for()
    window.shot("untrusted")
    told.locator(".monaco-button").filter(has_text="Authority").click()
    box = window.page.locator(".quick-input-widget input.input").first
    row = window.page.locator(".quick-input-list .monaco-list-row").filter(has_text=authority.name)

    def picked():  # what is written before the dialog has its first folder is lost
        box.fill(f"{authority.parent}/")
        try:
            row.click(timeout=5000)
        except TimeoutError:
            return False
        return True

    wait_until(picked, "the authority's file in the dialog", 60)
    wait_until(lambda: f"{host} is asked" in window.status(), "the status to name the server")
    window.shot("connected")

    window.focus("store.py")
    before = fills(audit)
    window.type(place.key)
    assert window.wait_ghost()
    window.shot("suggested")
    assert fills(audit) > before

    window.run("Diffill: Use This Machine's Model")
    wait_until(lambda: host not in window.status(), "the status to name this machine")
    window.ready()
    window.focus("store.py")
    window.press("Escape", "Backspace")
    window.wait_no_ghost()
    before = fills(audit)
    window.type(place.key)
    assert window.wait_ghost()
    assert fills(audit) == before
    logs = "".join(path.read_text(errors="replace") for path in own.home.rglob("*.log"))
    assert "iffill" in logs
    assert token not in logs
