"""Rewrites by instruction: the box that asks, the preview, and what a model that follows none says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from codeserver import wait_until
from playwright.sync_api import expect
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
def folder(tmp_path_factory):
    """A model that answers every instruction with ANSWER, and at some seeds with OTHER."""
    return instructed(tmp_path_factory.mktemp("instructed"), ANSWER, OTHER)


@pytest.fixture
def follower(start_server, open_window, folder):
    """A window with that model, and a file in it with the cursor in a function's body."""
    window = open_window(start_server(diffill__model=str(folder)), {FILE: TEXT})
    return window.open(FILE, 2, 5).ready()


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


def test_other_draws_another_instruction_and_cancelling(follower):
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

    follower.write("long.py", "".join(f"def area{n}(width, height):\n{BODY}\n\n" for n in range(60)))
    follower.show("long.py")
    follower.press("Control+a", "Control+.")
    offered = follower.page.locator(".action-widget").get_by_text("Rewrite selection by instruction…")
    offered.first.wait_for()
    follower.shot("light bulb")
    offered.first.click()
    box(follower, "Rewrite by instruction").fill("forget it")
    follower.press("Enter")
    notice = follower.notice("Rewriting: “forget it”")
    notice.wait_for()
    follower.shot("at work")
    notice.get_by_role("button", name="Cancel").click()
    expect(preview.tab).to_have_count(0)
    expect(notice).to_have_count(0)
    expect(follower.page.locator(".tab.dirty")).to_have_count(0)
    follower.wait_state("ready")


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
