"""In what numbers a torch model is held: chosen by hand, or by the device and the memory that is free on it.

nf4 and int8 are bitsandbytes' (QLoRA, arXiv 2305.14314; LLM.int8, arXiv 2208.07339): the matrices of the blocks are
quantized, head, embedding and norms are kept as they are.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import torch

from model_runtime.backends.loading import QUANTIZATIONS, Loading
from model_runtime.home import at_home
from model_runtime.models.families import read_config
from model_runtime.models.weights import Weights, weight_files
from model_runtime.protocol import ModelError, OutOfMemory, RequestError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Bytes a number of the blocks' matrices, and of all else.
BYTES = {"fp32": (4.0, 4), "bf16": (2.0, 2), "fp16": (2.0, 2), "int8": (1.03, 2), "nf4": (0.57, 2)}
WORKING = 1 << 30  # bytes for logits, keys and values, and what the libraries take
KEPT = ("lm_head",)  # linear layers that are not quantized


def pick_device(wanted: str | None) -> torch.device:
    """The device asked for, or the accelerator if there is one; ModelError that says why it cannot be had."""
    if wanted is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise RequestError(f"device is cpu, cuda, cuda:N or mps, not {wanted!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
            raise ModelError("this torch is built without CUDA: install a CUDA build of torch, or take --device cpu")
        raise ModelError("no NVIDIA driver answers: install or repair it (nvidia-smi tells), or take --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"there is no {wanted}: this machine has {torch.cuda.device_count()} such devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError("mps is Apple's GPU, and this machine has none: take --device cpu")
    return device


def free_bytes(device: torch.device) -> int:
    """What programs can still get of the device's memory, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil  # accelerate brings it

    return psutil.virtual_memory().available


def needed_bytes(folder: Path, quantization: str) -> int:
    """About how much memory a checkpoint takes, in bytes, with room to work."""
    blocks = others = 0
    for name, stored in Weights(folder).tensors.items():
        count = math.prod(stored.shape)
        if len(stored.shape) == 2 and ("layers." in name or "blocks." in name):
            blocks += count
        else:
            others += count
    small, large = BYTES[quantization]
    return int(blocks * small + others * large) + WORKING


def stored_quantization(folder: Path) -> str | None:
    """nf4 or int8 for a checkpoint that bitsandbytes quantized before it was saved, else None."""
    told = read_config(folder).get("quantization_config")
    if not isinstance(told, dict):
        return None
    if told.get("load_in_4bit") and told.get("bnb_4bit_quant_type", "fp4") == "nf4":
        return "nf4"
    if told.get("load_in_8bit"):
        return "int8"
    raise ModelError(f"{folder / 'config.json'} names a quantization that is neither nf4 nor int8 of bitsandbytes")


def stored_bytes(folder: Path) -> int:
    """What the files of a checkpoint take, in bytes, with room to work."""
    return sum(path.stat().st_size for path in weight_files(folder)) + WORKING


def choose(folder: Path, loading: Loading, device: torch.device) -> str:
    """The quantization to load with; RequestError, ModelError or OutOfMemory where there is none."""
    wanted = loading.quantization
    if (stored := stored_quantization(folder)) is not None:  # the numbers are in the files: nothing to choose
        if wanted not in ("auto", stored):
            raise RequestError(f"{folder.name} is stored in {stored}: --quantization {wanted} cannot be had of it")
        wanted = stored
    if wanted not in QUANTIZATIONS:
        raise RequestError(f"quantization is {', '.join(QUANTIZATIONS)}, not {wanted!r}")
    free = free_bytes(device)
    if wanted == "auto":
        choices = ["fp32", "bf16"] if device.type == "cpu" else [half(device), "int8", "nf4"]
        if not installed("bitsandbytes"):
            choices = [one for one in choices if one not in ("int8", "nf4")]
        fitting = [one for one in choices if needed_bytes(folder, one) <= free]
        wanted = fitting[0] if fitting else choices[-1]
    if wanted in ("int8", "nf4") and not installed("bitsandbytes"):
        raise ModelError(f"{wanted} needs the package bitsandbytes: pip install 'diffill[torch]'")
    needed = stored_bytes(folder) if stored is not None else needed_bytes(folder, wanted)
    if needed > free and loading.offload is None:
        where = "this machine" if device.type == "cpu" else str(device)
        smaller = "" if wanted == "nf4" else ", or take --quantization nf4"
        raise OutOfMemory(
            f"{folder.name} needs about {needed / 1e9:.1f} GB in {wanted}, and {where} has {free / 1e9:.1f} GB free: "
            f"close other programs, give --offload a folder{smaller}"
        )
    return wanted


def half(device: torch.device) -> str:
    """The 16-bit type that a device computes with at full speed."""
    return "bf16" if device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module without a spec stands in its place
        return False


def load_options(folder: Path, quantization: str, loading: Loading, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is given; "dtype" is what is computed in."""
    plain = DTYPES.get(quantization) or (torch.float32 if device.type == "cpu" else DTYPES[half(device)])
    options: dict[str, Any] = {"dtype": plain, "device_map": {"": device}}
    if quantization in ("int8", "nf4") and stored_quantization(folder) is None:
        options["quantization_config"] = quantized(quantization, plain, loading.offload is not None)
    if loading.offload is not None:
        away = at_home(loading.offload)
        try:
            away.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(f"the offload folder {away} cannot be made: {error.strerror}") from error
        most = {"cpu": max(0, free_bytes(torch.device("cpu")) - WORKING)}
        if device.type == "cuda":
            most = {device.index or 0: max(0, free_bytes(device) - WORKING), **most}  # type: ignore[dict-item]
        options |= {"device_map": "auto", "max_memory": most, "offload_folder": str(away)}
    return options


def quantized(quantization: str, plain: torch.dtype, offload: bool) -> Any:
    """The library's own words for nf4 and int8."""
    from transformers import BitsAndBytesConfig

    if quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=plain, llm_int8_skip_modules=[*KEPT]
        )
    return BitsAndBytesConfig(
        load_in_8bit=True, llm_int8_skip_modules=[*KEPT], llm_int8_enable_fp32_cpu_offload=offload
    )
