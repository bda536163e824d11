"""Answers kept in memory: asked again, or typed through, a fill need not run again.

An entry is found by model, options, holes and the text around them. Where a request has one hole, the text before it is
looked up by its length and digest, so that a request whose prefix has grown by the beginning of a kept fill finds that
fill: what is left of it is the answer. Where it has grown by something else, the fill behind the token that was
contradicted can be a draft for a new one (`engine/drafts.py`). The texts of requests are kept as digests only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import OrderedDict
from dataclasses import dataclass, fields

from model_runtime.protocol import FillRequest, FillResult, HoleFill, Options, RewriteRequest, TokenInfo

KEPT_ENDS = ("complete", "max_tokens", "empty")
NOT_IN_KEY = ("deadline_ms", "frames")  # an answer that was not cut short is the same whatever these are
ENTRY_BYTES = 400  # of bookkeeping, about

Key = tuple[bytes, int, bytes]  # digest of everything but the prefix, length of the prefix, digest of the prefix


@dataclass
class Entry:
    """A kept answer and its share of the bound."""

    result: FillResult
    size: int


class Results:
    """Least recently used answers, at most `limit` bytes of them."""

    def __init__(self, limit: int = 16 << 20):
        self.limit, self.bytes = limit, 0
        self.hits = self.typed = self.misses = 0
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._groups: dict[bytes, dict[Key, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, model: str, request: FillRequest | RewriteRequest) -> FillResult | None:
        """The kept answer to a request, or what is left of one after typing; None asks for a fill."""
        if request.cache == "off":
            return None
        for key, typed in self._before(model, request):
            result = self._entries[key].result
            left = after_typing(result, typed) if typed else result
            if left is None:
                continue
            self._entries.move_to_end(key)
            self.hits, self.typed = self.hits + (not typed), self.typed + bool(typed)
            return dataclasses.replace(left, timing_ms={"load": 0.0, "encode": 0.0, "denoise": 0.0, "total": 0.0})
        self.misses += 1
        return None

    def draft(self, model: str, request: FillRequest | RewriteRequest) -> str:
        """What may still hold of the nearest kept answer that typing contradicts: all behind the contradicted token."""
        if request.cache == "off":
            return ""
        for key, typed in self._before(model, request):
            fill = self._entries[key].result.holes[0]
            agreed = next((n for n, pair in enumerate(zip(fill.text, typed, strict=False)) if pair[0] != pair[1]), None)
            if agreed is None:  # the whole answer was typed, and more
                return ""
            return next((fill.text[token.end :] for token in fill.tokens if token.end > agreed), "")
        return ""

    def keep(self, model: str, request: FillRequest | RewriteRequest, result: FillResult) -> None:
        """Keep an answer, unless it was cut short or the request wants no cache."""
        if request.cache == "off" or result.end not in KEPT_ENDS:
            return
        group, prefix = split(model, request)
        key = (group, len(prefix), hashlib.sha256(prefix.encode()).digest())
        size = len(json.dumps(dataclasses.asdict(result))) + ENTRY_BYTES
        if size > self.limit:
            return
        self._drop(key)
        self._entries[key] = Entry(result, size)
        self._groups.setdefault(group, {})[key] = None
        self.bytes += size
        while self.bytes > self.limit:
            self._drop(next(iter(self._entries)))

    def status(self) -> dict[str, int]:
        """Figures for `status`."""
        return {
            "entries": len(self),
            "bytes": self.bytes,
            "limit": self.limit,
            "hits": self.hits,
            "typed": self.typed,
            "misses": self.misses,
        }

    def _before(self, model: str, request: FillRequest | RewriteRequest) -> list[tuple[Key, str]]:
        """Kept answers to what the request was before something was typed, and what was; the least typed first."""
        group, prefix = split(model, request)
        known = sorted(self._groups.get(group, ()), key=lambda key: key[1])
        matching: list[tuple[Key, str]] = []
        digest, done = hashlib.sha256(), 0
        for key in known:
            if key[1] > len(prefix):
                break
            digest.update(prefix[done : key[1]].encode())
            done = key[1]
            if digest.digest() == key[2]:
                matching.append((key, prefix[key[1] :]))
        return matching[::-1]

    def _drop(self, key: Key) -> None:
        """Forget one entry, if it is kept."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.bytes -= entry.size
        group = self._groups[key[0]]
        del group[key]
        if not group:
            del self._groups[key[0]]


def split(model: str, request: FillRequest | RewriteRequest) -> tuple[bytes, str]:
    """A digest of everything but the text before a single hole, and that text (else nothing)."""
    shared = {part.name: getattr(request, part.name) for part in fields(Options) if part.name not in NOT_IN_KEY}
    if isinstance(request, RewriteRequest):
        parts = ["rewrite", shared, list(request.range), request.strength, request.instruction, request.text]
        prefix = ""
    elif len(request.holes) == 1:
        start, end = request.holes[0]
        parts = ["hole", shared, end - start, request.text[start:]]
        prefix = request.text[:start]
    else:
        parts = ["holes", shared, [list(hole) for hole in request.holes], request.text]
        prefix = ""
    return hashlib.sha256(json.dumps([model, *parts]).encode()).digest(), prefix


def after_typing(result: FillResult, typed: str) -> FillResult | None:
    """What is left of an answer once `typed` stands before its hole; None if no fill goes on from there."""
    left = [holes for kept in (result.holes, *result.alternatives) if (holes := rest_of(kept[0], typed)) is not None]
    if not left:
        return None
    typed_tokens = len(result.holes[0].tokens) - len(left[0][0].tokens)
    seen = result.prompt_tokens + max(0, typed_tokens)
    return dataclasses.replace(result, holes=left[0], alternatives=left[1:], prompt_tokens=seen)


def rest_of(fill: HoleFill, typed: str) -> list[HoleFill] | None:
    """The end of a fill that begins with `typed`, its tokens moved along; None if it does not, or nothing is left."""
    if not fill.text.startswith(typed) or len(fill.text) == len(typed):
        return None
    count = len(typed)
    tokens = [
        TokenInfo(max(0, token.start - count), token.end - count, token.confidence, token.step)
        for token in fill.tokens
        if token.end > count
    ]
    logs = [math.log(max(token.confidence, 1e-12)) for token in tokens]
    confidence = math.exp(sum(logs) / len(logs)) if logs else 0.0
    start, end = fill.start + count, fill.end + count
    return [HoleFill(start, end, fill.text[count:], confidence, fill.length_policy, tokens)]
