"""The reference that the policy is kept near: an earlier state of what is trained, in the same model.

A copy of the trained parameters is kept and exchanged with the model's for the time of a forward. So adapters need no
second model, and on several processes each keeps its own shard.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from training.grpo.recipe import Reference as Settings


def local(parameter: Tensor) -> Tensor:
    """This process's part of a parameter, to be changed in place."""
    data: Any = parameter.detach()
    return data.to_local() if hasattr(data, "to_local") else data


class Reference:
    """An earlier policy."""

    def __init__(self, model: nn.Module, settings: Settings):
        self.model, self.settings = model, settings
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.kept = [local(parameter).clone() for parameter in self.trained]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model is the reference within the block; gradients are not to be asked for there."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Swap the model's parameters and the kept ones."""
        for parameter, kept in zip(self.trained, self.kept, strict=True):
            here = local(parameter)
            before = here.clone()
            here.copy_(kept)
            kept.copy_(before)
        if isinstance(self.model, FSDPModule):
            self.model.reshard()  # what was gathered before is of the other

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """After optimizer step number `step`: move towards the policy if it is time."""
        if self.settings.sync and step % self.settings.sync == 0:
            for parameter, kept in zip(self.trained, self.kept, strict=True):
                kept.lerp_(local(parameter), self.settings.mix)

    def save(self, folder: Path, accelerator: Accelerator) -> None:
        """Write this process's part; of replicas the first process's alone."""
        sharded = isinstance(self.model, FSDPModule)
        if sharded or accelerator.is_main_process:
            torch.save([kept.cpu() for kept in self.kept], folder / f"reference-{accelerator.process_index}.pt")

    def load(self, folder: Path, accelerator: Accelerator) -> None:
        """Read what `save` wrote."""
        number = accelerator.process_index if isinstance(self.model, FSDPModule) else 0
        found = torch.load(folder / f"reference-{number}.pt", weights_only=True, map_location="cpu")
        with torch.no_grad():
            for kept, saved in zip(self.kept, found, strict=True):
                kept.copy_(saved)
