"""Count the n-grams of a packed corpus into the expert's compact table: `python -m training.counts build/embedded`.

Contexts that are frequent and not random are kept, with their likeliest continuations, until the table is as large as
asked; for each order a share of the budget. What a single project says, however often, is left out: the names that it
calls its own helpers by do not help others, and those of the user's project are counted in the user's files. Tests are
left out too: `self.assertEqual(` would be likely after every `self.`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from model_runtime.engine.expert import FEATURES, context_keys, quantise
from training.corpus.pack import load_pack

SOURCES = 2  # of the corpus must say the same
# of each order: a context's smallest count, a continuation's smallest count, continuations at most
FORWARD = ((10, 4, 64), (28, 4, 20), (20, 5, 12), (16, 5, 8), (14, 6, 5), (14, 8, 4))
BACKWARD = ((10, 10, 32), (80, 9, 8), (80, 10, 4))


def count_order(
    tokens: np.ndarray,
    inside: np.ndarray,
    source: np.ndarray,
    order: int,
    forward: bool,
    pruning: tuple[int, int, int],
) -> dict[str, np.ndarray]:
    """The table of one order and direction; `inside` numbers each token's document, `source` a document's source."""
    step = 1 if forward else -1
    positions = np.arange(order, len(tokens)) if forward else np.arange(0, len(tokens) - order)
    positions = positions[inside[positions] == inside[positions - step * order]]
    key = np.zeros(len(positions), np.uint32)
    for part in np.array_split(np.arange(len(positions)), 16):
        at = positions[part]
        key[part] = context_keys(np.stack([tokens[at - step * n] for n in range(1, order + 1)], axis=1), order)
    pairs = (key.astype(np.uint64) << np.uint64(16)) | tokens[positions].astype(np.uint64)
    said = (pairs << np.uint64(16)) | source[inside[positions]].astype(np.uint64)
    said.sort()
    pairs = said >> np.uint64(16)
    first = np.flatnonzero(np.r_[True, pairs[1:] != pairs[:-1]])
    counts = np.diff(np.r_[first, len(pairs)])
    sources = np.add.reduceat(np.r_[True, said[1:] != said[:-1]], first, dtype=np.int64)
    pair_keys = (pairs[first] >> np.uint64(16)).astype(np.uint32)
    pair_tokens = (pairs[first] & np.uint64(0xFFFF)).astype(np.uint16)
    least_context, least, most = pruning
    starts = np.flatnonzero(np.r_[True, pair_keys[1:] != pair_keys[:-1]])
    distinct = np.diff(np.r_[starts, len(pair_keys)])
    totals = np.add.reduceat(counts, starts)
    context_of = np.repeat(np.arange(len(starts)), distinct)
    by_count = np.lexsort((-counts, context_of))
    rank = np.arange(len(by_count)) - np.repeat(starts, distinct)
    keep = (counts[by_count] >= least) & (rank < most) & (totals[context_of] >= least_context)
    keep &= sources[by_count] >= SOURCES
    chosen = by_count[keep]
    kept_contexts, kept_counts = np.unique(context_of[chosen], return_counts=True)
    return {
        "gaps": np.diff(pair_keys[starts[kept_contexts]], prepend=np.uint32(0)),  # small numbers, which pack well
        "lengths": kept_counts.astype(np.uint8),
        "totals": quantise(totals[kept_contexts]),
        "distinct": quantise(distinct[kept_contexts]),
        "tokens": pair_tokens[chosen],
        "counts": quantise(counts[chosen]),
    }


def count(corpus: Path, out: Path) -> None:
    """Write the table of a pack's training documents, tests left out."""
    pack = load_pack(corpus)
    end = int(pack.offsets[pack.validation_from])
    listing = json.loads((corpus / "documents.json").read_text())
    inside = np.repeat(np.arange(pack.validation_from), np.diff(pack.offsets[: pack.validation_from + 1]))
    code = np.array([document["kind"] != "tests" for document in listing])[inside]
    tokens, inside = np.asarray(pack.tokens[:end])[code].astype(np.int64), inside[code]
    vocabulary = json.loads((corpus / "report.json").read_text())["vocabulary"]
    _, source = np.unique([document["source"] for document in listing], return_inverse=True)
    arrays: dict[str, np.ndarray] = {}
    for direction in "fb":
        for order, pruning in enumerate(FORWARD if direction == "f" else BACKWARD, 1):
            table = count_order(tokens, inside, source, order, direction == "f", pruning)
            arrays |= {f"{direction}{order}.{name}": array for name, array in table.items()}
            print(f"{direction}{order}: {len(table['gaps'])} contexts, {len(table['tokens'])} pairs")
    unigram = np.bincount(tokens, minlength=vocabulary) + 0.5
    arrays["unigram"] = (unigram / unigram.sum()).astype(np.float32)
    # before it is learned, the gate believes the counts by half
    arrays["gate"] = np.zeros(len(FEATURES))
    with out.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    count(arguments.corpus, arguments.out or arguments.corpus / "expert.npz")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
