"""What is going on is said in words, and what is paused or excluded is left alone."""

from __future__ import annotations

import re

import pytest
import tasks
from codeserver import wait_until
from playwright.sync_api import expect


@pytest.fixture
def place(window, plain):
    """A place where a suggestion comes, open in the window, its key not yet typed."""
    found = tasks.place(plain)
    file = f"{window.name}.py"
    window.write(file, found.before)
    window.show(file, found.line + 1, found.column + 1)
    return found


def test_pause_and_resume(window, place):
    window.run("Diffill: Pause")
    window.wait_state("paused")
    window.type(place.key)
    window.shot("paused")
    assert "nothing is sent to the model" in window.status()
    window.run("Diffill: Resume")
    window.wait_state("ready")
    assert window.ghost() == ""
    window.press("Backspace")
    window.type(place.key)
    window.wait_ghost()
    window.shot("resumed")


@pytest.mark.parametrize("what", ["Language", "File"])
def test_pause_here(window, place, what):
    window.run(f"Diffill: Pause or Resume for This {what}")
    window.wait_state("paused")
    window.type(place.key)
    window.shot("paused")
    assert f"Paused for this {what.lower()}" in window.status()
    window.run(f"Diffill: Pause or Resume for This {what}")
    window.wait_state("ready")
    assert window.ghost() == ""
    window.press("Backspace")
    window.type(place.key)
    window.wait_ghost()


def test_an_excluded_file_gets_nothing_and_says_why(window, plain):
    place = tasks.place(plain)
    window.write(".env", place.before + "name = <FILL>\n")
    window.show(".env", place.line + 1, place.column + 1)
    window.type(place.key)
    window.wait_state("off here")
    window.shot("excluded")
    assert "this file is excluded" in window.status()
    assert window.ghost() == ""
    window.run("Diffill: Fill Holes in This File")
    window.notice("this file is excluded").wait_for()
    window.shot("asked")


def test_the_language_status_says_it(window, place):
    window.type(place.key)
    window.wait_ghost()
    window.page.locator("#status\\.languageStatus").hover()
    detail = window.page.locator(".hover-language-status").filter(has_text="Diffill")
    expect(detail).to_contain_text("Diffill: ready")
    expect(detail).to_contain_text(re.compile(r"embedded · \d+ ms|embedded · \d+\.\d s"))
    window.shot("status")


def test_models_are_listed(window):
    window.run("Diffill: Select Model")
    row = window.page.locator(".quick-input-list .monaco-list-row").filter(has_text="embedded").first
    row.wait_for()
    window.shot("models")
    expect(row).to_contain_text("Apache-2.0")
    window.press("Escape")


def test_the_doctors_report(window):
    window.run("Diffill: Copy Doctor Report")
    window.notice("on the clipboard").wait_for()
    window.shot("doctor")
    report = wait_until(lambda: window.page.evaluate("() => navigator.clipboard.readText()"), "the clipboard")
    assert re.search(r"Diffill extension \d", report)
    assert "onnxruntime" in report


def test_the_log_holds_no_source(window, place):
    window.type(place.key)
    window.wait_ghost()
    window.run("Diffill: Show Log")
    panel = window.page.locator(".part.panel .monaco-editor .view-lines")
    expect(panel).to_contain_text("python")
    window.shot("log")
    names = {word for word in re.findall(r"\w{4,}", place.before) if word not in ("python", "path", "self")}
    logs = "".join(path.read_text() for path in window.server.home.rglob("*iffill*.log"))
    assert "python" in logs
    assert not [name for name in names if re.search(rf"\b{name}\(", logs)]
    window.run("Toggle Panel Visibility")
