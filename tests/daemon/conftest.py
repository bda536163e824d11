"""A runtime directory of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def runtime(tmp_path, monkeypatch) -> Path:
    """A runtime directory that no other test and no real daemon uses."""
    folder = tmp_path / "runtime"
    monkeypatch.setenv("DIFFILL_RUNTIME_DIR", str(folder))
    monkeypatch.delenv("DIFFILL_TOKEN", raising=False)
    return folder
