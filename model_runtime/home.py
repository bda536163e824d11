"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path

from model_runtime.protocol import RequestError


def at_home(path: str | Path) -> Path:
    """The path with a leading `~` or `~name` replaced by that home; RequestError where nobody has one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise RequestError(f"{path}: there is no home folder of that name") from None
