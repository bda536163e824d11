"""Finds copies: equal texts by digest, similar ones by MinHash, in an order that does not matter.

Documents are compared in the order of their keys, never in the order in which they were found, so that the same set of
documents always leaves the same ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasketch import MinHashLSH


class Groups:
    """Disjoint sets of numbers; a set is named by its smallest member."""

    def __init__(self, count: int):
        self.parent = list(range(count))

    def find(self, number: int) -> int:
        """The smallest member of the set of `number`."""
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = self.parent[number]
        return number

    def join(self, a: int, b: int) -> None:
        """Makes one set of two."""
        a, b = self.find(a), self.find(b)
        self.parent[max(a, b)] = min(a, b)


def bands(permutations: int, threshold: float) -> tuple[int, int]:
    """(bands, rows in each) that find pairs of at least `threshold` with few errors, as datasketch weighs them."""
    lsh = MinHashLSH(threshold=threshold, num_perm=permutations)
    return lsh.b, lsh.r


def near_groups(sketches_DP: np.ndarray, threshold: float) -> Groups:
    """Joins documents whose estimated Jaccard similarity is at least `threshold`, candidates by LSH bands.

    Sketches (D, P) come in the order of the documents' keys. In each bucket the first document leads: those similar
    to it join it, and the others choose a leader among themselves.
    """
    count, permutations = sketches_DP.shape
    groups = Groups(count)
    band_count, rows = bands(permutations, threshold)
    for band in range(band_count):
        part = np.ascontiguousarray(sketches_DP[:, band * rows : (band + 1) * rows])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * rows))).ravel()
        order = np.argsort(keys, kind="stable")  # within a bucket: by document
        ordered = keys[order]
        edges = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
        for bucket in np.split(order, edges):
            rest = bucket
            while len(rest) > 1:
                leader, others = rest[0], rest[1:]
                similarity = (sketches_DP[others] == sketches_DP[leader]).mean(axis=1)
                similar = similarity >= threshold
                for other in others[similar]:
                    groups.join(int(leader), int(other))
                rest = others[~similar]
    return groups


def key(document: dict[str, Any], sources: dict[str, int]) -> tuple[Any, ...]:
    """What decides which of two copies stays: role, place of the source in the recipe, then the names."""
    return (
        document["role"],
        sources[document["source"]],
        document["group"],
        document["path"],
        document["digest"],
    )


def find_copies(
    documents: Sequence[dict[str, Any]],
    sketches_DP: np.ndarray | None,
    sources: Sequence[str],
    exact: bool,
    near: float | None,
    reasons: Sequence[str],
) -> tuple[list[int], Counter[str]]:
    """(numbers of the documents to keep, in the order of their keys; drops by "source\\0reason").

    `reasons` has the text for a copy of a document of role 0, 1 and 2, put after "exact" or "near".
    """
    ranks = {name: rank for rank, name in enumerate(sources)}
    order = sorted(range(len(documents)), key=lambda number: key(documents[number], ranks))
    dropped: Counter[str] = Counter()

    def drop(number: int, how: str, first: int) -> None:
        dropped[f"{documents[number]['source']}\0{how} {reasons[documents[first]['role']]}"] += 1

    if exact:
        first_of: dict[str, int] = {}
        left = []
        for number in order:
            first = first_of.setdefault(documents[number]["digest"], number)
            if first == number:
                left.append(number)
            else:
                drop(number, "exact", first)
        order = left
    if near is not None and sketches_DP is not None and len(order) > 1:
        groups = near_groups(sketches_DP[order], near)
        left = []
        for place, number in enumerate(order):
            leader = groups.find(place)
            if leader == place:
                left.append(number)
            else:
                drop(number, "near", order[leader])
        order = left
    return order, dropped
