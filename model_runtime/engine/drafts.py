"""A fill that starts from an earlier one: what was typed contradicts a suggestion, and the rest of it may still hold.

The hole gets masks for what was contradicted and behind them one for each token of that rest, the draft. A mask with a
draft is a mask like any other, but where the model's best candidate is the draft's own token, less is asked of its
probability before it stays (`samplers.py`). So what still fits comes back in few steps, what does not is written anew,
and no pass is spent on telling one from the other.
"""

from __future__ import annotations

from model_runtime.engine.canvas import Cell, Hole

MASKS = 12  # before the draft, in a hole that can grow and shrink; with 4, fills got worse


def lay_draft(hole: Hole, tokens: list[int], max_tokens: int) -> None:
    """Put masks and the tokens of a draft between the head and the tail of an unfilled hole, `max_tokens` at most."""
    at = len(hole.cells) - bool(hole.tail)
    cells = [*(Cell() for _ in range(MASKS)), *(Cell(draft=token) for token in tokens)]
    hole.cells[at:at] = cells[:max_tokens]
