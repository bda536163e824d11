"""Whether a model fits this machine, and how: by the memory of the processor and of an accelerator."""

from __future__ import annotations

import subprocess
from shutil import which

SHARE = 0.9  # of a memory that a model may take
PRECISIONS = ("bfloat16", "int8", "nf4")  # that a model may run in, the best first


def device_memory() -> int | None:
    """Bytes of the largest NVIDIA device, asked of its driver: torch would take seconds to say it. None without one."""
    if which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
        return max(int(line) for line in said.split()) << 20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def fit(memory: dict[str, int], main: int | None, device: int | None) -> tuple[str | None, str]:
    """The best precision that fits ("bfloat16", "int8", "nf4"; None for none), and a sentence's part that says so.

    `memory` has bytes by precision, `main` and `device` are those that there are, None if unknown or absent.
    """
    for room, where in ((device, "the accelerator"), (main, "the processor")):
        for precision in PRECISIONS if room else ():
            if room is not None and memory[precision] <= SHARE * room:
                slow = ", slowly" if where == "the processor" and memory["bfloat16"] > 4e9 else ""
                return precision, f"fits this machine: {precision} on {where}{slow}"
    if main is None:
        return None, "the memory of this machine is not known"
    most = max(main, device or 0)
    return None, f"too large for this machine: {memory['nf4'] / 1e9:.1f} GB in 4 bits, and it has {most / 1e9:.1f} GB"
