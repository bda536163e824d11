"""Real editors with the configurations of docs/editors.md, the real server, daemon and embedded model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "lsp"))  # the client of our own, to ask the same things of

from editor import Editor, stop_daemon

UNBOUND = {"minConfidence": 0}  # where a suggestion comes shall not hang on how sure this year's model is


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> Iterator[dict[str, str]]:
    """What editors are started with: `diffill` on the path, a daemon and folders for state that only they use."""
    values = {name: value for name, value in os.environ.items() if not name.startswith(("DIFFILL_", "XDG_", "NVIM"))}
    values["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), values["PATH"]))
    values["DIFFILL_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("runtime"))
    state = tmp_path_factory.mktemp("state")
    values |= {f"XDG_{kind}_HOME": str(state / kind) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    values |= {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": values.get("OMP_NUM_THREADS", "1")}
    yield values
    stop_daemon(values)


@pytest.fixture(scope="session")
def plain(environment) -> Iterator[Editor]:
    """A client of our own beside the real editors: the same request gets the same answer there."""
    running = Editor("vscode", environment, settings=UNBOUND)
    yield running
    running.close()
