"""What a corpus recipe may say: sources and their weights, rules, duplicates, holdout, tokenizer, shards."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from training.corpus.clean import Limits
from training.corpus.licences import ALLOWED
from training.corpus.sources import HELD_OUT, canonical

FILES = ("standard_library", "packages", "folder", "git")
ROWS = ("parquet", "jsonl", "hub")
NEED_PATH = ("folder", "git", "parquet", "jsonl")


@dataclass(frozen=True)
class Source:
    """Where texts come from. `path` may be a pattern such as checkouts/*; each folder is then a group of its own."""

    kind: Literal["standard_library", "packages", "folder", "git", "parquet", "jsonl", "hub"]
    name: str = ""  # default: the kind, or the last part of the path
    path: Path | None = None
    include: tuple[str, ...] = ("*.py",)  # patterns of file names
    only: tuple[str, ...] = ()  # packages: these and no others
    weight: float = 1.0  # times that a document stands in the corpus; parts of one by lot
    cap_mb: float | None = None  # keep at most about this much of it
    licence: str | None = None  # of what says none itself, as SPDX
    dataset: str | None = None  # hub: owner/name
    config: str | None = None
    revision: str | None = None
    split: str = "train"
    text_field: str = "content"
    path_field: str | None = None
    group_field: str | None = None  # package or repository, for holdout
    licence_field: str | None = None
    language: str = "python"  # of rows without a path
    limit: int | None = None  # rows to read, from the start of each shard

    def __post_init__(self) -> None:
        if self.kind in NEED_PATH and self.path is None:
            raise ValueError(f"a source of kind {self.kind} needs a path")
        if self.kind == "hub" and not self.dataset:
            raise ValueError("a source of kind hub needs dataset: owner/name")
        if self.kind in ROWS and not (self.licence or self.licence_field):
            raise ValueError(f"a source of kind {self.kind} needs licence_field, or licence for all of its rows")
        if self.weight < 0:
            raise ValueError(f"weight is 0 or more, not {self.weight}")
        if self.cap_mb is not None and self.cap_mb <= 0:
            raise ValueError(f"cap_mb is more than 0, not {self.cap_mb}")
        if not self.name:
            given = self.dataset or (self.path and self.path.stem.replace("*", "")) or self.kind
            object.__setattr__(self, "name", str(given))


@dataclass(frozen=True)
class Duplicates:
    """When two texts count as one. `near` is the Jaccard similarity of 5-word runs, or null to keep near ones."""

    exact: bool = True
    near: float | None = 0.7

    def __post_init__(self) -> None:
        if self.near is not None and not 0.3 <= self.near <= 1:
            raise ValueError(f"near lies between 0.3 and 1, not {self.near}")


@dataclass(frozen=True)
class Holdout:
    """Groups (packages, repositories) that are never trained on, and what validation consists of."""

    never: tuple[str, ...] = HELD_OUT  # for evaluation: in no part of the corpus; copies are dropped as well
    validation: tuple[str, ...] = ()  # kept whole for validation
    share: float = 0.01  # of the other groups or documents, for validation
    by: Literal["group", "document"] = "group"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"share is at least 0 and below 1, not {self.share}")
        both = {canonical(name) for name in self.never} & {canonical(name) for name in self.validation}
        if both:
            raise ValueError(f"{min(both)} stands under both never and validation")


@dataclass(frozen=True)
class Tokens:
    """A tokenizer to train (`vocabulary` ids), or one to take: a tokenizer.json or a checkpoint's folder."""

    vocabulary: int = 8192
    take: Path | None = None
    add: dict[str, str] = field(default_factory=dict)  # role (mask, pad, expand, delete): spelling
    sample_mb: float = 200.0  # texts that training reads

    def __post_init__(self) -> None:
        if self.vocabulary < 300:
            raise ValueError(f"vocabulary is at least 300 (256 bytes and the special tokens), not {self.vocabulary}")
        if self.add and self.take is None:
            raise ValueError("add needs take: a trained tokenizer has its special tokens already")


@dataclass(frozen=True)
class Cluster:
    """How the same steps run as datatrove pipelines. Nothing here changes a byte of the corpus."""

    executor: Literal["local", "slurm", "ray"] = "local"
    tasks: int = 2
    workers: int = -1  # at once; -1: all tasks
    logs: Path | None = None
    partition: str = ""  # slurm
    qos: str = "normal"  # slurm
    time: str = "20:00:00"  # slurm
    cpus_per_task: int = 1
    mem_per_cpu_gb: int = 4
    setup: str | None = None  # slurm: shell lines before a task, e.g. to enter an environment


@dataclass(frozen=True)
class Recipe:
    """A corpus: same recipe, same inputs and same seed give the same bytes."""

    sources: tuple[Source, ...]
    seed: int = 0
    licences: tuple[str, ...] = ALLOWED
    rules: Limits = field(default_factory=Limits)
    quality: bool = True  # what a file of Python must hold: quality.py
    scrub: bool = True  # secrets and e-mail addresses
    duplicates: Duplicates = field(default_factory=Duplicates)
    holdout: Holdout = field(default_factory=Holdout)
    tests_share: float | None = 0.15  # most of the training code that may be tests
    tokenizer: Tokens = field(default_factory=Tokens)
    shard_mb: float = 64.0  # text in a shard of tokens
    cluster: Cluster = field(default_factory=Cluster)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources is empty")
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are called {name}: give one another name")
        if self.shard_mb <= 0:
            raise ValueError(f"shard_mb is more than 0, not {self.shard_mb}")
