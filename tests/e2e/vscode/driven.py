"""VS Code for what is no test: a window to measure in, or to take pictures of."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codeserver import CodeServer, install_extension
from window import Window, chromium


@contextlib.contextmanager
def window(settings: dict[str, Any] | None = None, **page: Any) -> Iterator[Window]:
    """A window of a fresh code-server on an empty folder; `page` are the browser's options."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, chromium() as browser:
        root = Path(name)
        folder = root / "project"
        folder.mkdir()
        server = CodeServer(root / "home", install_extension(root / "installed"), settings)
        try:
            context = browser.new_context(**page)
            yield Window(context, server, folder, "driven")
            context.close()
        finally:
            server.close()
