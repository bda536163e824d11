"""The packed corpus on disk: one array of tokens, where each document starts, and what it is."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from training.corpus.clean import Document, size
from training.corpus.shards import Shards, open_shards
from training.corpus.tokenizer import plain

VALIDATION_SHARE = 0.01
BATCH = 128


@dataclass(frozen=True)
class Pack:
    """Tokens (T,) uint16 or uint32, memory-mapped; offsets (D + 1,) int64; validation starts at `validation_from`."""

    tokens: np.ndarray | Shards
    offsets: np.ndarray
    validation_from: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def document(self, index: int) -> np.ndarray:
        """The tokens (length,) of one document."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


def arrange(documents: Sequence[Document], seed: int, validation: Collection[str] = ()) -> tuple[list[Document], int]:
    """The documents in a seeded order, and the index where the validation set (at least one) starts.

    The set is all of the sources named in `validation`; a share of all documents where none is named or found.
    """
    ordered = list(documents)
    random.Random(seed).shuffle(ordered)
    held = [document for document in ordered if document.file.source in validation]
    if held:
        rest = [document for document in ordered if document.file.source not in validation]
        return rest + held, len(rest)
    return ordered, len(ordered) - max(1, round(len(ordered) * VALIDATION_SHARE))


def encode(documents: Sequence[Document], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """Each document's tokens (length,) as uint16, in order, with no special tokens."""
    plain(tokenizer)
    for start in range(0, len(documents), BATCH):
        texts = [document.text for document in documents[start : start + BATCH]]
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            yield np.array(encoding.ids, dtype=np.uint16)


def _totals(documents: Sequence[Document], lengths: np.ndarray) -> dict[str, int]:
    return {"files": len(documents), "bytes": sum(map(size, documents)), "tokens": int(lengths.sum())}


def write_pack(
    folder: Path,
    documents: Sequence[Document],
    validation_from: int,
    tokenizer: Tokenizer,
    encoded: Sequence[np.ndarray],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes the five files of a pack and returns its report, `facts` included.

    `documents` and `encoded` are parallel, in the order of `arrange`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lengths = np.array([len(tokens) for tokens in encoded], dtype=np.int64)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    tokenizer.save(str(folder / "tokenizer.json"))
    np.save(folder / "tokens.npy", np.concatenate(encoded))
    np.save(folder / "documents.npy", offsets)
    listing = [
        {"source": d.file.source, "path": d.file.path, "kind": d.file.kind, "licence": d.file.licence}
        for d in documents
    ]
    (folder / "documents.json").write_text(json.dumps(listing, indent=0) + "\n", "utf-8")

    sources: dict[str, dict[str, Any]] = {}
    for index, document in enumerate(documents):
        row = sources.setdefault(
            document.file.source, {"licence": document.file.licence, "files": 0, "bytes": 0, "tokens": 0}
        )
        row["files"] += 1
        row["bytes"] += size(document)
        row["tokens"] += int(lengths[index])
    held = _totals(documents[validation_from:], lengths[validation_from:])
    tests = [index for index, document in enumerate(documents) if document.file.kind == "tests"]
    report = {
        "total": _totals(documents, lengths),
        "tests": _totals([documents[index] for index in tests], lengths[tests]),
        "validation": held | {"bytes_per_token": round(held["bytes"] / held["tokens"], 4)},
        "validation_from": validation_from,
        "vocabulary": tokenizer.get_vocab_size(),
        "sources": dict(sorted(sources.items())),
        **facts,
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return report


def load_pack(folder: Path) -> Pack:
    """Opens a pack without reading its tokens into memory."""
    report = json.loads((folder / "report.json").read_text("utf-8"))
    names = report.get("shards", ["tokens.npy"])
    return Pack(
        open_shards(folder, names),
        np.load(folder / "documents.npy"),
        report["validation_from"],
    )
