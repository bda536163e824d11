"""Files for the tests. What a model suggests changes with its weights: a client of our own is asked first, and a test
takes the first of several files in which the model has something to say that fits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from editor import PATIENCE, Editor, insertion
from expected import SKETCHES, RequestFailed, edits_of

numbers = itertools.count()
ENDINGS = {"python": "py", "c": "c"}

# The bar is the cursor; the character before it is the key that is typed.
LINES = (
    "def first(items):\n    if not items:\n        raise ValueError('no items')\n    return items[0]\n\n\n"
    "def last(items):\n    if not items:\n        raise |\n    return items[-1]\n",
    "import os\n\n\ndef join(folder, name):\n    path = os.|\n    return path\n",
    "import json\n\n\ndef load(path):\n    with open(path) as file:\n        return json.|\n",
    "class Stack:\n    def __init__(self, items):\n        self.items = |\n        self.size = len(items)\n",
    "class Point:\n    def __init__(self, x, y):\n        self.x = x\n        self.y = |\n",
    "def area(width, height):\n    return |\n",
)
SOURCES = (  # C
    "int first(int *items, int count) {\n  if (count == 0) {\n    return NONE;\n  }\n  return items[0];\n}\n\n"
    "int last(int *items, int count) {\n  if (count == 0) {\n    return |\n  }\n  return items[count - 1];\n}\n",
    "int add(int a, int b) {\n  return a + b;\n}\n\nint sum(int a, int b) {\n  return |\n}\n",
    "for (int i = 0; i < |\n",
    "struct point *place = find(name);\nplace.|\n",
)
SAME = "    with open(path) as file:\n        return file.read()\n\n\n"
BLOCKS = (
    "".join(f"def {name}(path):\n{SAME}" for name in ("red", "green", "blue", "black", "white"))
    + "def grey(path):\n    |\n",
    "class Store:\n    def set_red(self, value):\n        self.red = value\n        self.changed = True\n\n"
    "    def set_green(self, value):\n        self.green = value\n        self.changed = True\n\n"
    "    def set_blue(self, value):\n       |\n",
    "class Stack:\n    def __init__(self, items):\n       |\n",
    "def check(value):\n    if value is None:\n       |\n",
    "def read(path):\n    with open(path) as file:\n       |\n",
)


@dataclass(frozen=True)
class Place:
    """A file, where a key is to be typed in it (from 0), and what is suggested then."""

    before: str
    line: int
    column: int
    key: str
    offers: tuple[str, ...]

    @property
    def typed(self) -> str:
        """The file with the key."""
        return self.with_text(self.key)

    def with_text(self, text: str) -> str:
        """The file with text at the place."""
        lines = self.before.split("\n")
        lines[self.line] = lines[self.line][: self.column] + text + lines[self.line][self.column :]
        return "\n".join(lines)


def place(
    plain: Editor,
    marked_files: Iterable[str] = LINES,
    fits: Callable[[tuple[str, ...]], bool] = lambda offers: True,
    *,
    invoked: bool = False,
    language: str = "python",
    around: Callable[[str], str] = lambda text: text,
) -> Place:
    """The first of the files whose suggestions fit, `around` applied to it; by itself, or `invoked` by hand."""
    for marked in map(around, marked_files):
        at = marked.index("|")
        key, before = marked[at - 1], marked[: at - 1] + marked[at + 1 :]
        line, column = marked.count("\n", 0, at), at - 2 - marked.rfind("\n", 0, at)
        offers = suggestions(plain, before, (line, column, key), invoked, language)
        if offers and fits(offers):
            return Place(before, line, column, key, offers)
    raise AssertionError("the model suggests nothing that fits in any of these files")


def suggestions(
    plain: Editor, before: str, typed: tuple[int, int, str], invoked: bool, language: str
) -> tuple[str, ...]:
    """What is suggested once a key was typed at a line and column, as pure insertions; () for none."""
    line, column, key = typed
    uri = f"file:///asked/{next(numbers)}/store.{ENDINGS[language]}"
    plain.open(uri, before, language)
    plain.change(uri, 2, insertion(line, column, key))
    answer = plain.complete(uri, line, column + 1, invoked)[1].result(PATIENCE)
    plain.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    items = (answer or {}).get("items", [])
    return tuple(item["insertText"] for item in items if item["range"]["start"] == item["range"]["end"])


def words(text: str) -> int:
    """How many words a text has."""
    return len("".join(character if character.isalnum() else " " for character in text).split())


def three_holes(plain: Editor) -> str:
    """A file with three holes, all of which the model fills, and with text that takes two units of UTF-16."""
    for chosen in itertools.permutations(SKETCHES, 3):
        text = '"""A store. 😀"""\n\n\nclass Store:\n' + "\n".join(chosen)
        try:
            if len(edits_of(plain, text, "diffill.fillHoles")) == 3:
                return text
        except RequestFailed:
            continue
    raise AssertionError("the model fills no three of these holes")


FUNCTIONS = (
    "def find(items, name):\n    for item in items:\n        if item.name == name:\n            return item\n"
    "    return None\n",
    "def mean(numbers):\n    total = 0\n    for number in numbers:\n        total += number\n"
    "    return total / len(numbers)\n",
    "def read(path):\n    with open(path) as file:\n        return file.read()\n",
    "def last(items):\n    if not items:\n        return None\n    return items[-1]\n",
)


def function(plain: Editor) -> str:
    """A file with two functions; what the model proposes for the first's body differs from it, at any strength."""
    for text in FUNCTIONS:
        whole = f"{text}\n\ndef after(value):\n    return value\n"
        if all(proposed(plain, whole, strength, seed) for strength, seed in ((1.0, 0), (1.0, 1), (0.6, 0))):
            return whole
    raise AssertionError("the model rewrites none of these functions")


def proposed(plain: Editor, text: str, strength: float, seed: int) -> bool:
    """Whether there is a proposal for the function at the second line."""
    uri = f"file:///asked/{next(numbers)}/store.py"
    plain.open(uri, text)
    place = {"line": 1, "character": 4}
    task = {"uri": uri, "command": "diffill.regenerateFunction", "range": {"start": place, "end": place}}
    try:
        return bool(plain.ask("diffill/propose", {**task, "strength": strength, "seed": seed})["edits"])
    except RequestFailed:
        return False
    finally:
        plain.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
