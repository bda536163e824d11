"""What a problem of any benchmark is, and reading records from a file; each format has a module beside this one."""

from __future__ import annotations

import gzip
import json
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from model_runtime.protocol import RequestError
from training.jsonl import parse_jsonl
from training.rewards.sandbox import CANDIDATE, Limits
from training.rewards.tests import Test

Record = Mapping[str, Any]
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")


@dataclass(frozen=True)
class Program:
    """A suite that runs a solution: `tests` of the module `name`, whose code is the solution followed by `after`."""

    tests: tuple[Test, ...]
    after: str = ""
    limits: Limits = field(default_factory=Limits)
    packages: tuple[Path, ...] = ()
    name: str = CANDIDATE


@dataclass(frozen=True)
class Inputs:
    """A suite of EvalPlus: on each input a solution has to return what the reference does, up to `atol`."""

    entry_point: str
    inputs: tuple[Any, ...]  # of positional arguments
    reference: str
    atol: float
    family: Literal["humaneval", "mbpp"]


@dataclass(frozen=True)
class Exact:
    """A suite that runs nothing: the fill has to be this text, white space at its ends aside."""

    text: str


Suite = Program | Inputs | Exact


@dataclass(frozen=True)
class Problem:
    """A problem. A solution passes when it passes every suite.

    - `shape`: "infill" (what stands between `prompt` and `suffix`), "complete" (a function whose beginning is `prompt`)
      or "instruct" (a task in words).
    - `gold`: what the benchmark gives as the answer: the fill, or all that follows the prompt; None if it gives none.
    - `stops`: where a completion that is not a chat answer ends, whichever comes first.
    """

    id: str
    shape: Literal["infill", "complete", "instruct"]
    prompt: str
    suites: Mapping[str, Suite]
    suffix: str = ""
    gold: str | None = None
    stops: tuple[str, ...] = ()
    language: str = "python"
    header: str = ""  # code that goes before an answer which is a program of its own
    max_lines: int | None = None  # that the benchmark's name promises of a fill
    split: str = ""  # of a mined task: "held_out" where its package is kept from training


def installed_packages() -> tuple[Path, ...]:
    """Where this environment keeps what tests import (numpy and the like)."""
    return tuple(dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")))


def read_records(path: Path) -> Iterator[tuple[str, Record]]:
    """The records of a file, or of all files of a folder in the order of their names, each with where it stands.

    RequestError with one sentence for a file that cannot be read as what its name says, or that is empty.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES))
        if not files:
            raise RequestError(f"{path} has no file that ends in {', '.join(SUFFIXES)}")
    else:
        files = [path]
    count = 0
    for file in files:
        for number, record in enumerate(_records_of(file), 1):
            where = f"{file.name}, record {number}"
            if not isinstance(record, dict):
                raise RequestError(f"{where} is {type(record).__name__}, not an object with fields")
            count += 1
            yield where, record
    if not count:
        raise RequestError(f"{path} is empty: it holds no problem")


def _records_of(file: Path) -> Iterable[Any]:
    if not file.is_file():
        raise RequestError(f"there is no file {file}")
    if not file.name.endswith(SUFFIXES):
        raise RequestError(f"{file} is none of {', '.join(SUFFIXES)}, the formats that benchmarks come in")
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_table(file).to_pylist()
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        if file.suffix == ".json":
            whole = json.loads(data)
            return whole if isinstance(whole, list) else [whole]
        return parse_jsonl(data)
    except (OSError, EOFError, ValueError) as error:  # pyarrow's, json's and unicode's errors are ValueErrors
        raise RequestError(f"{file} cannot be read: {' '.join(str(error).split())}") from error


def text_field(record: Record, name: str, where: str) -> str:
    """A field that is text; RequestError naming it where it is missing or something else."""
    value = record.get(name)
    if not isinstance(value, str):
        kind = "missing" if value is None else f"{type(value).__name__}, not text"
        raise RequestError(f"{where}: the field {name} is {kind}")
    return value


def list_field(record: Record, name: str, where: str) -> list[Any]:
    """A field that is a list; RequestError naming it where it is missing or something else."""
    value = record.get(name)
    if not isinstance(value, list):
        kind = "missing" if value is None else f"{type(value).__name__}, not a list"
        raise RequestError(f"{where}: the field {name} is {kind}")
    return value
