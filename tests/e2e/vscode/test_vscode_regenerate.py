"""Writing code anew: a preview first, and one undo takes it all back."""

from __future__ import annotations

import re

import pytest
import tasks
from codeserver import wait_until
from playwright.sync_api import expect
from previewed import Preview


@pytest.fixture
def text(plain):
    """A file with a function that the model writes anew."""
    return tasks.function(plain)


@pytest.fixture
def preview(window, text):
    """The preview of the file's first function, complete."""
    file = f"{window.name}.py"
    window.write(file, text)
    window.show(file, 2, 5)
    window.run("Diffill: Regenerate Function")
    shown = Preview(window)
    shown.wait("strong")
    window.shot("preview")
    return shown


def test_accept_and_undo(window, text, preview):
    proposed = preview.text()
    window.run("Diffill: Accept Preview")
    preview.wait_closed()
    window.shot("accepted")
    window.save()
    after = window.on_disk(f"{window.name}.py").decode()
    assert after != text
    assert after.split("\n") == proposed
    assert after.endswith("\n\ndef after(value):\n    return value\n")
    window.press("Control+z")
    wait_until(lambda: window.lines(window.editor(f"{window.name}.py")) == text.split("\n"), "the undo")
    window.shot("undone")
    window.save()
    assert window.on_disk(f"{window.name}.py").decode() == text


def test_discard_leaves_the_file(window, text, preview):
    window.press("Escape")
    preview.wait_closed()
    window.shot("discarded")
    expect(window.page.locator(".tab.dirty")).to_have_count(0)
    assert window.on_disk(f"{window.name}.py").decode() == text


def test_stronger_weaker_and_again(window, text, preview):
    window.run("Diffill: Weaker")
    preview.wait("medium")
    window.shot("medium")
    window.run("Diffill: Stronger")
    first = preview.wait("strong")
    window.run("Diffill: Try Again")
    window.shot("again")
    preview.wait("strong", other_than=first)
    window.run("Diffill: Discard Preview")
    preview.wait_closed()
    assert window.on_disk(f"{window.name}.py").decode() == text


def test_the_lightbulb_offers_it(window, text):
    file = f"{window.name}.py"
    window.write(file, text)
    window.show(file, 2, 5)
    window.press("Control+.")
    offered = window.page.locator(".action-widget").get_by_text(re.compile("Regenerate function"))
    offered.first.wait_for()
    window.shot("offered")
    offered.first.click()
    preview = Preview(window)
    preview.wait()
    window.shot("preview")
    window.press("Escape")
    preview.wait_closed()
