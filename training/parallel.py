"""Processes and devices: accelerate for the processes, precision and DDP; torch's fully_shard (FSDP2) for sharding.

accelerate applies FSDP2 on accelerators only. Sharding by hand makes a run on two gloo processes on a CPU, which the
tests do, and one on NCCL the same code.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from training.errors import TrainingError


def start_processes(device: str | None, precision: str) -> Accelerator:
    """The processes that torchrun started (or one), on `device` or the best there is.

    `precision` auto takes bf16 where the hardware computes in it. TrainingError if torchrun's number of processes did
    not come about: a launcher that starts one and says nothing would train on a share of the data.
    """
    cpu = device == "cpu" or (device is None and not torch.cuda.is_available())
    half = precision == "bf16" or (precision == "auto" and has_bf16(cpu))
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    handlers = [InitProcessGroupKwargs(backend="gloo")] if cpu and wanted > 1 else []
    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    accelerator = Accelerator(cpu=cpu, mixed_precision="bf16" if half else "no", kwargs_handlers=handlers)
    if accelerator.num_processes != wanted:
        raise TrainingError(f"{wanted} processes were asked for, {accelerator.num_processes} take part")
    return accelerator


def has_bf16(cpu: bool) -> bool:
    """Whether bfloat16 matrix products are native here."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() if cpu else torch.cuda.is_bf16_supported()


def distribute(model: nn.Module, accelerator: Accelerator, parallel: str) -> nn.Module:
    """The model on this process's device, as its share of a run of several: replicated (ddp) or sharded (fsdp2)."""
    if parallel == "fsdp2" and accelerator.num_processes > 1:
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        return shard(model, mesh, accelerator.mixed_precision == "bf16")
    return accelerator.prepare_model(model.to(accelerator.device))


def shard(model: nn.Module, mesh: DeviceMesh, half: bool) -> nn.Module:
    """Shard every block, then the rest (embedding, norm, head); masters and sums in float32.

    The model lies in the host's memory: each block goes to the device as it is sharded, never all at once.
    """
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if half else MixedPrecisionPolicy()
    for block in model.modules():
        if type(block).__name__ == "Block":
            fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    return model


@contextlib.contextmanager
def accumulating(model: nn.Module, accelerator: Accelerator, last: bool) -> Iterator[None]:
    """Leave gradients where they are until the last micro-batch of a step."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
        yield
    else:
        with contextlib.nullcontext() if last else accelerator.no_sync(model):
            yield


def total(values: torch.Tensor, accelerator: Accelerator) -> torch.Tensor:
    """The sum of a tensor over all processes, the same on each."""
    return accelerator.reduce(values, "sum")


def clip(model: nn.Module, limit: float) -> float:
    """Scale the gradients to a norm of at most `limit` (0: leave them), and return the norm before."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm: Any = torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else float("inf"), foreach=True)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
