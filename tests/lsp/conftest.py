"""A daemon for the tests of this folder, with a runtime directory of its own, and one server for each editor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from editor import EDITORS, Editor, stop_daemon


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> Iterator[dict[str, str]]:
    """What processes are started with: no token from outside, and a daemon that only these tests use."""
    values = {name: value for name, value in os.environ.items() if not name.startswith("DIFFILL_")}
    values["DIFFILL_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("runtime"))
    yield values
    stop_daemon(values)


@pytest.fixture(scope="session", params=list(EDITORS))
def editor(request, environment) -> Iterator[Editor]:
    """A server that runs for all tests of one editor; each test has files of its own."""
    running = Editor(request.param, environment)
    yield running
    running.close()


@pytest.fixture
def start(environment) -> Iterator[Callable[..., Editor]]:
    """A function that starts a server for one test, which ends with it."""
    running: list[Editor] = []

    def run(name: str = "vscode", environment: dict[str, str] = environment, **started: Any) -> Editor:
        running.append(Editor(name, environment, **started))
        return running[-1]

    yield run
    for one in running:
        one.close()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A Python file that no other test uses; it is only ever open, never on disk."""
    return (tmp_path / "open.py").as_uri()
