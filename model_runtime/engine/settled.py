"""Keys and values of tokens on which a hole has settled, under full attention: an approximation with a fixed rule.

A token's keys and values are computed with the step after its revealing, the first in which it stands there, and stay
as they were then, whatever is revealed later (dKV-Cache, arXiv 2505.15781, waits one step likewise). So a step
computes the masks, the rows from which they are predicted, and what was revealed just before. docs/decoding.md has the
measured difference.
"""

from __future__ import annotations

import numpy as np

from model_runtime.engine.canvas import Cell


class SettledRows:
    """Which places behind the context's rows of a past hold which cells' rows: `slots` of them, at first none."""

    def __init__(self, slots: int):
        self._held: list[tuple[Cell, int] | None] = [None] * slots
        self.version = 0  # how often places were written

    def __len__(self) -> int:
        return len(self._held)

    def places(self, settled: list[tuple[int, Cell]], needed: set[int]) -> np.ndarray:
        """The position of each place's cell, or -1 [S]: nothing is there, its cell is gone or another token's, or its
        row is among those `needed` in the window.
        """
        positions = {id(cell): position for position, cell in settled}
        found = np.full(len(self._held), -1, np.int64)
        for slot, held in enumerate(self._held):
            if held is None:
                continue
            cell, token = held
            if id(cell) not in positions or cell.token != token:
                self._held[slot] = None
            elif positions[id(cell)] not in needed:
                found[slot] = positions[id(cell)]
        return found

    def take(self, cells: list[Cell]) -> list[tuple[int, int]]:
        """Give places to settled cells, those they have or free ones: (number in `cells`, place) of who got one."""
        own = {id(held[0]): slot for slot, held in enumerate(self._held) if held is not None}
        free = [slot for slot, held in enumerate(self._held) if held is None]
        taken = []
        for n, cell in enumerate(cells):
            slot = own.get(id(cell), free.pop() if free and id(cell) not in own else None)
            if slot is not None and cell.token is not None:
                self._held[slot] = cell, cell.token
                taken.append((n, slot))
        self.version += bool(taken)
        return taken
