"""The folder of fetched and imported models: one folder a model, with a manifest that says what is in it.

A model is there when its manifest is: everything is put together beside it, under a name with a dot, and moved in one
step.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from model_runtime.home import at_home
from model_runtime.models.families import MANIFEST
from model_runtime.protocol import ModelError, RequestError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
BLOCK = 1 << 20
OnBytes = Callable[[int], None]


@dataclass
class Manifest:
    """What is known of a model in the store; sizes in bytes, hashes SHA-256."""

    name: str
    family: str
    licence: str | None
    repository: str | None = None
    revision: str | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    fetched: str = ""


def models_directory() -> Path:
    """Where models are kept: DIFFILL_MODELS_DIR, or the user's data directory."""
    named = os.environ.get("DIFFILL_MODELS_DIR")
    return at_home(named) if named else platformdirs.user_data_path("diffill") / "models"


def model_folder(name: str) -> Path:
    """The folder of a model by its name; RequestError for what can be none."""
    if not NAME.fullmatch(name):
        raise RequestError(f"a model's name is small letters, digits, dots and dashes, not {name!r}")
    return models_directory() / name


def staging(name: str) -> Path:
    """Where a model is put together."""
    return model_folder(name).with_name(f".{name}.partial")


def stored(name: str) -> Manifest | None:
    """The manifest of a model that is there, or None."""
    if not NAME.fullmatch(name):
        return None
    path = model_folder(name) / MANIFEST
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{path} cannot be read ({error}): diffill models remove {name}, and fetch it again"
        ) from error


def stored_names() -> list[str]:
    """The names of the models that are there."""
    folder = models_directory()
    return sorted(path.parent.name for path in folder.glob(f"[a-z0-9]*/{MANIFEST}")) if folder.is_dir() else []


def place(name: str, manifest: Manifest) -> Path:
    """Write the manifest into the staging folder and make that the model's folder, in the place of an older one."""
    source, target = staging(name), model_folder(name)
    manifest.fetched = time.strftime("%Y-%m-%d")
    (source / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
    if target.exists():
        old = target.with_name(f".{name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        source.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        source.rename(target)
    return target


def remove(name: str) -> int:
    """Delete a model, fetched whole or in part; the bytes that this gives back. RequestError if nothing is there."""
    freed, found = 0, False
    for folder in (model_folder(name), staging(name)):
        if folder.is_dir():
            found = True
            freed += sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
            shutil.rmtree(folder)
    if not found:
        raise RequestError(f"there is no model {name!r} to remove: diffill models list shows what there is")
    return freed


def verify(name: str, on_bytes: OnBytes = lambda count: None) -> list[str]:
    """A sentence for each file of a model that is not what was fetched; nothing if all are."""
    manifest = stored(name)
    if manifest is None:
        raise RequestError(f"{name} is not on this machine: diffill models pull {name}")
    folder, wrong = model_folder(name), []
    for file, told in manifest.files.items():
        path = folder / file
        if not path.is_file():
            wrong.append(f"{path} is missing")
        elif path.stat().st_size != told["size"]:
            wrong.append(f"{path} has {path.stat().st_size} bytes instead of {told['size']}")
        elif file_sum(path, on_bytes) != told["sha256"]:
            wrong.append(f"{path} is damaged: its checksum is not that of the download")
    return wrong


def file_sum(path: Path, on_bytes: OnBytes = lambda count: None) -> str:
    """The SHA-256 of a file in hexadecimal."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
            on_bytes(len(block))
    return total.hexdigest()


def check_space(folder: Path, needed: int) -> None:
    """ModelError unless `needed` bytes, and a twentieth more, are free where `folder` is or will be."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed * 1.05 > free:
        raise ModelError(
            f"the model needs {needed / 1e9:.1f} GB and {existing} has {free / 1e9:.1f} GB free: make room, "
            "or set DIFFILL_MODELS_DIR to a folder on another disk"
        )


def accepted_path() -> Path:
    """Where accepted licences are noted."""
    return models_directory() / "licences.json"


def accepted(repository: str, licence: str | None) -> bool:
    """Whether the user accepted this repository's licence before."""
    try:
        return json.loads(accepted_path().read_text(encoding="utf-8")).get(repository) == (licence or "not stated")
    except (OSError, ValueError, AttributeError):
        return False


def accept(repository: str, licence: str | None) -> None:
    """Note that the user accepted a licence."""
    path = accepted_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    known[repository] = licence or "not stated"
    new = path.with_suffix(".new")
    new.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    new.replace(path)
