"""Keys and values of context that stay in memory between fills: between two keystrokes nearly all text is the same.

For a `context_blind` model a run of context depends on its own tokens only, each row on itself and those before it. So
a run is encoded in chunks of CHUNK tokens from its start, at positions that count from 0 (keys are stored before the
rotary embedding, and read at whatever position the run has by then), and a chunk is kept under a digest of the run up
to its end. An edit costs the chunks from its own on; text that only moves costs nothing.

A fill that finds its context and one that encodes it compute the same chunks from the same numbers, so their answers
are the same to the last bit, whatever was filled before.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from model_runtime.backends.interface import Backend, Past, Window

CHUNK = (
    64  # tokens: in 32 a first encoding costs half as much again as in one piece, in 128 an edit costs twice as much
)
LIMIT = 64 << 20  # bytes

Pair = tuple[Any, Any]  # keys and values [N, 1, K, P, D], as the backend has them


class KeptContext:
    """Chunks of context of one model, the least recently used dropped first; at most `limit` bytes, 0 keeps nothing."""

    def __init__(self, limit: int = LIMIT):
        self.limit, self.bytes = limit, 0
        self.found = self.encoded = 0  # tokens, since the beginning
        self._chunks: OrderedDict[bytes, Pair] = OrderedDict()

    def encode(self, backend: Backend, ids_P: np.ndarray) -> Pair:
        """Keys and values of a run of context [P], P > 0; what is not kept yet is computed."""
        digest = hashlib.sha256()
        parts: list[Pair] = []
        for start in range(0, len(ids_P), CHUNK):
            chunk = ids_P[start : start + CHUNK]
            digest.update(chunk.tobytes())
            key = digest.digest()
            before = join(backend, parts) if parts and key not in self._chunks else None
            encode = functools.partial(encode_chunk, backend, chunk, before, start)
            parts.append(self.find(key, len(chunk), encode))
        return join(backend, parts)

    def find(self, key: bytes, tokens: int, encode: Callable[[], Pair]) -> Pair:
        """What is kept under a key, or else what `encode` makes of that many tokens."""
        if key in self._chunks:
            self._chunks.move_to_end(key)
            self.found += tokens
            return self._chunks[key]
        self.encoded += tokens
        pair = encode()
        self._keep(key, pair)
        return pair

    def _keep(self, key: bytes, pair: Pair) -> None:
        if key in self._chunks:  # another fill, which runs beside this one, was faster
            return
        self._chunks[key] = pair
        self.bytes += size(pair)
        while self.bytes > self.limit:
            self.bytes -= size(self._chunks.popitem(last=False)[1])


def encode_chunk(backend: Backend, ids_W: np.ndarray, past: Pair | None, start: int) -> Pair:
    """Keys and values of the tokens of a run from `start` on, of which everything before is `past`."""
    before = np.arange(start)[None]
    window = Window(
        ids_BW=ids_W[None],
        positions_BW=start + np.arange(len(ids_W))[None],
        segments_BW=np.zeros((1, len(ids_W)), np.int64),
        rows_BR=np.zeros((1, 1), np.int64),
        bias_CV=np.zeros((1, backend.facts.vocabulary), np.float32),
        bias_rows_BR=np.zeros((1, 1), np.int64),
        past=None if past is None else Past(*past, before, np.zeros_like(before)),
    )
    _, k, v = backend.window(window)
    return k, v


def join(backend: Backend, parts: list[Pair]) -> Pair:
    """Keys and values that follow one another, as one."""
    if len(parts) == 1:
        return parts[0]
    return backend.join([k for k, _ in parts]), backend.join([v for _, v in parts])


def size(pair: Pair) -> int:
    """Bytes of keys and values."""
    return pair[0].nbytes + pair[1].nbytes
