"""Models a user can name: the embedded default, those of the catalog once fetched, imported ones, or a folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from model_runtime.catalog import store
from model_runtime.catalog.entries import BY_NAME
from model_runtime.protocol import ModelError

EMBEDDED = Path(__file__).parent / "embedded"


def find_model(name: str | Path) -> Path:
    """The folder of a model by name or path; ModelError if there is none. A path with a slash is never a name."""
    if str(name) == "embedded":
        return EMBEDDED
    if isinstance(name, str) and store.stored(name) is not None:
        return store.model_folder(name)
    with contextlib.suppress(OSError, RuntimeError):  # a name too long for the system, a home that nobody has
        folder = Path(name).expanduser()
        if folder.is_dir():
            return folder
    if name in BY_NAME:
        raise ModelError(f"{name} is not on this machine: diffill models pull {name} fetches it")
    raise ModelError(
        f"there is no model {str(name)[:200]!r}: give embedded, a name that diffill models list shows, "
        "or a folder with a config.json"
    )
