"""Clean rows of tokens: documents packed one after the other, and conversations padded to a fixed length.

Legend: L tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from training.corpus.pack import Pack
from training.errors import TrainingError


@dataclass(frozen=True)
class CleanRow:
    """Ids [L] and how many of the first are never masked: the beginning of a row, the prompt of a conversation."""

    ids_L: np.ndarray
    fixed: int
    prompt: int


class Rows(Protocol):
    """Rows of one source, by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> CleanRow: ...


class PackedRows:
    """The documents [first, last) of a pack, each ended by `eos`, as one stream cut into rows of `length`.

    A row begins with `bos` where there is one; the first token of a row is never masked, because with the shift no
    row is about it. What does not fill the last row is left out.
    """

    def __init__(self, pack: Pack, documents: tuple[int, int], length: int, bos: int | None, eos: int, name: str = ""):
        first, last = documents
        self.pack, self.first, self.length, self.bos, self.eos = pack, first, length, bos, eos
        lengths = np.diff(np.asarray(pack.offsets[first : last + 1])) + 1
        self.ends = np.cumsum(lengths)  # of each document in the stream
        self.stride = length - (bos is not None)
        self.count = int(self.ends[-1]) // self.stride if len(self.ends) else 0
        if self.count == 0:
            tokens = int(self.ends[-1]) if len(self.ends) else 0
            raise TrainingError(f"the corpus {name} is too small: {tokens} tokens do not fill a row of {length}")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> CleanRow:
        start, end = index * self.stride, (index + 1) * self.stride
        parts = [] if self.bos is None else [np.array([self.bos])]
        document = int(np.searchsorted(self.ends, start, side="right"))
        while start < end:
            begin = int(self.ends[document - 1]) if document else 0
            tokens = self.pack.document(self.first + document)
            parts.append(tokens[start - begin : end - begin])
            if end >= self.ends[document]:
                parts.append(np.array([self.eos]))
            start = int(self.ends[document])
            document += 1
        return CleanRow(np.concatenate(parts).astype(np.int64), 1, 1)


@dataclass(frozen=True)
class Conversation:
    """A prompt and its answer as token ids; the prompt ends where the answer is to begin."""

    prompt: list[int]
    answer: list[int]


class ConversationRows:
    """Conversations padded to `length` with a pad that is trained on, so that the model learns where to stop.

    DiffuCoder pads every sample to a fixed 2,048 (appendix). What is longer is left out and counted in `too_long`.
    """

    def __init__(self, conversations: Sequence[Conversation], length: int, bos: int | None, pad: int):
        start = [] if bos is None else [bos]
        rows = [(start + c.prompt, c.answer) for c in conversations if c.answer]
        self.kept = [(prompt, answer) for prompt, answer in rows if len(prompt) + len(answer) <= length]
        self.too_long = len(rows) - len(self.kept)
        self.length, self.pad = length, pad
        if not self.kept:
            raise TrainingError(f"the corpus is empty: none of {len(rows)} conversations fits in {length} tokens")

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> CleanRow:
        prompt, answer = self.kept[index]
        ids = np.full(self.length, self.pad, np.int64)
        ids[: len(prompt)] = prompt
        ids[len(prompt) : len(prompt) + len(answer)] = answer
        return CleanRow(ids, 1, len(prompt))
