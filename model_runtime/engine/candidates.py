"""Which fills are made for a request: one, or several that are ranked.

Several come from the probed lengths, and from other seeds when a request wants alternatives, or when a rewrite does not
parse: without a temperature every seed gives the same, so those get one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from model_runtime.engine.lengths import ladder_around
from model_runtime.protocol import FillRequest, HoleFill

ALTERNATIVE_TEMPERATURE = 0.7
TRIES = 3  # attempts for each alternative that is wanted: some come out the same
REWRITES = 8  # attempts at a rewrite that parses


@dataclass(frozen=True)
class Variant:
    """One fill to make: the holes' first lengths, a seed, a temperature."""

    lengths: tuple[int, ...]
    seed: int
    temperature: float


def variants(request: FillRequest, lengths: list[int], probed: bool, rewrite: bool) -> Iterator[Variant]:
    """The fills to try, the plain one first."""
    sizes = [tuple(lengths)]
    if probed:
        ladders = [ladder_around(length, request.max_tokens) for length in lengths]
        sizes = list(dict.fromkeys(tuple(ladder[min(n, len(ladder) - 1)] for ladder in ladders) for n in range(3)))
    for size in sizes:
        yield Variant(size, request.seed, request.temperature)
    count = TRIES * request.alternatives if request.alternatives > 1 else 1
    for n in range(1, max(count, REWRITES) if rewrite else count):
        temperature = request.temperature or ALTERNATIVE_TEMPERATURE
        yield Variant(sizes[n % len(sizes)], request.seed + n, temperature)


def enough(request: FillRequest, made: list[list[HoleFill]], probed: bool, sound: bool = True) -> bool:
    """Whether so many different fills were made, and a `sound` one among them, that nothing more needs trying."""
    different = len({tuple(hole.text for hole in holes) for holes in made})
    return sound and len(made) >= (3 if probed else 1) and different >= request.alternatives
