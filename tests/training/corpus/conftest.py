"""A small world of sources: a folder of packages; and nothing that takes longer than a test may."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import MIT, module, write

from training.corpus import report, sources


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
