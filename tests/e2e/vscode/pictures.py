"""Take the pictures of the extension's README: ghost text, a rewrite, holes, confidence; each cropped and small.

`python pictures.py` writes vscode-extension/images/*.png. What the model writes in them is what it wrote.
"""

from __future__ import annotations

import io
import re

import driven
import places
from PIL import Image
from playwright.sync_api import FloatRect, Locator, expect
from window import Window

MOST_BYTES = 150_000
COLOURS = 128
TRIES = 8
STEADY = 6
SETTINGS = {
    "workbench.activityBar.location": "hidden",
    "workbench.sideBar.visible": False,
    "workbench.editor.showTabs": "none",
    "breadcrumbs.enabled": False,
    "editor.lineHeight": 22,
    "editor.folding": False,
    "editor.stickyScroll.enabled": False,
    "editor.scrollbar.vertical": "hidden",
    "editor.overviewRulerBorder": False,
    "editor.hideCursorInOverviewRuler": True,
    "editor.occurrencesHighlight": "off",
    "editor.renderLineHighlight": "none",
    "editor.lightbulb.enabled": "off",
    "diffEditor.renderSideBySide": True,
    "window.commandCenter": False,
    "workbench.layoutControl.enabled": False,
}

STACK = """\
def first(items):
    if not items:
        raise ValueError("no items")
    return items[0]


def last(items):
    if not items:
        raise
    return items[-1]
"""
HOLES = """\
class Inventory:
    def __init__(self, path, items):
        self.path = path
        self.items = items

    def add(self, name, count):
        if count < 0:
            raise ValueError("count must not be negative")
        self.items[name] = self.items.get(name, 0) + count

    def remove(self, name, count):
        if count < 0:
            <FILL>
        self.items[name] = <FILL>

    def has(self, name):
        return <FILL>
"""
FIND = """\
def find(items, name):
    for item in items:
        if item.name == name:
            return item
    return None
"""


def main() -> None:
    """Take all four."""
    page = {"viewport": {"width": 860, "height": 560}, "device_scale_factor": 2}
    with driven.window(SETTINGS, **page) as window:
        window.write("stack.py", STACK)
        window.open("stack.py", 9, 14).ready()
        window.run("View: Close Primary Side Bar")
        ghost_text(window)
        fill_holes(window)
        regenerate(window)


def ghost_text(window: Window) -> None:
    """A suggestion in grey at the cursor."""
    window.focus("stack.py")
    window.insist(" ")
    keep(window, "ghost-text", lines=10)


def fill_holes(window: Window) -> None:
    """Proposals beside three holes; then all of them taken, tinted by confidence, with the hover of a token."""
    window.write("inventory.py", HOLES)
    window.show("inventory.py", 2)
    window.run("Diffill: Fill Holes in This File")
    window.page.locator(".codelens-decoration a").filter(has_text="Accept hole 1").wait_for()
    keep(window, "fill-holes", lines=22)
    for number in range(window.page.locator(".codelens-decoration a").filter(has_text="Accept hole").count(), 0, -1):
        lens = window.page.locator(".codelens-decoration a").filter(has_text=re.compile(f"Accept hole 1 of {number} "))
        lens.click()
        lens.wait_for(state="detached")
    window.focus("inventory.py")
    window.run("Diffill: Toggle Confidence View")
    window.page.locator("footer.statusbar").get_by_text(re.compile("confidence view on")).wait_for()
    window.hover(window.tinted()[-1])
    window.page.locator(".monaco-hover").get_by_text(re.compile("revealed at step")).first.wait_for()
    keep(window, "confidence", lines=18)
    window.run("Diffill: Toggle Confidence View")


def regenerate(window: Window) -> None:
    """The preview of a rewrite beside the file."""
    window.write("find.py", FIND)
    window.show("find.py", 3, 5)
    window.run("Diffill: Regenerate (Light)")
    told = window.page.locator("footer.statusbar").get_by_text(re.compile("Diffill preview: "))
    told.wait_for()
    for _ in range(TRIES):  # as a person would: until something came that parses
        if "⚠" not in (before := told.inner_text()):
            break
        window.run("Diffill: Try Again")
        expect(told).not_to_have_text(before)
    keep(window, "regenerate", lines=9)


def keep(window: Window, name: str, lines: int) -> None:
    """Save the editor's first lines as a small picture."""
    editor: Locator = window.page.locator(".part.editor").first
    box = editor.bounding_box()
    assert box is not None
    clip: FloatRect = {**box, "height": min(box["height"], 22 * lines + 24)}
    picture = Image.open(io.BytesIO(steady(window, clip)))
    few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    path = places.EXTENSION / "images" / f"{name}.png"
    few.save(path, optimize=True)
    size = path.stat().st_size
    assert size <= MOST_BYTES, f"{name}.png has {size} bytes"
    print(f"{path.relative_to(places.REPOSITORY)}: {few.width} x {few.height}, {size / 1000:.0f} kB")


def steady(window: Window, clip: FloatRect) -> bytes:
    """A picture (PNG) that several in a row are equal to: VS Code draws diffs and colours a while later."""
    row = [window.page.screenshot(clip=clip)]
    while len(row) < STEADY:
        window.page.wait_for_timeout(200)
        shot = window.page.screenshot(clip=clip)
        row = [*row, shot] if shot == row[0] else [shot]
    return row[0]


if __name__ == "__main__":
    main()
