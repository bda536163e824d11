"""Models a user can name: the embedded default, or a folder."""

from __future__ import annotations

from pathlib import Path

from model_runtime.protocol import ModelError

EMBEDDED = Path(__file__).parent / "embedded"


def find_model(name: str | Path) -> Path:
    """The folder of a model by name or path; ModelError if there is none."""
    if str(name) == "embedded":
        return EMBEDDED
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    raise ModelError(f"there is no model {str(name)!r}: give embedded, or a folder with a config.json")
