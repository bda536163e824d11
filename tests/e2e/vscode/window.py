"""One window of VS Code in the browser: what a person does in it, and what they see."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import places
from codeserver import CodeServer, wait_until
from playwright.sync_api import Browser, BrowserContext, Locator, Page, TimeoutError, expect, sync_playwright

SECONDS = 30  # how long anything may take on a busy machine
NOWHERE = (480, 792)  # for the mouse, where no hover opens: an empty part of the status bar
expect.set_options(timeout=SECONDS * 1000)

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # nothing leaves this machine
)

# Ghost text on the page from top to bottom: the first line's is split into a span for each token, the lines below
# it stand in a block of their own.
GHOST = """() => {
  const found = [...document.querySelectorAll('.monaco-editor [class*="ghost-text"]')].filter(
    (one) => one.getClientRects().length && !one.parentElement.closest('[class*="ghost-text"]'));
  const rows = new Map();
  for (const one of found) {
    const top = Math.round(one.getBoundingClientRect().top);
    rows.set(top, [...(rows.get(top) ?? []), one]);
  }
  const left = (one) => one.getBoundingClientRect().left;
  return [...rows].sort((a, b) => a[0] - b[0]).map(
    ([, spans]) => spans.sort((a, b) => left(a) - left(b)).map((one) => one.textContent).join("")).join("\\n");
}"""

# The lines of an editor from top to bottom, without what decorations and ghost text add behind or in them.
LINES = """(box) => {
  const ours = (span) => !/ghost-text|ced-.*-(after|before)/.test(span.className);
  return [...box.querySelectorAll(':scope > .view-line')]
    .sort((a, b) => parseFloat(a.style.top) - parseFloat(b.style.top))
    .map((line) => [...line.querySelectorAll(':scope > span > span')].filter(ours).map((s) => s.textContent).join(''));
}"""

# A mark with a background, and not the frame around a hole.
TINTED = """(mark) => {
  const style = getComputedStyle(mark);
  return style.backgroundColor !== 'rgba(0, 0, 0, 0)' && style.borderTopStyle === 'none';
}"""


def plain(text: str) -> str:
    """Text as VS Code draws it, with its blanks as blanks."""
    return text.replace("\u00a0", " ").replace("\u00b7", " ").replace("\u200b", "").replace("\u200c", "")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a display."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=places.browser(), headless=True, args=list(FLAGS))
        try:
            yield running
        finally:
            running.close()


class Window:
    """A page with a folder open in it."""

    def __init__(self, context: BrowserContext, server: CodeServer, folder: Path, name: str):
        self.page: Page = context.new_page()
        self.page.set_default_timeout(SECONDS * 1000)
        self.server, self.folder, self.name = server, folder, name
        self.shots = 0
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    # -- files

    def open(self, file: str, line: int | None = None, column: int = 1) -> Window:
        """Open the folder with one file in the editor, the cursor at a line and column (from 1), and wait for both."""
        place = f"vscode-remote://127.0.0.1:{self.server.port}{self.folder / file}"
        payload = [["openFile", place]]
        if line is not None:
            payload = [["gotoLineMode", "true"], ["openFile", f"{place}:{line}:{column}"]]
        folder, opened = quote(str(self.folder)), quote(json.dumps(payload))
        self.page.goto(f"http://127.0.0.1:{self.server.port}/?folder={folder}&payload={opened}")
        self.editor(file).wait_for()
        self.focus(file)
        if line is not None:
            self.at(line, column)
        return self

    def write(self, file: str, text: str | bytes) -> Path:
        """Put a file into the folder."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def show(self, file: str, line: int = 1, column: int = 1) -> Window:
        """Open another file of the folder in this window, the cursor at a line and column (from 1)."""
        self.choose("Control+p", f"{self.folder / file}:{line}:{column}", Path(file).name)
        self.editor(file).wait_for()
        self.focus(file)
        self.at(line, column)
        return self

    def close_files(self) -> None:
        """Close all files but the first, without saving, and take them out of the folder."""
        self.press("Escape", "Escape")
        tabs = self.page.locator(".tabs-container .tab")
        while (count := tabs.count()) > 1 or self.page.locator(".tab.dirty").count():
            tabs.last.click()
            self.run("Revert and Close Editor")
            expect(tabs).to_have_count(count - 1)
        for path in self.folder.iterdir():
            if path.name != "start.py" and path.is_file():
                path.unlink()

    def editor(self, file: str) -> Locator:
        """The editor that shows a file of the folder."""
        return self.page.locator(f'.editor-instance .monaco-editor[data-uri$="/{quote(file)}"]').first

    def focus(self, file: str) -> None:
        """Give the keyboard to a file's editor; its cursor stays."""
        self.editor(file).locator("textarea, .native-edit-context").first.focus()
        expect(self.editor(file)).to_have_class(re.compile(r"\bfocused\b"))

    def at(self, line: int, column: int) -> None:
        """Wait until the cursor is there, as the status bar says."""
        expect(self.page.locator(".statusbar-item#status\\.editor\\.selection")).to_contain_text(
            f"Ln {line}, Col {column}"
        )

    def save(self) -> None:
        """Save, and wait until the file is written."""
        self.press("Control+s")
        expect(self.page.locator(".tab.active.dirty")).to_have_count(0)

    def on_disk(self, file: str) -> bytes:
        """A file's bytes."""
        return (self.folder / file).read_bytes()

    def lines(self, editor: Locator) -> list[str]:
        """What an editor draws, line by line from the top: a small file whole."""
        return [plain(line) for line in editor.locator(".view-lines").first.evaluate(LINES)]

    def tinted(self) -> list[Locator]:
        """Where the confidence view marks tokens."""
        marks = self.page.locator(".monaco-editor .view-overlays .cdr[class*='TextEditorDecorationType']")
        return [mark for mark in marks.all() if mark.evaluate(TINTED)]

    def hover(self, mark: Locator) -> None:
        """Rest the mouse on a mark, which lies below the text."""
        box = mark.bounding_box()
        assert box is not None
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)

    # -- keys

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        """Type as a person does: key by key."""
        for line, words in enumerate(text.split("\n")):
            if line:
                self.page.keyboard.press("Enter")
            self.page.keyboard.type(words)

    def choose(self, key: str, text: str, wanted: str) -> None:
        """Open the box at the top with a key, write into it, take the row with the wanted text.

        The box closes when a click of before still moves the focus: then it is opened again.
        """
        row = self.page.locator(".quick-input-list .monaco-list-row").filter(has_text=wanted).first

        def chosen() -> bool:
            self.press(key)
            try:
                self.page.locator(".quick-input-widget input.input").first.fill(text, timeout=3000)
                row.click(timeout=SECONDS * 1000 / 3)
            except TimeoutError:
                return False
            return True

        wait_until(chosen, f"{wanted!r} in the box that {key} opens", 2 * SECONDS)
        self.page.mouse.move(*NOWHERE)

    def run(self, title: str) -> None:
        """Run a command by its title in the command palette."""
        self.choose("F1", f">{title}", title)

    # -- what is seen

    def ghost(self) -> str:
        """The ghost text, "" without one."""
        return plain(self.page.evaluate(GHOST))

    def wait_ghost(self, other_than: str = "", seconds: float = SECONDS) -> str:
        """The ghost text once there is one, and one that stays while the page draws two frames."""

        def settled() -> str:
            first = self.ghost()
            self.page.evaluate("() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")
            return first if first == self.ghost() and first != other_than else ""

        return str(wait_until(settled, lambda: f"ghost text ({self.status()})", seconds))

    def insist(self, key: str) -> str:
        """Type a key, and again as a person does who sees nothing come, until there is ghost text."""
        end = time.monotonic() + 2 * SECONDS
        while True:
            self.type(key)
            try:
                return self.wait_ghost(seconds=6)
            except AssertionError:
                if time.monotonic() > end:
                    raise
                self.press("Backspace")

    def wait_no_ghost(self) -> None:
        """Until no ghost text is drawn."""
        self.page.wait_for_function(f"() => ({GHOST})() === ''")

    def bar(self) -> Locator:
        """Diffill's entry in the status bar."""
        return self.page.locator("#diffill\\.diffill\\.diffill\\.bar, .statusbar-item[id*='diffill']").first

    def status(self) -> str:
        """What that entry says, the hover's lines included."""
        bar = self.page.locator(".statusbar-item[id*='diffill']").first
        return " | ".join((bar.inner_text(), bar.get_attribute("aria-label") or "")) if bar.count() else "no status"

    def wait_state(self, state: str) -> None:
        """Until the status bar says so."""
        expect(self.bar()).to_contain_text(f"Diffill: {state}")

    def ready(self) -> Window:
        """Until suggestions can come."""
        self.wait_state("ready")
        return self

    def notice(self, text: str | re.Pattern[str]) -> Locator:
        """A notification with a text."""
        return self.page.locator(".notification-list-item").filter(has_text=text)

    def shot(self, what: str) -> Path:
        """A picture of the window as it is."""
        self.shots += 1
        path = places.SHOTS / f"{self.name}-{self.shots}-{what}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)
        return path
