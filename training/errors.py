"""Errors of training that a user is told, and what the libraries' errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from model_runtime.protocol import DiffillError


class TrainingError(DiffillError):
    """A run that cannot begin or go on; its text is one clear sentence."""


OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


@contextlib.contextmanager
def memory_told(micro: int, length: int, checkpointing: bool) -> Iterator[None]:
    """Turn a device's out-of-memory error into a TrainingError that names the knobs."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error).lower()
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not any(s in text for s in OUT_OF_MEMORY):
            raise
        knobs = [f"lower batch.micro (now {micro})", f"data.length (now {length})"]
        if not checkpointing:
            knobs.append("or set gradient_checkpointing: true")
        knobs.append("or shard with parallel: fsdp2, or train a lora")
        raise TrainingError(f"memory ran out: {', '.join(knobs)}; the last checkpoint is intact") from error
