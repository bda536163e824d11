"""The tensors of a checkpoint, one at a time, as numpy arrays: no torch, and never the whole model in memory.

Safetensors is read from its description (https://github.com/huggingface/safetensors): eight bytes of length, a JSON
header of names, types, shapes and offsets, then the numbers.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_runtime.protocol import ModelError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
TYPES |= {"U8": "u1", "I8": "i1", "F8_E4M3": "u1", "I32": "<i4", "I64": "<i8"}  # of quantized checkpoints
MOST_HEADER = 100 << 20  # bytes, as the format has it
SCAN = 1 << 24  # numbers looked at in one go


@dataclass
class Stored:
    """Where a tensor lies: its file, the first byte there, type and shape."""

    path: Path
    start: int
    kind: str
    shape: tuple[int, ...]


class Weights:
    """The tensors of a folder with model.safetensors, or with shards and their index."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.tensors: dict[str, Stored] = {}
        for path in weight_files(folder):
            self.tensors |= read_header(path)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape; ModelError if the checkpoint has no such tensor."""
        if name not in self.tensors:
            raise ModelError(f"the checkpoint {self.folder} lacks the tensor {name}")
        return self.tensors[name].shape

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor of this shape in float32; ModelError if it is missing, of another shape or not finite."""
        if self.shape(name) != shape:
            found, wanted = list(self.tensors[name].shape), list(shape)
            raise ModelError(f"{name} of {self.folder} is {found}, and config.json asks for {wanted}")
        stored = self.tensors[name]
        count = math.prod(shape)
        raw = np.memmap(stored.path, np.dtype(TYPES[stored.kind]), "r", stored.start, (count,))
        values = np.empty(count, np.float32)
        for start in range(0, count, SCAN):
            part = raw[start : start + SCAN]
            if stored.kind == "BF16":  # the upper half of a float32
                values[start : start + SCAN] = (part.astype(np.uint32) << 16).view(np.float32)
            else:
                values[start : start + SCAN] = part
            if not np.isfinite(values[start : start + SCAN]).all():
                raise ModelError(f"{name} of {self.folder} holds numbers that are not finite")
        return values.reshape(shape)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint; ModelError where there are none, or one is missing or leads elsewhere."""
    if (folder / SINGLE).is_file():
        return [inside(folder, SINGLE)]
    if not (folder / INDEX).is_file():
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
            raise ModelError(f"{folder} holds pickled weights, which can run code: only safetensors are read")
        raise ModelError(f"{folder} has no {SINGLE} and no {INDEX}")
    try:
        names = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{folder / INDEX} cannot be read: {error or type(error).__name__}") from error
    return [inside(folder, name) for name in sorted(names, key=str)]


def inside(folder: Path, name: Any) -> Path:
    """The file of a folder by its plain name. A link may point to the folder beside (the Hub's cache), no further."""
    if not isinstance(name, str) or not name.endswith(".safetensors") or Path(name).name != name:
        raise ModelError(f"{folder / INDEX} names {name!r}, which is no safetensors file of its folder")
    path = folder / name
    if not path.is_file():
        raise ModelError(f"{folder} lacks {name}, which its index names")
    home = folder.resolve()
    cache = home.parents[1] if len(home.parents) > 1 and home.parent.name == "snapshots" else home
    if not path.resolve().is_relative_to(cache):
        raise ModelError(f"{path} is a link that leads out of its folder")
    return path


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of one file; ModelError if it is cut short or is no safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= MOST_HEADER:
            raise ModelError(f"{path} is no safetensors file")
        if 8 + length > size:
            raise ModelError(f"{path} is cut short: its header alone is longer than the file")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            return {name: entry(path, name, 8 + length, size, given) for name, given in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} has a header that cannot be read: {error or type(error).__name__}") from error


def entry(path: Path, name: str, base: int, size: int, given: dict[str, Any]) -> Stored:
    """One line of a header, checked against the file's size."""
    kind, shape = given["dtype"], tuple(given["shape"])
    start, end = given["data_offsets"]
    if kind not in TYPES:
        raise ModelError(f"{path} holds {name} as {kind}: supported are {', '.join(TYPES)}")
    if base + end > size:
        raise ModelError(f"{path} is cut short: {name} ends {base + end - size} bytes behind its end")
    if start < 0 or end - start != math.prod(shape) * np.dtype(TYPES[kind]).itemsize:
        raise ModelError(f"{path} says that {name} of shape {list(shape)} takes {end - start} bytes")
    return Stored(path, base + start, kind, shape)
