"""How a checkpoint is to be held by the torch backend, in words that need no torch."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass

QUANTIZATIONS = ("auto", "fp32", "bf16", "fp16", "int8", "nf4")


@dataclass(frozen=True)
class Loading:
    """What `--quantization` and its kin say; `offload` is a folder for layers that fit neither device nor memory."""

    quantization: str = "auto"
    device: str | None = None
    offload: str | None = None
    compiled: bool = False


def add_loading_options(parser: argparse.ArgumentParser) -> None:
    """Add how the torch backend holds a checkpoint; for models in ONNX all this was decided by `models convert`."""
    group = parser.add_argument_group("checkpoints in torch")
    group.add_argument(
        "--quantization",
        choices=QUANTIZATIONS,
        default="auto",
        help="what the weights are held in (default: auto, by device and free memory)",
    )
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:N or mps (default: the accelerator)")
    group.add_argument(
        "--offload", metavar="DIR", help="a folder for layers that do not fit: they are read at every step"
    )
    group.add_argument(
        "--compile", action="store_true", help="compile passes of fixed shapes (GPU: CUDA graphs); slow to start"
    )


def loading_of(args: argparse.Namespace) -> Loading | None:
    """What these options say; None where all are left as they are."""
    loading = Loading(args.quantization, args.device, args.offload, args.compile)
    return None if loading == Loading() else loading


def as_arguments(loading: Loading | None) -> list[str]:
    """The options again, for another process."""
    told = asdict(loading or Loading())
    arguments = ["--compile"] if told.pop("compiled") else []
    return arguments + [part for name, value in told.items() if value is not None for part in (f"--{name}", value)]
