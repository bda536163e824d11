"""How autoregressive a decoding was: local and global AR-ness (DiffuCoder, arXiv 2506.20639, appendix A.2).

A decoding of one token a step is an order: p_1 … p_T, the position that each step revealed. Left to right is one
order of many; AR-ness says how near to it a decoding was. The paper leaves two things open, so both readings are here:

- `match`: the k positions before p_t are the k left of it as a *set*, or as a *sequence*, each one step after the
  one to its left. The appendix compares sets; the text describes a run. Only the sequence never rises with k.
- `divisor`: T as the paper writes it, though no step before the (k+1)-th can match, so that left to right gives
  (T - k) / T; or the steps that can match ("valid"), T - k, which gives 1.

Where a step revealed several tokens their order is undefined: `decoding_order` puts them from left to right and
says how many steps there were, and the figure is then an upper bound rather than a measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Match = Literal["set", "sequence"]
Divisor = Literal["T", "valid"]
MATCHES: tuple[Match, ...] = ("set", "sequence")
DIVISORS: tuple[Divisor, ...] = ("T", "valid")


@dataclass(frozen=True)
class Order:
    """The positions in the order they were revealed, and in how many steps; fewer steps than positions are ties."""

    positions: list[int]
    steps: int

    @property
    def exact(self) -> bool:
        """Whether each step revealed one token, as AR-ness is defined."""
        return self.steps == len(self.positions)


def local_arness(order: Sequence[int], k: int = 1, match: Match = "set", divisor: Divisor = "T") -> float | None:
    """The share of steps whose k predecessors revealed the k positions to the left.

    `order`: T distinct positions. None where there is nothing to divide by (an empty order; "valid" and T <= k).
    """
    positions_T = _positions(order, k)
    if match not in MATCHES or divisor not in DIVISORS:
        raise ValueError(f"match is one of {', '.join(MATCHES)} and divisor one of {', '.join(DIVISORS)}")
    count = len(positions_T) if divisor == "T" else len(positions_T) - k
    if count <= 0:
        return None
    if len(positions_T) <= k:
        return 0.0
    # how far left of p_t each of the k steps before it was, [T - k, k]
    back_TK = np.lib.stride_tricks.sliding_window_view(positions_T, k + 1)
    left_TK = (back_TK[:, -1:] - back_TK[:, :-1])[:, ::-1]
    if match == "set":
        left_TK = np.sort(left_TK, axis=1)
    return float((left_TK == np.arange(1, k + 1)).all(axis=1).sum() / count)


def global_arness(order: Sequence[int], k: int = 1) -> float | None:
    """The share of steps that revealed one of the k leftmost masked positions; None for an empty order."""
    positions_T = _positions(order, k)
    if not len(positions_T):
        return None
    return float((ranks_left(positions_T) < k).mean())


def ranks_left(order: Sequence[int] | np.ndarray) -> np.ndarray:
    """How many masked positions were left of the revealed one at each step, [T]; 0 everywhere is left to right."""
    positions_T = np.asarray(order, dtype=np.int64)
    later_TT = np.triu(np.ones((len(positions_T),) * 2, dtype=bool), 1)
    return ((positions_T[None, :] < positions_T[:, None]) & later_TT).sum(axis=1)


def arness(order: Sequence[int], ks: Iterable[int] = (1, 2, 4, 8)) -> dict[str, dict[int, float | None]]:
    """Every variant by name and k: local_{set,sequence}_over_{T,valid} and global."""
    ks = list(ks)
    found: dict[str, dict[int, float | None]] = {
        f"local_{match}_over_{divisor}": {k: local_arness(order, k, match, divisor) for k in ks}
        for match in MATCHES
        for divisor in DIVISORS
    }
    return {**found, "global": {k: global_arness(order, k) for k in ks}}


def decoding_orders(start_BL: Any, history: Sequence[Any], mask_id: int) -> list[Order]:
    """The order of every row, from the canvas before the first step and those after each, all [B, L].

    Arrays or tensors on the CPU. A position counts when it stops being `mask_id` for good; what was never masked or
    still is at the end does not count.
    """
    masked_SBL = np.stack([np.asarray(canvas_BL) == mask_id for canvas_BL in (start_BL, *history)])
    orders = []
    for masked_SL in masked_SBL.swapaxes(0, 1):
        # the last canvas that has the mask; the step after it revealed the position
        last_L = len(masked_SL) - 1 - masked_SL[::-1].argmax(axis=0)
        revealed = np.flatnonzero(masked_SL.any(axis=0) & (last_L < len(masked_SL) - 1))
        steps = last_L[revealed]
        chosen = np.lexsort((revealed, steps))
        orders.append(Order(revealed[chosen].tolist(), len(np.unique(steps))))
    return orders


def _positions(order: Sequence[int], k: int) -> np.ndarray:
    if k < 1:
        raise ValueError(f"k of AR-ness is at least 1, not {k}")
    positions_T = np.asarray(order, dtype=np.int64)
    if len(np.unique(positions_T)) != len(positions_T):
        raise ValueError("an order names every position once")
    return positions_T
