"""The one interface between the engine and whatever computes: a window goes in, candidates come out.

Legend: B batch, W window, P past, R rows asked for, C biases, V vocabulary, N layers, K key/value heads, D head
width, A candidates a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from model_runtime.models.families import CANDIDATES as CANDIDATES  # A
from model_runtime.models.families import HOLE as HOLE
from model_runtime.models.families import PADDING as PADDING
from model_runtime.models.families import ModelFacts

BANNED = -1e9  # added to a logit that must not win


@dataclass
class Past:
    """Keys (before the rotary embedding) and values of rows that stay, and where these rows stand now.

    Keys and values have batch 1 and serve every row of a batch; they belong to the backend that made them: numpy
    here, tensors on a device there.
    """

    k_N1KPD: Any
    v_N1KPD: Any
    positions_BP: np.ndarray
    segments_BP: np.ndarray
    version: int = 0  # how often rows of the keys and values have been written over


@dataclass
class Window:
    """Rows to compute: their ids, positions and segments ([B, W] each), and the rows whose candidates are wanted.

    To the logits of asked row r the line `bias_rows_BR[b, r]` of `bias_CV` is added before anything else.
    """

    ids_BW: np.ndarray
    positions_BW: np.ndarray
    segments_BW: np.ndarray
    rows_BR: np.ndarray
    bias_CV: np.ndarray
    bias_rows_BR: np.ndarray
    past: Past | None = None
    targets_BR: np.ndarray | None = None  # ids whose log-probability in the asked rows is wanted


@dataclass
class Candidates:
    """Each asked row reduced: the best ids and their log-probabilities at temperature 1, best first."""

    ids_BRA: np.ndarray
    log_probs_BRA: np.ndarray
    margin_BR: np.ndarray  # p1 - p2
    entropy_BR: np.ndarray  # nats
    target_log_probs_BR: np.ndarray | None = None  # of the window's targets, if it had any


class Backend(Protocol):
    """Where tokens become candidates."""

    facts: ModelFacts
    name: str

    def window(self, window: Window) -> tuple[Candidates, Any, Any]:
        """Compute a window; return candidates, and its keys and values [N, B, K, W, D]."""
        ...

    def windows(self, windows: list[Window]) -> list[tuple[Candidates, Any, Any]]:
        """Compute several that do not depend on one another; those of like shapes may run as one pass."""
        ...

    def keep(self, cached_NBKWD: Any, wanted_W: np.ndarray) -> Any:
        """The rows of keys or values where the boolean `wanted_W` is true, as a past takes them."""
        ...

    def join(self, parts: list[Any]) -> Any:
        """Keys or values of rows that follow one another, as one."""
        ...

    def write(self, past: Any, at_S: np.ndarray, cached_NBKWD: Any, rows_S: np.ndarray) -> None:
        """Put the rows `rows_S` of a window's keys or values in the places `at_S` of a past, which nobody shares."""
        ...


def empty_past(facts: ModelFacts, batch: int) -> Past:
    """A past of no rows."""
    nothing = np.zeros((facts.layers, 1, facts.kv_heads, 0, facts.head_width), np.float32)
    none = np.zeros((batch, 0), np.int64)
    return Past(nothing, nothing, none, none)
