"""Checkpoints that are whole or absent: written beside their place, then renamed.

A checkpoint folder is a model in the public layout (config.json, model.safetensors, tokenizer.json) plus
`trainer.pt` (optimizers, step, time spent), which a continuation from weights alone can do without.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from model_runtime.models.dream import DreamModel


def save_checkpoint(folder: Path, model: DreamModel, tokenizer: Path, trainer: dict[str, Any]) -> None:
    """Write a checkpoint; the one that stood there before is replaced only when the new one is complete."""
    fresh = begin_folder(folder)
    model.save_pretrained(fresh)
    shutil.copy(tokenizer, fresh / "tokenizer.json")
    torch.save(trainer, fresh / "trainer.pt")
    commit_folder(fresh, folder)


def begin_folder(folder: Path) -> Path:
    """An empty folder beside `folder`, to be filled and then committed."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    return fresh


def commit_folder(fresh: Path, folder: Path) -> None:
    """Bring a filled folder to the disk and give it its name; the one that had it goes last."""
    for path in [fresh, *fresh.rglob("*")]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def latest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint at `folder`, or the one it was about to replace when power went."""
    for candidate in (folder, folder.with_name(folder.name + ".old")):
        if (candidate / "trainer.pt").exists():
            return candidate
    return None


def append_json(path: Path, record: dict[str, Any]) -> None:
    """Append one record to a jsonl log."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
