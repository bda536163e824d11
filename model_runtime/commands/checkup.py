"""What `diffill doctor` looks at besides torch and one model: daemon, store of models, the accelerator's driver."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_runtime import __version__
from model_runtime.catalog import store
from model_runtime.catalog.memory import device_memory
from model_runtime.commands import machine
from model_runtime.commands.machine import readable
from model_runtime.models.checking import check_weights
from model_runtime.protocol import DiffillError

if TYPE_CHECKING:
    from model_runtime.commands.doctor import Report

LITTLE = 5e9  # bytes of a disk


def examine_daemon(report: Report) -> None:
    """Add whether a daemon runs, and one of an older version or that left its file behind."""
    from model_runtime.daemon import discovery

    facts: dict[str, Any] = {"running": False}
    report.facts["daemon"] = facts
    try:
        folder = discovery.runtime_directory()
        facts["folder"] = str(folder)
        found = discovery.find_daemon(folder, any_version=True)
        lives = discovery.daemon_lives(folder)
    except (DiffillError, OSError) as error:
        report.problems.append(
            f"the daemon's folder cannot be used: {error}; mend what it names, or set DIFFILL_RUNTIME_DIR"
        )
        return
    if found is None:
        if lives:
            report.advice.append("a daemon is starting or leaving: look again in a moment")
        return
    facts |= {"running": True, "address": f"{found.host}:{found.port}", "pid": found.pid, "version": found.version}
    if found.version != __version__:
        report.advice.append(
            f"the daemon is of version {found.version} and this is {__version__}: close the editors that use it, "
            "and a new one starts by itself"
        )


def examine_store(report: Report) -> None:
    """Add the models that were fetched, downloads that are not whole, and the room on the disk."""
    folder = store.models_directory()
    facts: dict[str, Any] = {"folder": str(folder), "models": store.stored_names(), "partial": [], "free_bytes": None}
    report.facts["store"] = facts
    if not folder.is_dir():
        return
    facts["free_bytes"] = free = shutil.disk_usage(folder).free
    for part in sorted(folder.glob(".*.partial")):
        name = part.name[1 : -len(".partial")]
        facts["partial"].append(name)
        report.advice.append(
            f"{name} is fetched in part: diffill models pull {name} goes on, "
            f"diffill models remove {name} gives the room back"
        )
    if free < LITTLE:
        report.advice.append(
            f"only {readable(free)} are free in {folder}: a 7B model takes 15 GB; set DIFFILL_MODELS_DIR"
        )


def examine_weights(report: Report, model: str, folder: Path) -> bool:
    """Add whether a fetched model is what was fetched, and weights are whole; False if a fill is not worth trying."""
    manifest = store.stored(model)
    if manifest is not None:
        start = time.perf_counter()
        wrong = store.verify(model)
        report.facts["model"]["checksums"] = "differ" if wrong else "match"
        report.facts["model"]["checksum_s"] = round(time.perf_counter() - start, 1)
        report.problems += [f"{sentence}; diffill models remove {model}, then pull it again" for sentence in wrong]
        if wrong:
            return False
    if any(folder.glob("*.safetensors*")) and not (folder / "model.onnx").is_file():
        try:
            check_weights(folder)
        except DiffillError as error:
            report.problems.append(f"{error}; fetch or export the model again")
            return False
    return True


def examine_driver(report: Report) -> None:
    """Add what keeps torch from an accelerator that is there, and what is missing for large models on it."""
    torch = report.facts["torch"] or {}
    card = device_memory()
    if not torch.get("works"):
        return
    if card is not None and not torch["devices"]:
        report.problems.append(
            f"there is an NVIDIA device ({readable(card)}) that torch cannot use: its build has no CUDA, or the driver "
            "is too old; install the torch that https://pytorch.org names for this driver"
        )
    elif card is None and Path("/proc/driver/nvidia").exists():
        report.problems.append("the NVIDIA driver does not answer; restart the machine, or install the driver again")
    if torch["devices"] and report.facts["versions"].get("bitsandbytes") is None:
        report.advice.append(
            "bitsandbytes is not installed, so models load in 16 bits only: pip install 'diffill[torch]'"
        )
    if torch["devices"] and not machine.is_installed("accelerate"):
        report.advice.append(
            "accelerate is not installed: models larger than the device need it; pip install accelerate"
        )
