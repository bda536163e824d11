"""jsonl: one value a line. Only a newline ends one: a text may hold the other line ends that `str.splitlines` knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def parse_jsonl(data: bytes) -> list[Any]:
    """The values of a jsonl file's bytes; ValueError where one is none."""
    return [json.loads(line) for line in data.split(b"\n") if line.strip()]


def read_jsonl(path: Path) -> list[Any]:
    """The values of a jsonl file."""
    return parse_jsonl(path.read_bytes())
