"""What the system says of a process (Linux)."""

from __future__ import annotations

import os
from pathlib import Path


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def mapped(pid: int) -> int:
    """Bytes of address space that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """Files and sockets that a process holds open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def megabytes(count: int) -> float:
    """Bytes in MB, one decimal."""
    return round(count / 1e6, 1)
