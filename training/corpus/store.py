"""Files that are whole or not there: what makes a build that was killed go on where it stopped."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from model_runtime.protocol import RequestError

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the name `path` only once all of it is on the disk.

    RequestError with one sentence when the disk is full or the folder cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        commit(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if error.errno in NO_SPACE:
            raise RequestError(
                f"no space is left for {path.name} in {path.parent}: free some and give the same command again, "
                "it goes on from there"
            ) from error
        raise RequestError(f"{path} cannot be written: {error.strerror or error}") from error


def commit(partial: Path, path: Path) -> None:
    """Gives a finished file its name."""
    partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, in one step."""
    with replacing(path) as file:
        file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def write_array(path: Path, values: np.ndarray) -> None:
    """Writes an array as .npy, in one step."""
    with replacing(path) as file:
        np.lib.format.write_array(file, values, allow_pickle=False)


def make_folder(path: Path) -> None:
    """Makes a folder and its parents; RequestError where that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"the folder {path} cannot be made: {error.strerror or error}") from error


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds `folder`, which is made, for this process; RequestError when another one has it. The lock ends with us."""
    make_folder(folder)
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RequestError(f"another process is building in {folder}: wait for it, or choose another") from error
        yield
    finally:
        os.close(descriptor)


class Texts:
    """The texts that a worker kept, by their place: read from one file, without loading it."""

    def __init__(self, path: Path):
        self.path = path

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[str]:
        """The texts of byte ranges, in the order given."""
        with self.path.open("rb") as file:
            texts = []
            for start, end in ranges:
                file.seek(start)
                texts.append(file.read(end - start).decode())
            return texts
