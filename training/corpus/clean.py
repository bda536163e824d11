"""Drops what teaches nothing (generated, data, broken, copied) and balances what is left."""

from __future__ import annotations

import ast
import hashlib
import multiprocessing
import random
import re
import threading
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from datasketch import LeanMinHash, MinHash, MinHashLSH

from training.corpus.sources import SourceFile

MEGABYTE = 1_000_000
PERMUTATIONS = 64
SHINGLE_WORDS = 5
NEAR_DUPLICATE = 0.7  # Jaccard similarity of shingles
HELD_OUT_WORDS = 12
MAX_HELD_OUT_SHARE = 0.1
TEST_SHARE = 0.15
SOURCE_CAPS_MB = {"torch": 6.0, "transformers": 6.0, "sympy": 8.0}
DEFAULT_CAP_MB = 12.0

GENERATED = re.compile(
    r"auto(?:matically)?[- ]?generated|generated (?:by|from|and used)|@generated"
    r"|do\s+not\s+(?:edit|modify|change)",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"GNU (?:Lesser |Affero |Library )?General Public|Mozilla Public Licen[sc]e|\bA?L?GPL-?v?[23]\b")
LEXEMES = re.compile(
    r"""(?P<comment>\#[^\n]*)
    | (?P<literal>\b[rbuf]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
        |\b\d[\w.]*)
    | (?P<name>[^\W\d]\w*)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
WORDS = re.compile(r"\w+")
PARSING = threading.Lock()
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Limits:
    """What a text may be; lengths in characters."""

    max_kb: float = 100.0
    min_characters: int = 200
    max_line: int = 1000
    max_mean_line: float = 100.0
    max_literal_share: float = 0.7


LIMITS = Limits()


@dataclass(frozen=True)
class Document:
    """A file that was kept, with LF line ends."""

    file: SourceFile
    text: str


@dataclass(frozen=True)
class Examined:
    """What a worker found: either `reason` to drop the file, or its text, digest and MinHash."""

    file: SourceFile
    reason: str | None = None
    text: str = ""
    digest: bytes = b""
    sketch: LeanMinHash | None = None


def decode(raw: bytes) -> str | None:
    """Text with LF line ends and no byte-order mark, or None when the bytes are not UTF-8."""
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None


def is_data(text: str, max_literal_share: float = LIMITS.max_literal_share) -> bool:
    """Whether literals outnumber names so far that the file is a table. Comments do not count."""
    counts = Counter(match.lastgroup for match in LEXEMES.finditer(text))
    literals = counts["literal"]
    return literals > 50 and literals / (literals + counts["name"]) > max_literal_share


def parse(text: str) -> ast.Module | None:
    """The syntax tree of a Python module, or None. Threads take turns: CPython 3.11 counts their depths as one."""
    try:
        with PARSING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def reason_in_text(text: str, limits: Limits = LIMITS) -> str | None:
    """The first rule that a text in any language breaks, or None."""
    if len(text) < limits.min_characters:
        return "tiny"
    if GENERATED.search("\n".join(text[:2000].split("\n")[:12])):
        return "generated"
    if COPYLEFT.search(text[:3000]):
        return "copyleft notice"
    lines = text.split("\n")
    if max(map(len, lines)) > limits.max_line or len(text) / len(lines) > limits.max_mean_line:
        return "long lines"
    return "data" if is_data(text, limits.max_literal_share) else None


def reason_to_drop(text: str, limits: Limits = LIMITS) -> str | None:
    """The first rule a Python text breaks, or None. Duplicates are found elsewhere."""
    return reason_in_text(text, limits) or ("does not parse" if parse(text) is None else None)


def shingles(text: str, width: int) -> np.ndarray:
    """Sorted distinct 32-bit hashes of every run of `width` words, as uint64; shorter texts give one hash."""
    words = WORDS.findall(text)
    hashes = np.fromiter((zlib.crc32(word.encode()) for word in words), dtype=np.uint64, count=len(words))
    count = max(1, len(words) - width + 1)
    total = np.zeros(count, dtype=np.uint64)
    for offset in range(min(width, len(words))):
        total = total * MULTIPLIER + hashes[offset : offset + count] + np.uint64(1)
    return np.unique(total >> np.uint64(32))


def share_in(runs: np.ndarray, known: np.ndarray) -> float:
    """The share of `runs` that stand in `known`, which is sorted."""
    places = np.minimum(np.searchsorted(known, runs), len(known) - 1)
    return float((known[places] == runs).mean()) if len(known) else 0.0


def minhash(text: str) -> LeanMinHash:
    """64 MinHash values of the text's 5-word shingles (Broder, 1997)."""
    sketch = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
    sketch.update_batch(shingles(text, SHINGLE_WORDS))
    return LeanMinHash(sketch)


_held_out = np.zeros(0, dtype=np.uint64)


def _start_worker(held_out: np.ndarray) -> None:
    global _held_out
    _held_out = held_out


def _examine(file: SourceFile) -> Examined:
    try:
        raw = file.location.read_bytes()
    except OSError:
        return Examined(file, "unreadable")
    if len(raw) > LIMITS.max_kb * 1000:
        return Examined(file, "over 100 KB")
    text = decode(raw)
    if text is None:
        return Examined(file, "not UTF-8")
    reason = reason_to_drop(text)
    if reason is not None:
        return Examined(file, reason)
    if share_in(shingles(text, HELD_OUT_WORDS), _held_out) > MAX_HELD_OUT_SHARE:
        return Examined(file, "copy of a held-out package")
    digest = hashlib.sha256(" ".join(text.split()).encode()).digest()
    return Examined(file, None, text, digest, minhash(text))


def examine(files: Sequence[SourceFile], held_out_texts: Iterable[str] = (), workers: int = 2) -> Iterator[Examined]:
    """Reads and judges each file, in the given order. `workers` below 2 stays in this process."""
    runs = [shingles(text, HELD_OUT_WORDS) for text in held_out_texts]
    held_out = np.unique(np.concatenate(runs)) if runs else np.zeros(0, dtype=np.uint64)
    if workers < 2:
        _start_worker(held_out)
        yield from map(_examine, files)
        return
    with multiprocessing.Pool(workers, _start_worker, (held_out,)) as pool:
        yield from pool.imap(_examine, files, chunksize=16)


def remove_duplicates(examined: Iterable[Examined]) -> tuple[list[Document], Counter[str]]:
    """Keeps the first of each group of equal or nearly equal texts; counts every drop by its reason."""
    kept: list[Document] = []
    dropped: Counter[str] = Counter()
    digests: set[bytes] = set()
    near = MinHashLSH(threshold=NEAR_DUPLICATE, num_perm=PERMUTATIONS)
    for item in examined:
        if item.reason is not None:
            dropped[item.reason] += 1
            continue
        if item.digest in digests:
            dropped["exact duplicate"] += 1
            continue
        digests.add(item.digest)
        if near.query(item.sketch):
            dropped["near duplicate"] += 1
            continue
        near.insert(len(kept), item.sketch, check_duplication=False)
        kept.append(Document(item.file, item.text))
    return kept, dropped


def size(document: Document) -> int:
    """Bytes of the text in UTF-8."""
    return len(document.text.encode())


def choose(documents: list[Document], limit_bytes: float, seed: int) -> list[Document]:
    """A seeded random subset of at most `limit_bytes`, in the order given."""
    order = list(range(len(documents)))
    random.Random(seed).shuffle(order)
    chosen, total = [], 0
    for index in order:
        length = size(documents[index])
        if total + length <= limit_bytes:
            chosen.append(index)
            total += length
    return [documents[index] for index in sorted(chosen)]


def balance(documents: Sequence[Document], seed: int = 0) -> tuple[list[Document], Counter[str]]:
    """Caps each source's code, then all tests together at 15 % of the code that is left."""
    by_source: defaultdict[str, list[Document]] = defaultdict(list)
    tests: list[Document] = []
    for document in documents:
        (tests if document.file.kind == "tests" else by_source[document.file.source]).append(document)
    code: list[Document] = []
    for source, group in by_source.items():
        code += choose(group, SOURCE_CAPS_MB.get(source, DEFAULT_CAP_MB) * MEGABYTE, seed)
    kept_tests = choose(tests, TEST_SHARE * sum(map(size, code)), seed)
    dropped = Counter(
        {
            "over the source's cap": sum(map(len, by_source.values())) - len(code),
            "over the tests' cap": len(tests) - len(kept_tests),
        }
    )
    return code + kept_tests, dropped
