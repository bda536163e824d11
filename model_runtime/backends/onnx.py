"""The window pass in ONNX Runtime on a CPU: no torch, ready in a fraction of a second."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime

from model_runtime.backends.failures import first_line, model_failed
from model_runtime.backends.interface import Candidates, Past, Window, empty_past
from model_runtime.backends.joining import EXACT, SHARED, Answer, Joint, Stacks, groups, stack, unstack
from model_runtime.models.families import ModelFacts, read_facts
from model_runtime.protocol import ModelError

GRAPH = "model.onnx"


def default_threads() -> int:
    """Half of the logical cores this process may use, at least one and at most four: the rest is the editor's."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return usable if usable <= 2 else max(1, min(4, usable // 2))


class OnnxBackend:
    """A model folder with config.json, tokenizer.json and model.onnx (see models/export.py).

    Up to `together` windows run as one pass. A row's numbers do not depend on the rows beside it: each is quantized
    by itself, and no kernel splits the axis that it sums over by the size of the others.
    """

    name = "onnx"

    def __init__(self, folder: Path, threads: int | None = None, together: int = 1):
        self.facts: ModelFacts = read_facts(folder)
        path = folder / GRAPH
        if not path.is_file():
            raise ModelError(f"{folder} has no {GRAPH}; export the checkpoint first, or use the torch backend")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or default_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # threads wait awake within a run, a fifth faster, and sleep between runs: a laptop must not stay warm for it
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library has no common base
            raise ModelError(f"{path} is not a readable ONNX model: {first_line(error)}") from error
        shapes = {given.name: given.shape for given in self._session.get_inputs()}
        if "past_k" not in shapes or "targets" not in shapes:
            raise ModelError(f"{path} is no window graph; make one of the checkpoint with diffill models convert")
        shape, facts = shapes["past_k"], self.facts
        if (shape[0], shape[2], shape[4]) != (facts.layers, facts.kv_heads, facts.head_width):
            raise ModelError(f"{path} and config.json disagree about the shape of the model")
        self._grouped = len(shapes["ids"]) == 3  # else a graph whose batch has one axis, and one past for all of it
        self._one_line = shapes["bias_rows"][-1] != shapes["rows"][-1]
        self.together = together if self._grouped or shape[1] != 1 else 1
        self._steps = SHARED if self.together > 1 else EXACT
        self._stacks = Stacks(stacked)

    def window(self, window: Window) -> Answer:
        """Compute a window; return candidates, and its keys and values [N, B, K, W, D]."""
        return self.windows([window])[0]

    def windows(self, windows: list[Window]) -> list[Answer]:
        """Compute windows, those of like shapes in one pass."""
        answers: dict[int, Answer] = {}
        for shape, members in groups(windows, self._steps, self.together):
            chosen = [windows[n] for n in members]
            made = unstack(*self._run(stack(chosen, shape, len(chosen))), chosen, shape, np.ascontiguousarray)
            answers.update(zip(members, made, strict=True))
        return [answers[n] for n in range(len(windows))]

    def _run(self, joint: Joint) -> Answer:
        """One pass."""
        past_k, past_v = self._past(joint.pasts_F, joint.past_positions_FP.shape[1])
        feeds = {
            "ids": joint.ids_FGW,
            "positions": joint.positions_FGW,
            "segments": joint.segments_FGW,
            "past_k": past_k,
            "past_v": past_v,
            "past_positions": joint.past_positions_FP,
            "past_segments": joint.past_segments_FP,
            "rows": joint.rows_FGR,
            "bias": joint.bias_CV,
            "bias_rows": joint.bias_rows_FGR,
            "targets": joint.targets_FGR,
        }
        if not self._grouped:
            feeds = ungrouped(feeds, self._one_line)
        try:
            ids, log_probs, margin, entropy, targets, k, v = self._session.run(None, feeds)
        except Exception as error:  # the library has no common base
            raise model_failed(error) from error
        return Candidates(ids, log_probs, margin, entropy, targets), k, v

    def _past(self, pasts: list[Past | None], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of the groups' pasts [N, F, K, P, D]."""
        given = [past for past in pasts if past is not None]
        if not given:
            nothing = np.repeat(empty_past(self.facts, 1).k_N1KPD, len(pasts), axis=1)
            return nothing, nothing
        if not self._grouped and all(past is given[0] for past in given):
            given = given[:1]  # it serves every row
        return self._stacks.of(given, length)

    def keep(self, cached_NBKWD: np.ndarray, wanted_W: np.ndarray) -> np.ndarray:
        """The rows of keys or values where the boolean `wanted_W` is true."""
        return np.ascontiguousarray(cached_NBKWD[:, :, :, wanted_W])

    def join(self, parts: list[np.ndarray]) -> np.ndarray:
        """Keys or values of rows that follow one another, as one."""
        return np.concatenate(parts, axis=3)

    def write(self, past: np.ndarray, at_S: np.ndarray, cached_NBKWD: np.ndarray, rows_S: np.ndarray) -> None:
        """Put the rows `rows_S` of a window's keys or values in the places `at_S` of a past."""
        past[:, :, :, at_S] = cached_NBKWD[:, :, :, rows_S]


def stacked(parts: list[np.ndarray], length: int) -> np.ndarray:
    """Keys or values [N, 1, K, p, D] as one array [N, F, K, P, D], zeros behind the shorter ones."""
    layers, _, kv_heads, _, width = parts[0].shape
    whole = np.zeros((layers, len(parts), kv_heads, length, width), np.float32)
    for n, part in enumerate(parts):
        whole[:, n, :, : part.shape[3]] = part[:, 0]
    return whole


def ungrouped(feeds: dict[str, np.ndarray], one_line: bool) -> dict[str, np.ndarray]:
    """The inputs of a graph whose batch has one axis [B]: what belongs to a past, once for each of its rows.

    With `one_line`, a bias that all asked rows share is given once.
    """
    count, group = feeds["ids"].shape[:2]
    flat = {}
    lines = feeds["bias_rows"]
    if one_line and (lines == lines[0, 0, 0]).all():  # of a large vocabulary: not copied for each row
        feeds = feeds | {"bias_rows": lines[:, :, :1]}
    for name, array in feeds.items():
        if name in ("past_k", "past_v"):
            flat[name] = np.repeat(array, group, axis=1) if array.shape[1] > 1 else array
        elif name in ("past_positions", "past_segments"):
            flat[name] = np.repeat(array, group, axis=0)
        else:
            flat[name] = array if name == "bias" else array.reshape(count * group, -1)
    return flat
