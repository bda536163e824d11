"""Sources so small that a recipe reads them in a second: modules, licences, checkouts."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

from rich.console import Console

from training.corpus import sources
from training.corpus.recipe import Recipe
from training.corpus.sources import SourceFile
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


def source(tmp_path: Path, text: str | bytes, name: str = "m.py", package: str = "p") -> SourceFile:
    """A file of a package, as a corpus finds it."""
    location = write(tmp_path / package / name, text)
    return SourceFile(package, f"{package}/{name}", sources.kind_of(name), "MIT", location)


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
