"""The messages between the daemon and its worker: four bytes of length (big-endian), then JSON."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO


def receive_one(source: BinaryIO) -> dict[str, Any] | None:
    """The next message, or None at the end."""
    header = source.read(4)
    if len(header) < 4:
        return None
    (size,) = struct.unpack(">I", header)
    data = source.read(size)
    return json.loads(data) if len(data) == size else None


def pack(message: dict[str, Any]) -> bytes:
    """A message as it travels through the pipe."""
    data = json.dumps(message).encode()
    return struct.pack(">I", len(data)) + data
