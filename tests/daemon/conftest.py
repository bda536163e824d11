"""A runtime directory of the test's own, and no puppets of another test's."""

from __future__ import annotations

from pathlib import Path

import pytest
from puppet import PuppetWorker


@pytest.fixture
def runtime(tmp_path, monkeypatch) -> Path:
    """A runtime directory that no other test and no real daemon uses."""
    folder = tmp_path / "runtime"
    monkeypatch.setenv("DIFFILL_RUNTIME_DIR", str(folder))
    monkeypatch.delenv("DIFFILL_TOKEN", raising=False)
    return folder


@pytest.fixture(autouse=True)
def puppets(monkeypatch) -> None:
    """The puppets that a test makes are its own."""
    monkeypatch.setattr(PuppetWorker, "made", [])
