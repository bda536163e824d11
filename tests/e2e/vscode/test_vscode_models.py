"""A model is chosen, its licence accepted once, downloaded from a hub on this machine, stopped, and gone on with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from codeserver import wait_until

pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parents[2]))

from hub import Hub
from synthetic import checkpoint

NAME, REPOSITORY, WEIGHTS = "open-dcoder-0.5b", "fredzzp/open-dcoder-0.5B", "model.safetensors"


@pytest.fixture
def hub(tmp_path_factory, monkeypatch):
    """A hub with a tiny checkpoint under the name of a public one, which code-server's processes are told of."""
    running = Hub({REPOSITORY: checkpoint(tmp_path_factory.mktemp("hub"), "open-dcoder-0.5B")})
    monkeypatch.setenv("HF_ENDPOINT", running.address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield running
    running.close()


def choose(window) -> None:
    """Pick the model from the list."""
    window.run("Diffill: Select Model")
    rows = window.page.locator(".quick-input-list .monaco-list-row")
    rows.filter(has_text="embedded").first.wait_for()
    window.shot("models")
    window.page.keyboard.type(NAME)
    row = rows.filter(has_text=NAME).first
    row.wait_for()
    assert "licence" in row.inner_text()
    assert "this machine" in row.inner_text()
    row.click()


def test_a_model_is_downloaded_stopped_and_gone_on_with(start_server, open_window, hub):
    hub.held = {WEIGHTS}
    server = start_server()
    window = open_window(server, {"start.py": "x = 1\n"})
    window.open("start.py").ready()
    choose(window)
    dialog = window.page.locator(".monaco-dialog-box")
    dialog.get_by_text("Licence: not stated").wait_for()
    window.shot("licence")
    assert hub.asked == []  # nothing is fetched before
    dialog.get_by_role("button", name="Accept and Download").click()
    assert hub.reached.wait(60)
    notice = window.notice("downloading Open-dCoder")
    notice.wait_for()
    window.shot("downloading")
    notice.get_by_role("button", name="Cancel").click()
    window.notice("was stopped").wait_for()
    window.shot("stopped")
    hub.go.set()

    choose(window)  # the licence is accepted already
    dialog.get_by_role("button", name="Download").click()
    wait_until(
        lambda: (server.home / "data" / "diffill" / "models" / NAME / "diffill-model.json").exists(), "the model"
    )
    machine = server.home / "user" / "Machine" / "settings.json"  # a setting of the machine, not of the browser's user
    wait_until(lambda: json.loads(machine.read_text() or "{}").get("diffill.model") == NAME, "the setting")
    window.shot("used")
    assert [name for name, _ in hub.asked].count("config.json") == 1  # what was there was not fetched again
