"""The daemon's log: numbers, ends and places, never text of a user's file."""

from __future__ import annotations

import logging
import logging.handlers
import os
import traceback
from pathlib import Path
from types import TracebackType

LINES_SHOWN = 200


class SourceFree(logging.Formatter):
    """Writes of an exception its kind and where it was raised: its message could quote a request."""

    def formatException(
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """The places of a traceback, outermost first, without their code."""
        if ei[0] is None:
            return ""
        frames = traceback.extract_tb(ei[2])
        places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
        return f"{ei[0].__name__} at {places}"


def open_log(path: Path, to_terminal: bool) -> None:
    """Log to a file of at most a megabyte, of which one older is kept, and to stderr if a terminal wants it."""
    logging.raiseExceptions = False  # a full disk must not end the daemon
    handlers: list[logging.Handler] = []
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        handlers.append(logging.handlers.RotatingFileHandler(path, maxBytes=1 << 20, backupCount=1, encoding="utf-8"))
    except OSError:
        to_terminal = True
    if to_terminal:
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        handler.setFormatter(SourceFree("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=handlers, level=logging.WARNING, force=True)
    logging.getLogger("diffill").setLevel(logging.INFO)


def last_lines(path: Path) -> str:
    """The end of a log, or nothing if there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LINES_SHOWN:])
