"""Copies: which stays is a matter of the documents, never of the order in which they were found."""

from __future__ import annotations

import hashlib
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from world import module

from training.corpus.clean import minhash, shingles
from training.corpus.duplicates import find_copies

REASONS = ("copy of held out", "copy of validation", "duplicate")
BASE = [module(seed, 20) for seed in range(4)]


def changed(text: str, number: int) -> str:
    """A near copy of a text."""
    lines = text.splitlines(keepends=True)
    lines[number % len(lines)] = f"# line {number}\n"
    return "".join(lines)


TEXTS = [*BASE, *(changed(text, n) for text in BASE[:2] for n in (3, 30, 60)), BASE[0], module(9, 20)]
SKETCHES = np.stack([minhash(text).hashvalues.astype(np.uint32) for text in TEXTS])


def document(number: int, role: int, group: str) -> dict:
    digest = hashlib.sha256(" ".join(TEXTS[number].split()).encode()).hexdigest()
    return {"source": "s", "group": group, "path": f"m{number}.py", "role": role, "digest": digest, "number": number}


def kept(documents: list[dict], near: float | None = 0.7) -> list[tuple]:
    sketches = SKETCHES[[d["number"] for d in documents]]
    numbers, dropped = find_copies(documents, sketches, ["s"], True, near, REASONS)
    assert len(numbers) + sum(dropped.values()) == len(documents)
    return [(documents[n]["group"], documents[n]["path"], documents[n]["role"]) for n in numbers], dropped


groups = st.sampled_from(["a", "b"])
worlds = st.lists(
    st.tuples(st.integers(0, len(TEXTS) - 1), st.integers(0, 2), groups), min_size=1, max_size=25, unique=True
)


@settings(max_examples=150, deadline=None)
@given(worlds, st.randoms())
def test_the_order_does_not_matter(world, shuffle):
    documents = [document(*entry) for entry in world]
    expected = kept(documents)
    shuffle.shuffle(documents)
    assert kept(documents) == expected


@settings(max_examples=100, deadline=None)
@given(worlds)
def test_of_each_group_of_copies_one_stays_and_it_has_the_lowest_role(world):
    documents = [document(*entry) for entry in world]
    left, _ = kept(documents)
    family = {n: n if n < 4 else (n - 4) // 3 if n < 10 else 0 if n == 10 else 5 for n in range(len(TEXTS))}
    by_family: dict[int, list[int]] = {}
    for entry in documents:
        by_family.setdefault(family[entry["number"]], []).append(entry["role"])
    found = {family[int(path[1:-3])]: role for _, path, role in left}
    assert found == {name: min(roles) for name, roles in by_family.items()}
    assert len(left) == len(by_family)


def test_drops_are_counted_by_what_they_copy():
    documents = [document(0, 0, "never"), document(10, 2, "x"), document(4, 2, "x"), document(1, 2, "x")]
    left, dropped = kept(documents)
    assert [path for _, path, _ in left] == ["m0.py", "m1.py"]
    assert dropped == {"s\0exact copy of held out": 1, "s\0near copy of held out": 1}


def test_without_near_only_equal_texts_are_copies():
    documents = [document(number, 2, "x") for number in range(len(TEXTS))]
    assert len(kept(documents, near=None)[0]) == len(TEXTS) - 1


def test_the_estimate_finds_what_the_true_similarity_says():
    """Against the Jaccard similarity counted exactly, over texts of every degree of likeness."""
    choose = random.Random(0)
    wrong = 0
    for _ in range(40):
        first, second = module(choose.randrange(100), 30), module(choose.randrange(100), 30)
        lines, other = first.splitlines(), second.splitlines()
        share = choose.random()
        mixed = "\n".join(other[n] if choose.random() < share else line for n, line in enumerate(lines[: len(other)]))
        a, b = set(shingles(first, 5).tolist()), set(shingles(mixed, 5).tolist())
        true = len(a & b) / len(a | b)
        sketches = np.stack([minhash(text).hashvalues for text in (first, mixed)]).astype(np.uint32)
        documents = [document(0, 2, "a") | {"digest": "1"}, document(1, 2, "a") | {"digest": "2"}]
        numbers, _ = find_copies(documents, sketches, ["s"], True, 0.7, REASONS)
        wrong += (len(numbers) == 1) != (true >= 0.7) and abs(true - 0.7) > 0.15
    assert wrong == 0
