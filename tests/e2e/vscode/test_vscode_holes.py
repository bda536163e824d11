"""Filling holes, and how sure the model was of what it filled."""

from __future__ import annotations

import re

import pytest
import tasks
from codeserver import wait_until
from expected import after_command
from playwright.sync_api import expect


@pytest.fixture
def holes(window, plain):
    """A file with three holes whose proposals are shown; its text with all of them filled."""
    text = tasks.three_holes(plain)
    file = f"{window.name}.py"
    window.write(file, text)
    window.show(file)
    window.run("Diffill: Fill Holes in This File")
    lenses(window, 3).wait_for()
    window.shot("proposed")
    return after_command(plain, text, "diffill.fillHoles")


def lenses(window, number):
    """The link that takes a hole of so many."""
    return window.page.locator(".codelens-decoration a").filter(has_text=re.compile(rf"Accept hole 1 of {number} "))


def saved(window):
    """The file as it lies on disk once it is saved."""
    window.save()
    return window.on_disk(f"{window.name}.py").decode()


def accept_all(window):
    """Take all proposals: where one is unsure, tick them in the Refactor Preview, and apply."""
    window.run("Diffill: Accept All Holes")
    links = window.page.locator(".codelens-decoration a")
    panel = window.page.locator(".part.panel")
    apply = panel.locator(".monaco-button").filter(has_text="Apply").first
    wait_until(lambda: apply.is_visible() or not links.count(), "the Refactor Preview, or all to be filled")
    if apply.is_visible():
        for box in panel.locator(".edit-checkbox").all()[1:]:  # the first is the file's
            box.check()
        window.shot("refactor-preview")
        apply.click()
    expect(links).to_have_count(0)
    window.focus(f"{window.name}.py")


def test_one_hole_and_then_all(window, holes):
    lenses(window, 3).click()
    lenses(window, 2).wait_for()
    window.shot("one")
    window.focus(f"{window.name}.py")
    assert len(re.findall(r"<FILL>|\.\.\.", saved(window))) == 2
    accept_all(window)
    window.shot("all")
    assert saved(window) == holes


def test_holes_are_followed_while_typing(window, holes):
    window.focus(f"{window.name}.py")
    window.press("Control+Home")
    window.type("import os\n")
    accept_all(window)
    assert saved(window) == "import os\n" + holes


def test_confidence_is_shown(window, holes):
    window.run("Diffill: Accept This Hole")
    lenses(window, 2).wait_for()
    window.run("Diffill: Toggle Confidence View")
    status = window.page.locator("footer.statusbar")
    status.get_by_text(re.compile(r"confidence view on: \d+ tokens?: \d+ sure")).wait_for()
    marks = wait_until(window.tinted, "the tokens to be tinted")
    window.shot("tinted")
    window.hover(marks[0])
    hover = window.page.locator(".monaco-hover").get_by_text(re.compile(r"\d+ % sure \(\w+\), revealed at step \d+"))
    hover.first.wait_for()
    window.shot("hover")
    window.run("Diffill: Toggle Confidence View")
    status.get_by_text("confidence view off").wait_for()
    assert not window.tinted()
