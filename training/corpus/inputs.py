"""From a recipe's sources to texts: what there is to read, in pieces that any process can read on its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from model_runtime.protocol import RequestError
from training.corpus import sources
from training.corpus.clean import MEGABYTE, decode
from training.corpus.licences import Licences, decide, in_header
from training.corpus.recipe import ROWS, Recipe, Source

TASK_MB = 1.0
PATTERN = re.compile(r"[*?\[]")
PYTHON = frozenset({".py", ".pyi", ".pyw"})


@dataclass(frozen=True)
class Origin:
    """Where a text is from. `group` is its package or repository; `kind` is "code" or "tests"."""

    source: str
    group: str
    path: str
    kind: str
    licence: str


@dataclass(frozen=True)
class Raw:
    """A text as it was found, or the reason why there is none."""

    origin: Origin
    text: str = ""
    python: bool = True
    reason: str | None = None


@dataclass(frozen=True)
class Entry:
    """A file to read: what is known of it before that. `licence` is that of its surroundings."""

    location: Path
    group: str
    path: str
    licence: str | None
    size: int
    changed: int  # mtime in nanoseconds


@dataclass(frozen=True)
class Task:
    """A piece of work: files, or shard `shard` of `shards` of a data set's rows."""

    source: int
    entries: tuple[Entry, ...] = ()
    shard: int = 0
    shards: int = 0


@dataclass(frozen=True)
class Inputs:
    """All that there is to read. `facts` changes whenever an input does."""

    tasks: tuple[Task, ...]
    left_out: dict[str, str]
    facts: tuple[Any, ...]


def find_inputs(recipe: Recipe) -> Inputs:
    """Lists what the sources hold, in a fixed order; RequestError for a source that is not there."""
    tasks: list[Task] = []
    left_out: dict[str, str] = {}
    facts: list[Any] = []
    for number, source in enumerate(recipe.sources):
        if source.kind in ROWS:
            shards, about = find_rows(source)
            tasks += [Task(number, (), shard, shards) for shard in range(shards)]
            facts.append(about)
        else:
            entries = sorted(find_files(recipe, source, left_out), key=lambda entry: (entry.group, entry.path))
            tasks += [Task(number, piece) for piece in pieces(entries)]
            facts.append([(e.group, e.path, e.size, e.changed, e.licence) for e in entries])
    return Inputs(tuple(tasks), left_out, tuple(facts))


def pieces(entries: Sequence[Entry], megabytes: float = TASK_MB) -> Iterator[tuple[Entry, ...]]:
    """Runs of entries of about `megabytes` each."""
    piece: list[Entry] = []
    size = 0
    for entry in entries:
        piece.append(entry)
        size += entry.size
        if size >= megabytes * MEGABYTE:
            yield tuple(piece)
            piece, size = [], 0
    if piece:
        yield tuple(piece)


def find_files(recipe: Recipe, source: Source, left_out: dict[str, str]) -> Iterator[Entry]:
    """The files of a source that reads files; packages that may not be used are noted in `left_out`."""
    if source.kind == "standard_library":
        for file in sources.standard_library(source.path and existing(source)):
            yield entry_of(file.location, sources.STANDARD_LIBRARY, file.path, file.licence)
    elif source.kind == "packages":
        where = None if source.path is None else metadata.distributions(path=[str(existing(source))])
        found, refused = sources.installed(where)
        names = {sources.canonical(name) for name in source.only}
        for name in sorted(names - {file.source for file in found}):
            raise RequestError(f"{source.name}: the package {name} is {refused.get(name, 'not installed')}")
        left_out |= {name: why for name, why in refused.items() if not names or name in names}
        for file in found:
            if not names or file.source in names:
                yield entry_of(file.location, file.source, file.path, file.licence)
    else:
        for root in roots(source):
            licences = Licences(root)
            for path in git_files(root) if source.kind == "git" else folder_files(root):
                if fits(path, source.include):
                    location = root / path
                    outer = licences.of_folder(location.parent) or source.licence
                    yield entry_of(location, root.name, path, outer)


