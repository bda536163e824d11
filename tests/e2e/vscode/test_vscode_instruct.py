"""Rewrites by instruction: the box that asks, the preview, and what a model that follows none says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from codeserver import children, wait_until
from editor import PATIENCE, Editor
from playwright.sync_api import TimeoutError, expect
from previewed import Preview

pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parents[2]))

from instructed import instructed

ANSWER, OTHER = "return self.value", "print(self)"
BODY = "    size = width * height\n    return size\n"
TEXT = f"def area(width, height):\n{BODY}\n\ndef after(value):\n    return value\n"
FILE = "shapes.py"
ROWS = ".quick-input-list .monaco-list-row"


@pytest.fixture(scope="module")
def following(start_for_module, tmp_path_factory):
    """A server with a model that answers every instruction with ANSWER, and at some seeds with OTHER."""
    model = str(instructed(tmp_path_factory.mktemp("instructed"), ANSWER, OTHER))
    server = start_for_module(diffill__model=model)
    have_loaded(server, model)
    return server


@pytest.fixture
def follower(following, open_window):
    """A window of it, and a file in it with the cursor in a function's body."""
    return open_window(following, {FILE: TEXT}).open(FILE, 2, 5).ready()


def have_loaded(server, model):
    """Have the daemon of a server load a model: with torch that takes longer than a page may."""
    editor = Editor("vscode", server.environment, settings={"model": model})
    uri = "file:///asked/before.py"
    editor.open(uri, TEXT)
    asked = editor.start("diffill/instructions", {"textDocument": {"uri": uri}})[1]
    assert asked.result(5 * PATIENCE) == {"instructions": True}
    editor.close()


@contextlib.contextmanager
def held(server):
    """The model's process stands still: an answer that takes as long as a test wants."""
    workers = children(server.daemon()["pid"])
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)


def box(window, title):
    """The box that asks for an instruction."""
    asking = window.page.locator(".quick-input-widget").filter(has_text=title)
    asking.wait_for()
    return asking.locator("input.input")


def select_body(window):
    """Select what stands in the function."""
    window.press("Shift+ArrowDown", "Shift+End")


def instruct(window, words):
    """Ask for a rewrite; its preview, once it is complete."""
    window.run("Diffill: Rewrite by Instruction")
    asking = box(window, "Rewrite by instruction")
    asking.fill(words)
    window.shot("asked")
    window.press("Enter")
    preview = Preview(window)
    preview.wait(f"“{words}”")
    window.shot("preview")
    return preview


def test_an_instruction_is_followed_accepted_and_undone(follower):
    select_body(follower)
    preview = instruct(follower, "make it shorter")
    wanted = TEXT.replace(BODY, f"    {ANSWER}\n")
    assert preview.text() == wanted.split("\n")
    follower.press("Control+Enter")
    preview.wait_closed(FILE)
    follower.save()
    assert follower.on_disk(FILE).decode() == wanted
    follower.press("Control+z")
    wait_until(lambda: follower.lines(follower.editor(FILE)) == TEXT.split("\n"), "the undo")
    follower.shot("undone")
    follower.save()
    assert follower.on_disk(FILE).decode() == TEXT

    # without a selection it is the whole function, and what was asked before is offered again
    follower.show(FILE, 2, 5)
    follower.run("Diffill: Rewrite by Instruction")
    asking = box(follower, "Rewrite by instruction")
    asking.fill("shorter make")
    rows = follower.page.locator(ROWS)
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("shorter make")  # what was typed comes first
    follower.shot("offered")
    rows.filter(has_text="asked before").click()
    whole = [ANSWER, *TEXT.split("\n")[3:]]
    wait_until(lambda: preview.text() == whole, "the preview of the whole function")
    follower.press("Escape")
    preview.wait_closed(FILE)
    assert follower.on_disk(FILE).decode() == TEXT


def test_other_draws_and_another_instruction(follower):
    select_body(follower)
    preview = instruct(follower, "make it shorter")
    note = ""
    for _ in range(8):  # the model prefers ANSWER, at any seed but the first by little
        note = preview.wait("“make it shorter”", other_than=note)
        if preview.text()[1] == f"    {OTHER}":
            break
        follower.run("Diffill: Try Again")
    assert preview.text() == TEXT.replace(BODY, f"    {OTHER}\n").split("\n")
    follower.shot("another draw")
    follower.run("Diffill: Change Instruction")
    asking = box(follower, "Change the instruction")
    expect(asking).to_have_value("make it shorter")
    asking.fill("use math.pi")
    follower.press("Enter")
    preview.wait("“use math.pi”")
    follower.shot("changed")
    follower.press("Escape")
    preview.wait_closed(FILE)
    assert follower.on_disk(FILE).decode() == TEXT


def test_the_light_bulb_asks_and_who_cancels_need_not_wait(follower):
    offered = follower.page.locator(".action-widget").get_by_text("Rewrite selection by instruction…")

    def open_the_list():
        """It is a list of what the server knew when it was opened, and closes when the focus moves."""
        follower.press("Escape")
        follower.show(FILE, 2, 5)
        select_body(follower)
        follower.press("Control+.")
        with contextlib.suppress(TimeoutError):
            offered.first.wait_for(timeout=5000)
            return True
        return False

    wait_until(open_the_list, "the action in the light bulb's list", 60)
    follower.shot("light bulb")
    offered.first.click()
    asking = box(follower, "Rewrite by instruction")
    with held(follower.server):
        asking.fill("forget it")
        follower.press("Enter")
        notice = follower.notice("Rewriting: “forget it”")
        preview = Preview(follower)
        preview.tab.wait_for()
        follower.shot("at work")
        notice.get_by_role("button", name="Cancel").click()
        preview.wait_closed(FILE)
        expect(notice).to_have_count(0)
    follower.shot("cancelled")
    expect(follower.page.locator(".tab.dirty")).to_have_count(0)
    assert follower.on_disk(FILE).decode() == TEXT
    instruct(follower, "now do it")  # the model is free again


def test_a_model_that_follows_none_says_who_does(window):
    file = f"{window.name}.py"
    window.write(file, TEXT)
    window.show(file, 2, 5)
    window.run("Diffill: Rewrite by Instruction")
    notice = window.notice("the model follows no instructions: embedded only fills holes")
    notice.wait_for()
    expect(notice).to_contain_text("dream-coder-7b-instruct")
    window.shot("refused")
    notice.get_by_role("button", name=re.compile("Select Model")).click()
    rows = window.page.locator(ROWS)
    rows.filter(has_text="dream-coder-7b-instruct").first.wait_for()
    window.shot("models")
    expect(rows.filter(has_text="instruct").first).to_be_visible()
    expect(rows.filter(has_text="embedded")).to_have_count(0)
    expect(rows.filter(has_text="dreamon-7b")).to_have_count(0)
    window.press("Escape")
    assert window.on_disk(file).decode() == TEXT
