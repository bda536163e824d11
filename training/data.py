"""Batches of infill rows from a packed corpus: batch number n is a pure function of the seed and n.

That is what makes a run resumable to the bit: nothing of the loader needs saving but the number.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training.corpus.pack import Pack
from training.objectives.holes import InfillShape, TokenIds
from training.objectives.infill import Rows, stack_rows
from training.objectives.layouts import LAYOUTS


class InfillBatches(Dataset):
    """Batch n of `batch_size` rows from the documents [first, last) of a pack."""

    def __init__(
        self,
        pack: Pack,
        documents: tuple[int, int],
        shape: InfillShape,
        ids: TokenIds,
        batch_size: int,
        seed: int,
    ):
        self.pack, self.shape, self.ids = pack, shape, ids
        self.batch_size, self.seed = batch_size, seed
        if shape.layout not in LAYOUTS:
            raise ValueError(f"a layout of rows is one of {', '.join(LAYOUTS)}, not {shape.layout!r}")
        self.lay_out = LAYOUTS[shape.layout]
        first, last = documents
        starts, ends = pack.offsets[first:last], pack.offsets[first + 1 : last + 1]
        long_enough = ends - starts >= 32
        self.starts, self.ends = starts[long_enough], ends[long_enough]
        if len(self.starts) == 0:
            raise ValueError("the corpus has no document of 32 tokens or more")
        # tokens are drawn evenly, so documents by their length
        self.cumulative = np.cumsum(self.ends - self.starts)

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, number: int) -> Rows:
        rng = np.random.default_rng([self.seed, number])
        rows = [self.lay_out(self.stretch(rng), self.shape, self.ids, rng) for _ in range(self.batch_size)]
        return stack_rows(rows)

    def stretch(self, rng: np.random.Generator) -> np.ndarray:
        """A run of at most `shape.stretch` - 1 tokens that starts where a line does."""
        document = int(np.searchsorted(self.cumulative, rng.integers(self.cumulative[-1]), side="right"))
        start, end = int(self.starts[document]), int(self.ends[document])
        want = self.shape.stretch - 1
        latest = max(start, end - want)
        at = int(rng.integers(start, latest + 1))
        if at > start:
            newlines = np.flatnonzero(self.pack.tokens[at : at + 64] == self.ids.newline)
            at = at + int(newlines[0]) + 1 if len(newlines) else at
        piece = self.pack.tokens[at : min(at + want, end)]
        return piece if len(piece) >= 16 else self.pack.tokens[start : min(start + want, end)]


def leave_signals_to_the_trainer(_: int) -> None:
    """A loader process outlives the signal that tells the trainer to save and stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def batches(dataset: Dataset, first: int, workers: int) -> Iterator[Any]:
    """Batches from number `first` on, without end, built ahead by `workers` processes."""

    def numbers() -> Iterator[int]:
        n = first
        while True:
            yield n
            n += 1

    class Sampler(torch.utils.data.Sampler):
        def __iter__(self) -> Iterator[int]:
            return numbers()

    yield from DataLoader(
        dataset,
        batch_size=None,
        sampler=Sampler(),
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=leave_signals_to_the_trainer,
        generator=torch.Generator(),  # its own, so that a resumed run finds the global one as it was
    )