def existing(source: Source) -> Path:
    """The path of a source; RequestError when nothing is there."""
    assert source.path is not None
    if not source.path.exists():
        raise RequestError(f"{source.name}: there is no {source.path}")
    return source.path


def matches(source: Source) -> list[Path]:
    """What a source's path, or pattern, stands for, sorted; RequestError for nothing."""
    path = source.path
    assert path is not None
    fixed = Path(*itertools.takewhile(lambda part: not PATTERN.search(part), path.parts))
    found = [path] if fixed == path else sorted(fixed.glob(str(path.relative_to(fixed))))
    found = [path for path in found if path.exists()]
    if not found:
        raise RequestError(f"{source.name}: there is no {source.path}")
    return found


def roots(source: Source) -> list[Path]:
    """The folders of a source of kind folder or git."""
    found = [path.resolve() for path in matches(source) if path.is_dir()]
    if not found:
        raise RequestError(f"{source.name}: {source.path} is no folder")
    names = [path.name for path in found]
    if len(set(names)) < len(names):
        raise RequestError(f"{source.name}: two folders of {source.path} have the same name")
    return found


def fits(path: str, include: Sequence[str]) -> bool:
    """Whether a file's name matches a pattern and no folder above it is vendored."""
    parts = PurePosixPath(path)
    if not any(fnmatch(parts.name, pattern) for pattern in include):
        return False
    return not sources.SKIPPED_FOLDERS.intersection(parts.parts[:-1])


def folder_files(root: Path) -> list[str]:
    """Every file under `root` outside of hidden folders, as relative paths."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
    return sorted(found)


def git_files(root: Path) -> list[str]:
    """The files that a checkout tracks; RequestError when `root` is none."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
    except FileNotFoundError:
        raise RequestError("git is needed to read checkouts, and is not installed") from None
    except subprocess.CalledProcessError as error:
        raise RequestError(f"{root} is no git checkout: {error.stderr.decode(errors='replace').strip()}") from error
    return sorted(os.fsdecode(name) for name in done.stdout.split(b"\0") if name)


def entry_of(location: Path, group: str, path: str, licence: str | None) -> Entry:
    """An entry with the file's size and time, zero where it cannot be looked at."""
    try:
        facts = location.stat()
    except OSError:
        return Entry(location, group, path, licence, 0, 0)
    return Entry(location, group, path, licence, facts.st_size, facts.st_mtime_ns)


def read(recipe: Recipe, task: Task) -> Iterator[Raw]:
    """The texts of a task, in order, each judged for size, encoding and licence."""
    source = recipe.sources[task.source]
    yield from read_rows(recipe, source, task) if source.kind in ROWS else read_files(recipe, source, task)


def read_files(recipe: Recipe, source: Source, task: Task) -> Iterator[Raw]:
    """The files of a task."""
    # the licence of a package or of CPython was judged as a whole, from its metadata
    known = source.kind in ("standard_library", "packages")
    for entry in task.entries:
        python = PurePosixPath(entry.path).suffix in PYTHON
        kind = sources.kind_of(entry.path)
        origin = Origin(source.name, entry.group, entry.path, kind, entry.licence or "unknown")
        if entry.size > recipe.rules.max_kb * 1000:
            yield Raw(origin, reason="too long")
            continue
        try:
            raw = entry.location.read_bytes()
        except OSError:
            yield Raw(origin, reason="unreadable")
            continue
        text = decode(raw)
        if text is None:
            yield Raw(origin, reason="not UTF-8")
            continue
        licence, fine = decide(text, entry.licence, recipe.licences)
        if known and in_header(text) is None:
            licence, fine = entry.licence or "unknown", True
        origin = Origin(source.name, entry.group, entry.path, kind, licence)
        yield Raw(origin, text, python, None if fine else refusal(licence))


def refusal(licence: str) -> str:
    """The reason to drop a text with a licence that is not allowed."""
    return "licence unknown" if licence in ("unknown", "LicenseRef-unknown") else "licence not allowed"


