"""Choose among candidate fills of the same holes: does it parse, does it repeat its surroundings, is it likely.

The order is that of `Score`, best first. Everything here is a pure function of the texts and confidences.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace
from typing import NamedTuple

from model_runtime.engine.syntax import count_errors, parse_window
from model_runtime.protocol import HoleFill, apply_fills

ECHO_PENALTY = 2.0  # nats a token: a full echo costs as much as every token being e² ≈ 7 times less likely
ECHO_FULL = 8  # letters and digits repeated that make an echo full: about one line's worth of a name and a word
LEAST_CONFIDENCE = 1e-12  # as `HoleFill.confidence` counts a token of confidence 0


class Score(NamedTuple):
    """What candidates are ordered by, the least first; the first field that differs decides.

    blank: every fill is empty or white space.
    errors: syntax errors of the text with the fills in it, as `parse_costs` counts them: fewer are better up to what
        the text had before, and all above that are equally bad. 0 without a grammar.
    cost: nats a token, -(mean log-likelihood) + ECHO_PENALTY * echo.
    """

    blank: bool
    errors: int
    cost: float


def rank(text: str, candidates: list[list[HoleFill]], language: str | None) -> list[list[HoleFill]]:
    """The candidates, best first, those of the same texts merged (the likeliest kept); ties keep the order given.

    Each candidate holds its fills in the order of their ranges in `text`. `language` is one of
    `syntax_table.GRAMMARS`, or None: then nothing is parsed. KeyError for another.
    """
    distinct: dict[tuple[tuple[int, int, str], ...], list[HoleFill]] = {}
    for candidate in candidates:
        key = tuple((fill.start, fill.end, fill.text) for fill in candidate)
        if key not in distinct or mean_log_likelihood(candidate) > mean_log_likelihood(distinct[key]):
            distinct[key] = candidate
    if len(distinct) < 2:
        return list(distinct.values())
    errors = parse_costs(text, list(distinct.values()), language)
    scored = [
        (Score(is_blank(candidate), count, cost(text, candidate)), candidate)
        for candidate, count in zip(distinct.values(), errors, strict=True)
    ]
    return [candidate for _, candidate in sorted(scored, key=lambda pair: pair[0])]


def is_blank(candidate: list[HoleFill]) -> bool:
    """Whether no fill has anything but white space."""
    return not any(fill.text.strip() for fill in candidate)


def cost(text: str, candidate: list[HoleFill]) -> float:
    """Nats a token: how unlikely the candidate is, plus what its worst echo costs."""
    ends = [fill.start for fill in candidate[1:]] + [len(text)]
    starts = [0] + [fill.end for fill in candidate[:-1]]
    echoes = [
        echo(text[start : fill.start], fill.text, text[fill.end : end])
        for start, fill, end in zip(starts, candidate, ends, strict=True)
    ]
    return ECHO_PENALTY * max(echoes, default=0.0) - mean_log_likelihood(candidate)


def mean_log_likelihood(candidate: list[HoleFill]) -> float:
    """Mean log-confidence over the tokens of all holes, nats; 0.0 without tokens."""
    logs = [math.log(max(token.confidence, LEAST_CONFIDENCE)) for fill in candidate for token in fill.tokens]
    return math.fsum(logs) / len(logs) if logs else 0.0


def echo(prefix: str, fill: str, suffix: str) -> float:
    """How much of its surroundings a fill says again, from 0 to 1: letters and digits repeated, over ECHO_FULL.

    Counted is the longest of these, white space aside:
    - the end of the fill that is also the start of the suffix;
    - the suffix's first line, where it is a line of the fill;
    - the end of the line before the fill that is also the fill's start; where the fill begins a line, the line above,
      if the fill's first line is the same.
    Punctuation counts nothing, so that `(a)` before `)` is no echo.
    """
    filled = squeeze(fill)
    if not filled:
        return 0.0
    lines = [squeeze(line) for line in fill.splitlines()]
    after = suffix.lstrip()
    line_after = squeeze(after.partition("\n")[0])
    line_before = squeeze(prefix.rpartition("\n")[2])
    if line_before and fill[0] not in "\r\n":
        said_before = overlap(line_before, filled)
    else:
        line_above = squeeze(prefix.rstrip().rpartition("\n")[2])
        said_before = line_above if line_above == next(filter(None, lines)) else ""
    repeats = (
        overlap(filled, squeeze(after[: 2 * len(fill)])),  # more of the suffix than a fill can repeat
        line_after if line_after in lines else "",
        said_before,
    )
    return min(1.0, max(sum(map(str.isalnum, repeated)) for repeated in repeats) / ECHO_FULL)


def squeeze(text: str) -> str:
    """The text without white space."""
    return "".join(text.split())


def overlap(left: str, right: str) -> str:
    """The longest text that ends `left` and begins `right`."""
    for length in range(min(len(left), len(right)), 0, -1):
        if left.endswith(right[:length]):
            return right[:length]
    return ""


def parse_costs(text: str, candidates: list[list[HoleFill]], language: str | None) -> list[int]:
    """The syntax errors around the holes with each candidate in place; all that are worse than before are one worse.

    Before means the text as it was given; where that has errors, the text with the holes empty.
    """
    if language is None:
        return [0] * len(candidates)
    fills = list(itertools.chain.from_iterable(candidates))
    low, high = parse_window(text, min(fill.start for fill in fills), max(fill.end for fill in fills))
    tail = len(text) - high

    @functools.cache
    def errors(filled: str) -> int:
        return count_errors(filled[low : len(filled) - tail], language)

    costs = []
    for candidate in candidates:
        found = errors(apply_fills(text, candidate))
        before = errors(text)
        if before:
            before = errors(apply_fills(text, [replace(fill, text="") for fill in candidate]))
        costs.append(min(found, before + 1))
    return costs
