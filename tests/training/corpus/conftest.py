"""A small world of sources: a folder of packages, a checkout, rows; and a recipe that reads it in a second."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from training.corpus import report, sources
from training.corpus.recipe import Recipe
from training.recipe import build

QUIET = Console(quiet=True)
WORDS = [a + b for a in ("read", "write", "merge", "split") for b in ("er", "_line", "_all", "s", "_by")]
MIT = """MIT License

Copyright (c) 2026 Nobody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def module(seed: int, functions: int = 6) -> str:
    """A small Python module that shares few word runs with one of another seed."""
    choose = random.Random(seed)
    parts = []
    for number in range(functions):
        a, b, c = (f"{choose.choice(WORDS)}{choose.randrange(1000)}" for _ in range(3))
        parts.append(
            f"def {a}_{number}({b}, {c}=None):\n    if {c} is None:\n        return {b}\n"
            f"    {a} = [{b}[{c}] + {choose.randrange(99)} for {c} in {b}]\n    return {a}, {c}\n\n\n"
        )
    return "".join(parts)


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def recipe_of(**values: Any) -> Recipe:
    """A recipe with a small vocabulary."""
    return build(Recipe, {"tokenizer": {"vocabulary": 500}} | values)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a corpus but the work that it leaves behind and logs; without this checkout's commit."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in ("work", "logs")
    }
    lines = found["recipe.yaml"].splitlines()
    return found | {"recipe.yaml": b"\n".join(line for line in lines if not line.startswith(b"  commit:"))}


@pytest.fixture
def pictures() -> None:
    """Asked for by a test that looks at the report."""


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No drawing and no reading of installed evaluation packages, which take most of a small build's time."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(report, "picture", lambda *_: "<svg></svg>")
    monkeypatch.setattr(sources, "held_out_texts", list)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Six folders of MIT code, one of unknown licence, one under the GPL's name."""
    root = tmp_path / "code"
    for package in range(6):
        write(root / f"package{package}" / "LICENSE", MIT)
        for number in range(6):
            write(root / f"package{package}" / f"m{number}.py", module(10 * package + number, 12))
    write(root / "package0" / "tiny.py", "x = 1\n")
    write(root / "package0" / "copied.py", module(11, 12))  # that of package1
    write(root / "package0" / "broken.py", module(0) + "def broken(:\n")
    write(root / "nolicence" / "m.py", module(900, 12))
    write(root / "gpl" / "m.py", "# SPDX-License-Identifier: GPL-3.0-only\n" + module(901, 12))
    return root
