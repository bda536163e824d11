"""What a real editor should have in the end: the same asked by a client of our own, its edits applied by hand."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editor import PATIENCE, Editor, RequestFailed, insertion

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"<!-- config: (?P<name>[\w-]+) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL)
numbers = itertools.count()

# Characters that take one, two and four bytes, one and two units of UTF-16, and marks that combine.
HEAD = """\
\"\"\"Größen und 😀, e\u0301.\"\"\"


def named(name, items):
    label = "👩‍🚀 " + name; total = len(items)
    return label, total
"""
# What a small model may have something to say about; which of them it fills well is for it to tell.
SKETCHES = (
    "    def remove(self, name, count):\n        if count < 0:\n            <FILL>\n        self.items[name] = 0\n",
    "    def read(self):\n        with open(self.path) as file:\n            <FILL>\n        return self.items\n",
    "    def __init__(self, path, items):\n        self.path = path\n        self.items = <FILL>\n",
    "    def close(self):\n        <FILL>\n",
    "    def total(self):\n        return sum(<FILL>)\n",
    "    def later(self, items):\n        ...\n",
)
STYLES: dict[str, Callable[[str], str]] = {
    "lf": lambda text: text,
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "mixed": lambda text: text.replace("\n\n\n", "\r\n\n\r\n"),
}


def sketched(plain: Editor) -> str:
    """A file with holes, at least two of which the model fills."""
    for first, second in itertools.permutations(SKETCHES, 2):
        text = f"{HEAD}\n\nclass Store:\n{first}\n{second}"
        try:
            if len(edits_of(plain, text, "diffill.fillHoles")) == 2:
                return text
        except RequestFailed:
            continue  # filtered
    raise AssertionError("the model fills no two of these holes")


def configuration(name: str) -> str:
    """A block of docs/editors.md, as a user would copy it."""
    page = (ROOT / "docs" / "editors.md").read_text(encoding="utf-8")
    return next(found["text"] for found in BLOCK.finditer(page) if found["name"] == name)


def offset_of(text: str, place: dict[str, int]) -> int:
    """Where a position lies that counts lines by LF and columns in units of UTF-16."""
    line_start = 0
    for _ in range(place["line"]):
        line_start = text.index("\n", line_start) + 1
    units, offset = place["character"], line_start
    while units > 0:
        units -= 2 if text[offset] > "\uffff" else 1
        offset += 1
    assert units == 0, "a position within a character"
    return offset


def apply_edits(text: str, edits: list[dict[str, Any]]) -> str:
    """The text after edits, which all lie in the text as it is."""
    placed = [
        (offset_of(text, edit["range"]["start"]), offset_of(text, edit["range"]["end"]), edit["newText"])
        for edit in edits
    ]
    for start, end, new in sorted(placed, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def edits_of(plain: Editor, text: str, command: str, task: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The edits that one of our commands makes of a text."""
    uri = f"file:///expected/{next(numbers)}/store.py"
    plain.open(uri, text)
    try:
        edit = plain.ask("workspace/executeCommand", {"command": command, "arguments": [{"uri": uri, **(task or {})}]})
    finally:
        plain.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    (changes,) = edit["documentChanges"]
    return changes["edits"]


def after_command(plain: Editor, text: str, command: str, task: dict[str, Any] | None = None) -> str:
    """The text after one of our commands."""
    return apply_edits(text, edits_of(plain, text, command, task))


REWRITABLE = (
    'label = "👩‍🚀 " + name; total = len(items)',
    'label = "👩‍🚀", len(items)',
    'label = "👩‍🚀"; items = [name for name in items]',
    'label = "👩‍🚀"; print(name, items)',
)


def rewritten(plain: Editor) -> tuple[str, int, int, str]:
    """A text, the offsets of its second line behind the indentation, and the text with that line written anew."""
    for line in REWRITABLE:
        text = f"def named(name, items):\n    {line}\n    return label, items\n"
        start = text.index(line)
        units = len(line.encode("utf-16-le")) // 2
        span = {"start": {"line": 1, "character": 4}, "end": {"line": 1, "character": 4 + units}}
        try:
            wanted = after_command(plain, text, "diffill.regenerateSelection", {"range": span})
        except RequestFailed:
            continue  # filtered
        return text, start, start + len(line), wanted
    raise AssertionError("the model writes none of these lines anew")


# Where a suggestion may come by itself: the bar is the cursor, the character before it the last one typed.
TYPED = (
    "import os\nimport sys\n\n\ndef main():\n    path = os.|\n",
    "class Point:\n    def __init__(self, x, y):\n        self.x = x\n        self.y =|\n",
    "def total(prices):\n    result = 0\n    for price in prices:\n        result +=|\n    return result\n",
    "names = []\nfor name in|\n    names.append(name)\n",
    "def area(width, height):\n    return|\n",
    "def read(path):\n    with open(path) as file:\n        return|\n",
)


@dataclass(frozen=True)
class Suggested:
    """A file before a key, the key and its place (line, column in characters), the file once all is accepted."""

    before: str
    key: str
    line: int
    column: int
    accepted: str


def suggested(plain: Editor) -> Suggested:
    """A place where a suggestion comes by itself."""
    for marked in TYPED:
        text = f"# 😀\n{marked.replace('|', '')}"
        at = marked.index("|") + len("# 😀\n")
        before, key = text[: at - 1] + text[at:], text[at - 1]
        line, column = text[:at].count("\n"), at - text.rfind("\n", 0, at) - 1
        uri = f"file:///expected/{next(numbers)}/typed.py"
        plain.open(uri, before)
        plain.change(uri, 2, insertion(line, column - 1, key))
        answer = plain.complete(uri, line, column, invoked=False)[1].result(PATIENCE)
        plain.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        if answer and answer["items"]:
            item = answer["items"][0]
            accepted = apply_edits(text, [{"range": item["range"], "newText": item["insertText"]}])
            return Suggested(before, key, line, column - 1, accepted)
    raise AssertionError("no place gets a suggestion by itself")