def open_rows(source: Source) -> Any:
    """A data set to stream, as `datasets` gives it, in as many shards as it has."""
    import datasets

    datasets.disable_progress_bars()
    if source.kind == "hub":
        stream = datasets.load_dataset(
            source.dataset, source.config, split=source.split, revision=source.revision, streaming=True
        )
    else:
        builder = "parquet" if source.kind == "parquet" else "json"
        files = [str(path) for path in matches(source)]
        stream = datasets.load_dataset(builder, data_files=files, split="train", streaming=True)
    return stream


@contextlib.contextmanager
def row_errors(source: Source, what: str) -> Iterator[None]:
    """Whatever goes wrong while rows are read becomes one sentence: the libraries raise errors of many kinds."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = re.sub(r"\s+", " ", str(cause)).strip()[:200] or type(cause).__name__
        raise RequestError(f"{source.name}: {what} cannot be read: {reason}") from error


def find_rows(source: Source) -> tuple[int, list[Any]]:
    """(shards, facts that change with the data) of a source of rows; a broken file is told by its name."""
    facts: list[Any] = [source.dataset, source.config, source.revision, source.split]
    if source.kind != "hub":
        for path in matches(source):
            if source.kind == "parquet":
                import pyarrow.parquet

                with row_errors(source, f"{path} as parquet"):
                    columns = set(pyarrow.parquet.read_schema(path).names)
                check_fields(source, columns, path)
            facts.append([str(path), path.stat().st_size, path.stat().st_mtime_ns])
    with row_errors(source, str(source.dataset or source.path)):
        return open_rows(source).num_shards, facts


def check_fields(source: Source, columns: set[str], where: object) -> None:
    """RequestError when a field that the recipe names is not there."""
    for name in (source.text_field, source.path_field, source.group_field, source.licence_field):
        if name is not None and name not in columns:
            raise RequestError(f"{source.name}: {where} has no field {name}; it has {', '.join(sorted(columns))}")


def read_rows(recipe: Recipe, source: Source, task: Task) -> Iterator[Raw]:
    """The rows of one shard. What is no text, or too long, is dropped by reason."""
    where = str(source.dataset or source.path)
    if source.kind != "hub":
        files = matches(source)
        where = str(files[task.shard]) if len(files) == task.shards else where
    with row_errors(source, where):
        rows = iter(open_rows(source).shard(num_shards=task.shards, index=task.shard))
    number = -1
    while source.limit is None or number + 1 < source.limit:
        with row_errors(source, where):
            row = next(rows, None)
        if row is None:
            return
        number += 1
        if number == 0:
            check_fields(source, set(row), where)
        yield raw_of_row(recipe, source, row, f"{task.shard}/{number}")


def raw_of_row(recipe: Recipe, source: Source, row: dict[str, Any], place: str) -> Raw:
    """A row as a text with its origin; a list of licences holds all at once."""
    path = str(row[source.path_field]) if source.path_field and row.get(source.path_field) else place
    group = str(row[source.group_field]) if source.group_field and row.get(source.group_field) else source.name
    given = row.get(source.licence_field) if source.licence_field else source.licence
    listed = given if isinstance(given, list | tuple) else [given]
    outer = " AND ".join(f"({name})" if " " in str(name) else str(name) for name in listed if name) or None
    text = row.get(source.text_field)
    suffix = PurePosixPath(path).suffix
    python = suffix in PYTHON if source.path_field and suffix else source.language == "python"
    origin = Origin(source.name, group, path, sources.kind_of(path), outer or "unknown")
    if not isinstance(text, str):
        return Raw(origin, reason="no text")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if len(text.encode("utf-8", "surrogatepass")) > recipe.rules.max_kb * 1000:
        return Raw(origin, reason="too long")
    licence, fine = decide(text, outer, recipe.licences)
    origin = Origin(source.name, group, path, origin.kind, licence)
    return Raw(origin, text, python, None if fine else refusal(licence))
