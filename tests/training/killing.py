"""Runs that end as a killed process does, and whether what they leave is the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


class Killed(BaseException):
    """Stands for the end of the process: nothing is saved on the way out."""


def kill_at(step: int) -> Callable[[dict[str, Any]], None]:
    """An `on_step` that ends the process at a step."""

    def on_step(record: dict[str, Any]) -> None:
        if record["step"] == step:
            raise Killed

    return on_step


def weights(out: Path) -> dict[str, torch.Tensor]:
    """What the last checkpoint of a run holds."""
    return load_file(sorted((out / "checkpoints").glob("step-*"))[-1] / "model.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, to the bit."""
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
