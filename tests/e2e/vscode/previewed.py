"""The preview of a rewrite, as a window shows it."""

from __future__ import annotations

import re

from playwright.sync_api import expect
from window import Window


class Preview:
    """The diff editor of a window."""

    def __init__(self, window: Window):
        self.window = window
        self.side = window.page.locator(".monaco-diff-editor .editor.modified")
        self.tab = window.page.locator(".tab").filter(has_text="proposed by Diffill")

    def wait(self, strength: str = "", other_than: str = "") -> str:
        """Until the proposal is whole; what it says of itself."""
        note = self.window.page.locator("footer.statusbar").get_by_text(
            re.compile(rf"Diffill preview: .*{strength} · ")
        )
        expect(note).not_to_have_text(other_than)
        expect(self.tab).to_be_visible()
        expect(self.side.locator(".monaco-editor")).to_have_class(re.compile(r"\bfocused\b"))
        return note.inner_text()

    def text(self) -> list[str]:
        """The proposal's lines as they are drawn, decorations aside."""
        return self.window.lines(self.side)

    def wait_closed(self, file: str = "") -> None:
        """Until the file's own editor is there again, with the keyboard."""
        expect(self.tab).to_have_count(0)
        self.window.focus(file or f"{self.window.name}.py")
