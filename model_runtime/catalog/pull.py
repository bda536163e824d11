"""Bringing a model onto this machine: from the hub, or from a folder that is here already."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from model_runtime.catalog import hub, store
from model_runtime.catalog.entries import BY_NAME, Entry
from model_runtime.catalog.store import Manifest
from model_runtime.models.checking import check_weights
from model_runtime.models.families import FAMILIES, MANIFEST, read_facts
from model_runtime.protocol import ModelError, RequestError

OnProgress = Callable[[str, int, int], None]  # file, bytes done in all, bytes in all
SMALL = 1 << 20  # bytes
GIVEN = re.compile(r"[\w.-]+\.(onnx|onnx\.data|data|npz)")  # of exported models, beside what the hub's have


def entry_of(name: str) -> Entry:
    """The catalog's entry; RequestError that names those there are."""
    if name not in BY_NAME:
        raise RequestError(f"there is no model {name!r} to fetch; there are {', '.join(BY_NAME)}")
    return BY_NAME[name]


def pull(name: str, on_progress: OnProgress = lambda *told: None, revision: str | None = None) -> Path:
    """Fetch a model whose licence was accepted; its folder. What was fetched in part before is not fetched again.

    RequestError without acceptance; ModelError for what the hub, the disk or the files themselves refuse.
    """
    entry = entry_of(name)
    if not store.accepted(entry.repository, entry.licence):
        raise RequestError(
            f"the licence of {name} ({entry.licence or 'not stated'}, {entry.licence_url}) is not accepted yet"
        )
    pinned = revision or entry.revision
    there = store.stored(name)
    if there is not None and pinned is not None and there.revision == pinned:
        return store.model_folder(name)
    listing = hub.list_files(entry.repository, pinned)
    if there is not None and there.revision == listing.revision:
        return store.model_folder(name)
    folder = store.staging(name)
    with alone(name):
        begin(folder, listing.revision)
        have = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        store.check_space(folder, max(0, listing.size - have))
        done, files = 0, {}
        for file in sorted(listing.files, key=lambda one: one.size):  # what is wrong with small files shows first

            def told(count: int, file: hub.RemoteFile = file) -> None:
                nonlocal done
                done += count
                on_progress(file.name, done, listing.size)

            files[file.name] = {"size": file.size, "sha256": hub.fetch(listing, file, folder, told)}
        forget_others(folder, set(files))
        check_weights(folder)
        return store.place(name, Manifest(name, entry.family, entry.licence, entry.repository, listing.revision, files))


def begin(folder: Path, revision: str) -> None:
    """Have a staging folder for a revision; parts of another one are thrown away."""
    mark = folder / ".revision"
    if folder.is_dir() and (not mark.is_file() or mark.read_text() != revision):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(revision)


def forget_others(folder: Path, files: set[str]) -> None:
    """Delete what is none of the model's files."""
    for path in folder.iterdir():
        if path.name not in files:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Keep other programs from putting the same model together; RequestError if one does."""
    from filelock import FileLock, Timeout

    store.models_directory().mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(store.models_directory() / f".{name}.lock", timeout=0):
            yield
    except Timeout:
        raise RequestError(f"{name} is being fetched by another program; wait for it") from None


def import_folder(source: Path, name: str | None = None, on_progress: OnProgress = lambda *told: None) -> Path:
    """Take a folder that is whole into the store, by links where the disk allows, else as a copy; its new folder.

    A folder of the hub's cache will do. Nothing that is code or a pickle is taken.
    """
    if not source.is_dir():
        raise RequestError(f"{source} is no folder")
    name = name or slug(source)
    folder, entry = store.staging(name), BY_NAME.get(name)
    if store.stored(name) is not None:
        raise RequestError(f"there is a model {name!r} already: diffill models remove {name}, or give another --name")
    graph = (source / "model.onnx").is_file() and not any(source.glob("*.safetensors"))
    facts = read_facts(source) if graph else check_weights(source)
    kinds = {one.name: one.model_type for one in FAMILIES}
    if entry is not None and kinds[facts.family] != kinds[entry.family]:
        raise ModelError(f"{source} is of the family {facts.family}, and {name} of {entry.family}")
    taken = [path for path in sorted(source.iterdir()) if path.is_file() and path.name != MANIFEST]
    taken = [path for path in taken if hub.WANTED.fullmatch(path.name) or GIVEN.fullmatch(path.name)]
    size = sum(path.stat().st_size for path in taken)
    with alone(name):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        done, files = 0, {}
        for path in taken:
            link_or_copy(path.resolve(), folder / path.name)

            def told(count: int, path: Path = path) -> None:
                nonlocal done
                done += count
                on_progress(path.name, done, size)

            files[path.name] = {"size": path.stat().st_size, "sha256": store.file_sum(folder / path.name, told)}
        family, licence = (entry.family, entry.licence) if entry else (facts.family, None)
        repository = entry.repository if entry else None
        return store.place(name, Manifest(name, family, licence, repository, None, files))


def slug(source: Path) -> str:
    """A name for a folder: that of the repository in the hub's cache, or the folder's own."""
    folder = source.resolve()
    named = next(
        (one.name.rsplit("--", 1)[-1] for one in folder.parents if one.name.startswith("models--")), folder.name
    )
    return re.sub(r"[^a-z0-9._-]+", "-", named.lower()).strip("-._") or "model"


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a large file where that can be; else a copy, if there is room.

    Small ones are copied: a name more for a config is a way more to change it by accident.
    """
    try:
        if source.stat().st_size < SMALL:
            raise OSError
        os.link(source, target)
    except OSError:
        store.check_space(target.parent, source.stat().st_size)
        shutil.copyfile(source, target)
