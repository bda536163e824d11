"""Which row of which source a run reads as its n-th: pure functions of the seed, so a run goes on where it stopped.

Rows of a source are read in a random order without repetition; when all were read, in another order again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from training.stages.recipe import Phase

BLOCK = 256  # rows within which the shares of a phase are exact to one row


def shuffled(index: int, count: int, seed: int) -> int:
    """Where `index` stands in a permutation of range(count), computed without writing the permutation down.

    A Feistel network of four rounds over the next even power of two, repeated until it lands below `count`.
    """
    half = max(1, (count - 1).bit_length() + 1 >> 1)
    low = (1 << half) - 1
    value = index
    while True:
        left, right = value >> half, value & low
        for number in range(4):
            key = f"{seed}/{number}/{right}".encode()
            left, right = right, left ^ (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") & low)
        value = left << half | right
        if value < count:
            return value


class Mixture:
    """Deals row numbers out to sources: phase by phase, in the shares of its weights."""

    def __init__(self, sizes: Mapping[str, int], phases: Sequence[Phase], rows_per_step: int, seed: int):
        """`sizes`: rows of each source. No phases: all sources as one, every row once an epoch."""
        self.sizes, self.seed = dict(sizes), seed
        self.names = list(sizes)
        self.ends = np.cumsum(list(sizes.values()))
        self.starts = [phase.from_step * rows_per_step for phase in phases]
        totals = [sum(phase.weights.values()) for phase in phases]
        self.shares = [
            np.array([phase.weights.get(name, 0.0) / total for name in self.names])
            for phase, total in zip(phases, totals, strict=True)
        ]
        self.before = [np.zeros(len(self.names), np.int64)]  # rows of each source read when a phase begins
        for number in range(1, len(phases)):
            length = self.starts[number] - self.starts[number - 1]
            self.before.append(self.before[-1] + self._read(number - 1, length))

    def __call__(self, row: int) -> tuple[str, int]:
        """The source of row number `row` of the run, and which of its rows it is."""
        if not self.starts:
            epoch, index = divmod(row, int(self.ends[-1]))
            place = shuffled(index, int(self.ends[-1]), hash_seed(self.seed, epoch))
            which = int(np.searchsorted(self.ends, place, side="right"))
            return self.names[which], place - int(self.ends[which - 1] if which else 0)
        phase = next(n for n in reversed(range(len(self.starts))) if self.starts[n] <= row)
        offset = row - self.starts[phase]
        which = int(self._pattern(phase, offset // BLOCK)[offset % BLOCK])
        read = int((self.before[phase] + self._read(phase, offset))[which])
        name = self.names[which]
        epoch, index = divmod(read, self.sizes[name])
        return name, shuffled(index, self.sizes[name], hash_seed(self.seed, name, epoch))

    def _blocks(self, phase: int, blocks: int) -> np.ndarray:
        """Rows of each source in the first `blocks` blocks; what rounding leaves goes to the largest share."""
        counts = np.floor(self.shares[phase] * (BLOCK * blocks) + 0.5).astype(np.int64)
        largest = int(self.shares[phase].argmax())
        counts[largest] += BLOCK * blocks - counts.sum()
        return counts

    def _pattern(self, phase: int, block: int) -> np.ndarray:
        """The sources [BLOCK] of one block's rows."""
        counts = self._blocks(phase, block + 1) - self._blocks(phase, block)
        sources = np.repeat(np.arange(len(self.names)), counts)
        return np.random.default_rng([self.seed, phase, block]).permutation(sources)

    def _read(self, phase: int, offset: int) -> np.ndarray:
        """Rows of each source among the first `offset` of a phase."""
        block, rest = divmod(offset, BLOCK)
        counts = self._blocks(phase, block)
        if rest:
            counts = counts + np.bincount(self._pattern(phase, block)[:rest], minlength=len(self.names))
        return counts


def hash_seed(*parts: object) -> int:
    """A seed of 63 bits from anything that prints."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
