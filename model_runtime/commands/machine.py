"""What this machine is: versions, processor, memory, accelerator. Nothing heavy is imported to find out."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from model_runtime import __version__

NEEDED = ("numpy", "onnxruntime", "tokenizers", "rich")
OPTIONAL = ("torch", "transformers", "accelerate", "bitsandbytes", "safetensors")
# What makes matrices of small numbers fast, as Linux names it on x86 and ARM.
FEATURES = (
    *("avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),
)
ASK_TORCH = """
import json, torch
devices = [
    {"name": torch.cuda.get_device_name(n), "memory_bytes": torch.cuda.get_device_properties(n).total_memory}
    for n in range(torch.cuda.device_count())
]
if not devices and torch.backends.mps.is_available():
    devices = [{"name": "Apple GPU (mps)", "memory_bytes": None}]
print(json.dumps({"works": True, "version": torch.__version__, "devices": devices}))
"""


def versions() -> dict[str, str | None]:
    """Return the version of Diffill, Python and the packages that matter; None for those not installed."""
    found: dict[str, str | None] = {"diffill": __version__, "python": platform.python_version()}
    for name in (*NEEDED, *OPTIONAL):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def hardware() -> dict[str, Any]:
    """Return platform, processor, usable cores and memory, as JSON values; None where it cannot be known."""
    total, free = memory()
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "features": processor_features(),
        "cores": usable_cores(),
        "memory_bytes": total,
        "memory_free_bytes": free,
    }


def usable_cores() -> int:
    """Return how many logical cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def processor() -> str:
    """Return the processor's name, or the kind of machine where the system does not tell more."""
    named = processor_fields().get("model name")
    if named is None and sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            named = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    return named or platform.processor() or platform.machine() or "unknown"


def processor_features() -> list[str] | None:
    """Return those of FEATURES that the processor has, or None where the system does not tell."""
    fields = processor_fields()
    flags = fields.get("flags") or fields.get("Features")
    return None if flags is None else [name for name in FEATURES if name in flags.split()]


def processor_fields() -> dict[str, str]:
    """Return what /proc/cpuinfo says of the first core; nothing where there is no such file."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, colon, value = line.partition(":")
            if colon:
                fields.setdefault(name.strip(), value.strip())
    return fields


def memory() -> tuple[int | None, int | None]:
    """Return the memory's size and what programs can still get of it, in bytes; None where that cannot be known."""
    with contextlib.suppress(ImportError, OSError):
        import psutil

        now = psutil.virtual_memory()
        return now.total, now.available
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        sizes = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":", 1) for line in lines)}
        return sizes["MemTotal"], sizes["MemAvailable"]
    counts: list[int | None] = []
    for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"):
        try:
            counts.append(os.sysconf(name) * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, OSError, ValueError):
            counts.append(None)
    return counts[0], counts[1]


def is_installed(package: str) -> bool:
    """Return whether a package could be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def ask_torch(timeout_s: float = 120) -> dict[str, Any]:
    """Return {"works", "version", "devices"} or {"works": False, "error"}.

    A process of its own asks, so that a broken torch can neither end nor slow this one.
    """
    try:
        command = [sys.executable, "-c", ASK_TORCH]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        error = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200]
    except subprocess.TimeoutExpired:
        error = f"it gave no answer in {timeout_s:.0f} s"
    except (OSError, ValueError, IndexError) as failure:
        error = str(failure)
    return {"works": False, "error": error}


def readable(size: int | None) -> str:
    """Return a number of bytes as "12.3 MB"; "unknown" for None."""
    if size is None:
        return "unknown"
    for unit, divisor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size} bytes"
