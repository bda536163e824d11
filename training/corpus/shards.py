"""Tokens on disk in many files, read as one array: documents lie whole within a shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from training.corpus.store import write_array
from training.corpus.tokenizer import plain

BATCH = 128


def token_type(vocabulary: int) -> type[np.unsignedinteger]:
    """The smallest type that holds every id."""
    return np.uint16 if vocabulary <= 1 << 16 else np.uint32


def shard_name(number: int) -> str:
    """The file of shard `number`."""
    return f"tokens-{number:05d}.npy"


class Shards:
    """The tokens (T,) of several memory-mapped files; a slice within one file is a view, across files a copy."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        self.arrays = list(arrays)
        self.starts = np.concatenate([[0], np.cumsum([len(array) for array in arrays])]).astype(np.int64)
        self.dtype = arrays[0].dtype
        self.shape = (int(self.starts[-1]),)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice | int | np.integer) -> np.ndarray:
        if not isinstance(wanted, slice):
            place = int(wanted) + (len(self) if wanted < 0 else 0)
            if not 0 <= place < len(self):
                raise IndexError(f"token {wanted} of {len(self)}")
            number = int(np.searchsorted(self.starts, place, side="right")) - 1
            return self.arrays[number][place - self.starts[number]]
        start, stop, step = wanted.indices(len(self))
        if step != 1:
            raise IndexError("slices of shards have no step")
        parts = []
        while start < stop:
            number = int(np.searchsorted(self.starts, start, side="right")) - 1
            end = min(stop, int(self.starts[number + 1]))
            parts.append(self.arrays[number][start - self.starts[number] : end - self.starts[number]])
            start = end
        if not parts:
            return np.zeros(0, dtype=self.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def open_shards(folder: Path, names: Sequence[str]) -> np.ndarray | Shards:
    """The tokens of the files `names`, not read into memory."""
    arrays = [np.load(folder / name, mmap_mode="r") for name in names]
    return arrays[0] if len(arrays) == 1 else Shards(arrays)


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer) -> list[np.ndarray]:
    """The tokens (length,) of each text, with no special tokens."""
    plain(tokenizer)
    kind = token_type(highest_id(tokenizer) + 1)
    found = []
    for start in range(0, len(texts), BATCH):
        for encoding in tokenizer.encode_batch_fast(list(texts[start : start + BATCH]), add_special_tokens=False):
            found.append(np.array(encoding.ids, dtype=kind))
    return found


def highest_id(tokenizer: Tokenizer) -> int:
    """The largest id; it can exceed the number of tokens where ids have gaps."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values())


def write_shard(folder: Path, number: int, texts: Sequence[str], tokenizer: Tokenizer) -> None:
    """Writes the tokens of `texts` and, once they are there, their lengths (D,) as lengths-NUMBER.npy."""
    encoded = encode_texts(texts, tokenizer)
    kind = token_type(highest_id(tokenizer) + 1)
    write_array(folder / shard_name(number), np.concatenate(encoded) if encoded else np.zeros(0, dtype=kind))
    write_array(folder / "work" / f"lengths-{number:05d}.npy", np.array([len(tokens) for tokens in encoded], np.int64))
