"""docs/editors.md: its tables hold every setting and reason, and its examples are what the server answers."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from lsp_server.settings import CHECKS, Settings
from lsp_server.silence import REASONS

PAGE = (Path(__file__).parents[2] / "docs" / "editors.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```json\n(.*?)```", re.DOTALL)
SHOP = "def total(items):\n    return result\n\n\ndef first(items):\n    return items[0] + 1\n"


def rows(name: str) -> list[list[str]]:
    """The cells of the table behind a mark."""
    lines = PAGE.split(f"<!-- {name} -->\n")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_setting_stands_there_with_its_default():
    told = {row[0].strip("`"): json.loads(row[1].strip("`")) for row in rows("settings")}
    held = {CHECKS[one.name][0]: getattr(Settings(), one.name) for one in dataclasses.fields(Settings)}
    assert told == {name: list(value) if isinstance(value, tuple) else value for name, value in held.items()}


def test_every_reason_stands_there():
    assert {row[0].strip("`") for row in rows("reasons")} == set(REASONS)


@pytest.mark.parametrize(
    "method", ["diffill/fill", "diffill/rewrite", "diffill/status", "diffill/connect", "diffill/checksum"]
)
def test_examples_are_answered_as_shown(editor, uri, method):
    shown = next(json.loads(text) for name, text in EXAMPLE.findall(PAGE) if name == method)
    editor.open(uri, SHOP)
    request = json.loads(json.dumps(shown["request"]).replace("file:///project/shop.py", uri))
    answer = editor.ask(method, request)
    assert set(shown["answer"]) <= set(answer)
