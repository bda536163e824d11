"""What exact resume needs beyond the weights in the public layout: masters, optimizer, random numbers.

Masters and optimizer are written by torch.distributed.checkpoint, each process its own shard, and can be read by
another number of processes.
"""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)

WEIGHTS = "weights-and-optimizer"


def save_training(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> None:
    """Write this process's share of masters, optimizer and random state into `folder`, which exists."""
    plain = accelerator.unwrap_model(model)
    weights, moments = get_state_dict(plain, optimizer, options=trained_only())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that one process writes alone is what is wanted
        dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=folder / WEIGHTS, no_dist=alone(accelerator))
    torch.save(random_state(), folder / f"random-{accelerator.process_index}.pt")


def load_training(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> None:
    """Bring model, optimizer and random state to what `save_training` wrote."""
    plain = accelerator.unwrap_model(model)
    weights, moments = get_state_dict(plain, optimizer, options=trained_only())
    values: dict[str, Any] = {"model": weights, "optimizer": moments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        dcp.load(values, checkpoint_id=folder / WEIGHTS, no_dist=alone(accelerator))
    set_state_dict(
        plain,
        optimizer,
        model_state_dict=values["model"],
        optim_state_dict=values["optimizer"],
        options=trained_only(strict=False),
    )
    own = folder / f"random-{accelerator.process_index}.pt"
    if own.exists():  # more processes than before: the others keep their seeds
        set_random_state(torch.load(own, weights_only=True))


def whole_weights(model: nn.Module, accelerator: Accelerator) -> dict[str, Tensor]:
    """The full state dict on the main process (empty on others); every process must call."""
    plain = accelerator.unwrap_model(model)
    return get_model_state_dict(plain, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def trained_only(strict: bool = True) -> StateDictOptions:
    """Frozen weights under adapters are read from where the run began."""
    return StateDictOptions(ignore_frozen_params=True, strict=strict)


def alone(accelerator: Accelerator) -> bool:
    return accelerator.num_processes == 1


def random_state() -> dict[str, Any]:
    """The state of every generator that training may draw from."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """What `random_state` returned, put back."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
