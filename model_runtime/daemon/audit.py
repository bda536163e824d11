"""Who asked for how much and what became of it: a line of JSON each, and nothing of anybody's source text.

A file of at most 10 MiB, of which nine older ones are kept (`.1` is the newest), readable by their owner alone.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from model_runtime.protocol import RequestError

FILE_BYTES, FILES_KEPT = 10 << 20, 9
LOG = logging.getLogger("diffill.audit.trouble")


class Lines(logging.handlers.RotatingFileHandler):
    """A rotating file whose pieces only their owner can read; trouble with it is logged once and ends nothing."""

    troubled = False

    def _open(self) -> Any:
        return open(self.baseFilename, "a", encoding="utf-8", opener=private)

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.troubled:
            self.troubled = True
            LOG.error("the audit log cannot be written")


def private(path: str, flags: int) -> int:
    """Open a file that only its owner can read."""
    return os.open(path, flags, 0o600)


class Audit:
    """The log; RequestError if it cannot be written at the start."""

    def __init__(self, path: Path, file_bytes: int = FILE_BYTES, files_kept: int = FILES_KEPT):
        try:
            self._lines = Lines(path, maxBytes=file_bytes, backupCount=files_kept)
        except OSError as error:
            raise RequestError(f"cannot write the audit log {path}: {error.strerror}") from None

    def note(self, event: str, **facts: Any) -> None:
        """Write one line: what happened, when (UTC), and its facts; those that are None are left out."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = {"time": now, "event": event, **{name: value for name, value in facts.items() if value is not None}}
        self._lines.handle(logging.makeLogRecord({"msg": json.dumps(line)}))
