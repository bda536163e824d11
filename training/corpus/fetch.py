"""Fetches the packages that a recipe names: pure-Python wheels, without dependencies, and without running them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import yaml

from training.corpus.sources import HELD_OUT, canonical

PIN = re.compile(r"([A-Za-z0-9][\w.-]*)==([\w.+!-]+)")
MOST_PACKAGES = 30


@dataclass(frozen=True)
class Packages:
    """Pins ("name==version") to train on, and those kept whole for validation."""

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()

    @property
    def pins(self) -> list[str]:
        return sorted(self.train + self.validation)

    @property
    def validation_names(self) -> frozenset[str]:
        """Canonical names of the validation packages."""
        return frozenset(canonical(pin.split("==")[0]) for pin in self.validation)


def load_packages(path: Path) -> Packages:
    """Reads a list of packages; anything but exact pins, or a package held out for evaluation, is a ValueError."""
    values = yaml.safe_load(path.read_text("utf-8"))
    if not isinstance(values, dict) or not set(values) <= {"train", "validation"}:
        raise ValueError(f"{path}: the lists are called train and validation")
    packages = Packages(**{key: tuple(pins or ()) for key, pins in values.items()})
    for pin in packages.pins:
        match = PIN.fullmatch(str(pin))
        if match is None:
            raise ValueError(f"{path}: {pin!r} is no exact pin such as name==1.0")
        if canonical(match[1]) in HELD_OUT:
            raise ValueError(f"{path}: {match[1]} is held out for evaluation")
    if len(packages.pins) > MOST_PACKAGES:
        raise ValueError(f"{path}: {len(packages.pins)} packages; at most {MOST_PACKAGES} are fetched")
    return packages


def fetch(packages: Packages, folder: Path) -> list[metadata.Distribution]:
    """Installs the pins into `folder`, if they are not there yet, and returns their distributions."""
    done = folder / "PINS"
    wanted = "".join(f"{pin}\n" for pin in packages.pins)
    if packages.pins and not (done.is_file() and done.read_text("utf-8") == wanted):
        shutil.rmtree(folder, ignore_errors=True)  # pip would leave other versions' files beside the new ones
        # a wheel for "any" platform has no compiled parts; nothing of a package runs
        options = ["--no-deps", "--no-compile", "--only-binary=:all:", "--platform=any", "--quiet"]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options]
        failed = subprocess.run([*pip, f"--target={folder}", *packages.pins], capture_output=True, text=True)
        if failed.returncode:
            lines = failed.stderr.strip().splitlines() or ["no reason given"]
            raise RuntimeError(f"pip could not fetch the corpus' packages: {lines[-1]}")
        done.write_text(wanted, "utf-8")
    return list(metadata.distributions(path=[str(folder)])) if folder.is_dir() else []
