"""How close a fill comes to what stood in the hole, and how sure a share is."""

from __future__ import annotations

import ast
import difflib
import math
import warnings

import numpy as np


def exact_match(fill: str, truth: str) -> bool:
    """Whether the two are the same text, blanks at the right end aside."""
    return fill.rstrip() == truth.rstrip()


def levenshtein(a: str, b: str) -> int:
    """Return the least number of inserted, deleted and replaced characters that turn `a` into `b`.

    The usual table, a row at a time in numpy: what an insertion carries along a row is a running minimum.
    """
    if not a or not b:
        return len(a) + len(b)
    codes_b = np.frombuffer(b.encode("utf-32-le"), dtype=np.uint32)
    ramp = np.arange(len(b) + 1)
    row = ramp.copy()
    for index, code in enumerate(np.frombuffer(a.encode("utf-32-le"), dtype=np.uint32), start=1):
        below = np.empty_like(row)
        below[0] = index
        below[1:] = np.minimum(row[1:] + 1, row[:-1] + (codes_b != code))
        row = np.minimum.accumulate(below - ramp) + ramp
    return int(row[-1])


def edit_similarity(fill: str, truth: str) -> float:
    """Return 1 minus the edit distance over the longer length, right ends stripped; 1 for two empty texts."""
    fill, truth = fill.rstrip(), truth.rstrip()
    longer = max(len(fill), len(truth))
    return 1.0 - levenshtein(fill, truth) / longer if longer else 1.0


def parses(text: str) -> bool:
    """Whether `text` is a Python module."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def valid_syntax(prefix: str, fill: str, suffix: str, truth: str) -> bool:
    """Whether the filled file parses, or did not parse with the truth in the hole either."""
    return parses(prefix + fill + suffix) or not parses(prefix + truth + suffix)


def correct_ranges(fill: str, truth: str) -> list[tuple[int, int]]:
    """Return the ranges of `fill` that stand in `truth` too, in order (difflib's alignment by characters)."""
    blocks = difflib.SequenceMatcher(None, fill, truth, autojunk=False).get_matching_blocks()
    return [(block.a, block.a + block.size) for block in blocks if block.size]


def token_correct(start: int, end: int, ranges: list[tuple[int, int]]) -> bool:
    """Whether the token at `start`:`end` of a fill lies wholly in one of its correct ranges."""
    return any(low <= start and end <= high for low, high in ranges)


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's score interval (1927) of a share; the default `z` gives 95 %. No trials: (0, 1)."""
    if trials == 0:
        return 0.0, 1.0
    share, square = successes / trials, z * z
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    low = centre - half if successes else 0.0  # exact at the ends, where rounding would leave a trace
    high = centre + half if successes < trials else 1.0
    return low, high
