"""Judges one text after the other: the rules, the scrubbing, and what duplicates are found by."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.corpus import clean, quality
from training.corpus.inputs import Origin, Raw, Task, read
from training.corpus.recipe import Recipe
from training.corpus.scrub import scrub
from training.corpus.sources import canonical
from training.corpus.store import replacing, write_array, write_json

# How a document is used, by precedence: of a group of copies the first role stays.
NEVER, VALIDATION, TRAIN = 0, 1, 2


@dataclass(frozen=True)
class Judged:
    """A text that is kept, or the reason why not. `sketch_P` is None where near copies are not looked for."""

    origin: Origin
    reason: str | None
    text: str = ""
    digest: bytes = b""
    sketch_P: np.ndarray | None = None
    scrubbed: Counter[str] | None = None


def judge(raw: Raw, recipe: Recipe, held_out: np.ndarray | None = None) -> Judged:
    """Applies the recipe's rules to one text. `held_out` are sorted hashes of word runs of evaluation code."""
    origin = raw.origin

    def dropped(reason: str) -> Judged:
        return Judged(origin, reason)

    if raw.reason is not None:
        return dropped(raw.reason)
    text = raw.text
    try:
        text.encode()
    except UnicodeEncodeError:
        return dropped("not UTF-8")
    reason = clean.reason_in_text(text, recipe.rules)
    if reason is not None:
        return dropped(reason)
    if raw.python:
        tree = clean.parse(text)
        if tree is None:
            return dropped("does not parse")
        reason = quality.reason_to_drop(text, tree) if recipe.quality else None
        if reason is not None:
            return dropped(reason)
    scrubbed: Counter[str] = Counter()
    if recipe.scrub:
        cleaned, scrubbed = scrub(text, raw.python)
        if cleaned is None:
            return dropped("secret that cannot be taken out")
        text = cleaned
    if held_out is not None and role_of(origin, recipe) != NEVER:
        runs = clean.shingles(text, clean.HELD_OUT_WORDS)
        if clean.share_in(runs, held_out) > clean.MAX_HELD_OUT_SHARE:
            return dropped("copy of a held-out package")
    digest = hashlib.sha256(" ".join(text.split()).encode()).digest()
    sketch = clean.minhash(text).hashvalues if recipe.duplicates.near is not None else None
    return Judged(origin, None, text, digest, sketch, scrubbed)


def chance(recipe: Recipe, *parts: str) -> float:
    """A number in [0, 1) that the seed and the parts decide, and nothing else."""
    text = "\0".join((str(recipe.seed), *parts))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64


def role_of(origin: Origin, recipe: Recipe) -> int:
    """Whether a document is never used, validated on or trained on: decided by its group, or by itself."""
    group, holdout = canonical(origin.group), recipe.holdout
    if group in map(canonical, holdout.never):
        return NEVER
    if group in map(canonical, holdout.validation):
        return VALIDATION
    parts = (group,) if holdout.by == "group" else (group, origin.path)
    return VALIDATION if chance(recipe, "validation", *parts) < holdout.share else TRAIN


def held_out_runs(texts: Iterable[str]) -> np.ndarray:
    """Sorted distinct hashes of every run of HELD_OUT_WORDS words in `texts`."""
    runs = [clean.shingles(text, clean.HELD_OUT_WORDS) for text in texts]
    return np.unique(np.concatenate(runs)) if runs else np.zeros(0, dtype=np.uint64)


def judge_all(raws: Iterable[Raw], recipe: Recipe, held_out: np.ndarray | None = None) -> Iterator[Judged]:
    """Each text judged, in order."""
    for raw in raws:
        yield judge(raw, recipe, held_out)


def judge_task(recipe: Recipe, task: Task, stem: Path, held_out: np.ndarray | None = None) -> None:
    """Reads and judges a task's texts into STEM.texts, STEM.npy (sketches) and, when both are whole, STEM.json."""
    write_judged(judge_all(read(recipe, task), recipe, held_out), recipe, stem)


def write_judged(judged: Iterable[Judged], recipe: Recipe, stem: Path) -> None:
    """Writes the three files of a piece of work: texts, sketches, and a list of documents with the counts of drops."""
    documents: list[dict[str, Any]] = []
    sketches: list[np.ndarray] = []
    dropped: Counter[str] = Counter()
    scrubbed: Counter[str] = Counter()
    place = 0
    with replacing(stem.with_suffix(".texts")) as file:
        for item in judged:
            if item.reason is not None:
                dropped[f"{item.origin.source}\0{item.reason}"] += 1
                continue
            raw = item.text.encode()
            file.write(raw)
            facts = {"start": place, "end": place + len(raw), "digest": item.digest.hex()}
            documents.append(asdict(item.origin) | facts | {"role": role_of(item.origin, recipe)})
            scrubbed.update(item.scrubbed or {})
            place += len(raw)
            if item.sketch_P is not None:
                sketches.append(item.sketch_P)
    if sketches:
        write_array(stem.with_suffix(".npy"), np.stack(sketches).astype(np.uint32))
    facts = {
        "documents": documents,
        "dropped": dict(sorted(dropped.items())),
        "scrubbed": dict(sorted(scrubbed.items())),
    }
    write_json(stem.with_suffix(".json"), facts)
