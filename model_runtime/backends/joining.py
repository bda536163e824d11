"""Windows of several fills as one pass: padded to a shape that they share, stacked, and what comes back taken apart.

The rows of a window mostly see one past in one place (the beginnings of a beam): such a window is a group of G rows
over one past. Where they do not (probed lengths move the text behind the hole), each row is a group of its own.

Shapes are rounded up, so that many windows share one, and windows are joined only with others of the same shape. A
window that runs alone is padded no less: what it computes may depend on its own padded shape (in which order numbers
are summed), but not on its company. Legend: F groups, G rows a group, others as in `interface.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_runtime.backends.interface import PADDING, Candidates, Past, Window

Answer = tuple[Candidates, Any, Any]  # of a window: candidates, keys, values
Steps = tuple[int, int]  # window and past are padded to multiples of these

EXACT: Steps = (1, 1)  # nothing is padded: for passes that are never joined
SHARED: Steps = (4, 128)
STACKS = 2  # stacked pasts that are kept: those of the last steps


@dataclass(frozen=True)
class Shape:
    """What windows must agree in to be joined: pasts a window, rows a past, and the padded lengths."""

    pasts: int
    group: int
    width: int
    past: int
    rows: int


def shape_of(window: Window, steps: Steps) -> Shape:
    """The padded shape of a window."""
    batch, width = window.ids_BW.shape
    past = window.past
    pasts = 1
    if past is not None and batch > 1:
        same = (past.positions_BP == past.positions_BP[:1]).all() and (past.segments_BP == past.segments_BP[:1]).all()
        pasts = 1 if same else batch
    length = 0 if past is None else past.positions_BP.shape[1]
    wide, long = steps
    return Shape(pasts, batch // pasts, -(-width // wide) * wide, -(-length // long) * long, window.rows_BR.shape[1])


def groups(windows: list[Window], steps: Steps, most: int) -> Iterator[tuple[Shape, list[int]]]:
    """Which windows run together, by their numbers: those of one shape, at most `most`."""
    found: dict[Shape, list[int]] = {}
    for n, window in enumerate(windows):
        found.setdefault(shape_of(window, steps), []).append(n)
    for shape, members in found.items():
        for start in range(0, len(members), most):
            yield shape, members[start : start + most]


@dataclass
class Joint:
    """Windows stacked: arrays [F, G, …], the past's positions and segments [F, P], and whose past each group has."""

    ids_FGW: np.ndarray
    positions_FGW: np.ndarray
    segments_FGW: np.ndarray
    rows_FGR: np.ndarray
    bias_CV: np.ndarray
    bias_rows_FGR: np.ndarray
    targets_FGR: np.ndarray
    past_positions_FP: np.ndarray
    past_segments_FP: np.ndarray
    pasts_F: list[Past | None]


def stack(windows: list[Window], shape: Shape, count: int) -> Joint:
    """Windows of one shape as one; padded with groups that nobody asked for to the size of `count` windows."""
    total, each = count * shape.pasts, (shape.pasts, shape.group)
    wide, asked = (total, shape.group, shape.width), (total, shape.group, shape.rows)
    joint = Joint(
        ids_FGW=np.zeros(wide, np.int64),
        positions_FGW=np.zeros(wide, np.int64),
        segments_FGW=np.full(wide, PADDING, np.int64),
        rows_FGR=np.zeros(asked, np.int64),
        bias_CV=windows[0].bias_CV,
        bias_rows_FGR=np.zeros(asked, np.int64),
        targets_FGR=np.zeros(asked, np.int64),
        past_positions_FP=np.zeros((total, shape.past), np.int64),
        past_segments_FP=np.full((total, shape.past), PADDING, np.int64),
        pasts_F=[windows[0].past] * total,
    )
    lines: list[np.ndarray] = []
    first_line: dict[int, int] = {}
    for n, window in enumerate(windows):
        at = slice(n * shape.pasts, (n + 1) * shape.pasts)
        width = window.ids_BW.shape[1]
        joint.ids_FGW[at, :, :width] = window.ids_BW.reshape(*each, width)
        joint.positions_FGW[at, :, :width] = window.positions_BW.reshape(*each, width)
        joint.segments_FGW[at, :, :width] = window.segments_BW.reshape(*each, width)
        joint.rows_FGR[at] = window.rows_BR.reshape(*each, shape.rows)
        if window.targets_BR is not None:
            joint.targets_FGR[at] = window.targets_BR.reshape(*each, shape.rows)
        if id(window.bias_CV) not in first_line:
            first_line[id(window.bias_CV)] = sum(map(len, lines))
            lines.append(window.bias_CV)
        joint.bias_rows_FGR[at] = window.bias_rows_BR.reshape(*each, shape.rows) + first_line[id(window.bias_CV)]
        joint.pasts_F[at] = [window.past] * shape.pasts
        if window.past is not None:
            length = window.past.positions_BP.shape[1]
            joint.past_positions_FP[at, :length] = window.past.positions_BP[:: shape.group]
            joint.past_segments_FP[at, :length] = window.past.segments_BP[:: shape.group]
    if len(lines) > 1:
        joint.bias_CV = np.concatenate(lines)
    return joint


def unstack(
    candidates: Candidates, k: Any, v: Any, windows: list[Window], shape: Shape, own: Callable[[Any], Any]
) -> Iterator[Answer]:
    """What a joint pass gave, window by window; `own` makes a part of keys or values independent of the whole."""
    each = shape.pasts * shape.group
    for n, window in enumerate(windows):
        at, width = slice(n * each, (n + 1) * each), window.ids_BW.shape[1]
        targets = candidates.target_log_probs_BR
        part = Candidates(
            candidates.ids_BRA[at],
            candidates.log_probs_BRA[at],
            candidates.margin_BR[at],
            candidates.entropy_BR[at],
            targets[at] if targets is not None and window.targets_BR is not None else None,
        )
        if k.shape[1] == each and k.shape[3] == width:
            yield part, k, v
        else:
            yield part, own(k[:, at, :, :width]), own(v[:, at, :, :width])


class Stacks:
    """Stacked pasts [N, F, K, P, D] of the last passes: the steps of a fill see the same past again and again."""

    def __init__(self, make: Callable[[list[Any], int], Any]):
        self._make = make  # parts [N, 1, K, p, D], p <= P, and P: the stack
        self._kept: OrderedDict[tuple[int, ...], tuple[list[Past], Any, Any]] = OrderedDict()

    def of(self, pasts: list[Past], length: int) -> tuple[Any, Any]:
        """Keys and values of several pasts, each padded to `length`."""
        if len(pasts) == 1 and pasts[0].positions_BP.shape[1] == length:
            return pasts[0].k_N1KPD, pasts[0].v_N1KPD
        # what is kept keeps the pasts, and so their ids
        key = (length, *(part for past in pasts for part in (id(past.k_N1KPD), past.version)))
        if key not in self._kept:
            k = self._make([past.k_N1KPD for past in pasts], length)
            v = self._make([past.v_N1KPD for past in pasts], length)
            self._kept[key] = pasts, k, v
            if len(self._kept) > STACKS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][1:]
