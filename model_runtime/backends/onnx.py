"""The window pass in ONNX Runtime on a CPU: no torch, ready in a fraction of a second."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime

from model_runtime.backends.failures import first_line, model_failed
from model_runtime.backends.interface import Candidates, Window, empty_past
from model_runtime.models.families import ModelFacts, read_facts
from model_runtime.protocol import ModelError

GRAPH = "model.onnx"


def default_threads() -> int:
    """Half of the logical cores this process may use, at least one and at most four: the rest is the editor's."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return usable if usable <= 2 else max(1, min(4, usable // 2))


class OnnxBackend:
    """A model folder with config.json, tokenizer.json and model.onnx (see models/export.py)."""

    name = "onnx"

    def __init__(self, folder: Path, threads: int | None = None):
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
        names = {given.name for given in self._session.get_inputs()}
        if "past_k" not in names or "targets" not in names:
            raise ModelError(f"{path} is no window graph; export the checkpoint with model_runtime.models.export")
        shape = next(given.shape for given in self._session.get_inputs() if given.name == "past_k")
        facts = self.facts
        if (shape[0], shape[2], shape[4]) != (facts.layers, facts.kv_heads, facts.head_width):
            raise ModelError(f"{path} and config.json disagree about the shape of the model")

    def window(self, window: Window) -> tuple[Candidates, np.ndarray, np.ndarray]:
        """Compute a window; return candidates, and its keys and values [N, B, K, W, D]."""
        batch = window.ids_BW.shape[0]
        past = window.past or empty_past(self.facts, batch)
        feeds = {
            "ids": window.ids_BW,
            "positions": window.positions_BW,
            "segments": window.segments_BW,
            "past_k": past.k_N1KPD,
            "past_v": past.v_N1KPD,
            "past_positions": past.positions_BP,
            "past_segments": past.segments_BP,
            "rows": window.rows_BR,
            "bias": window.bias_CV,
            "bias_rows": window.bias_rows_BR,
            "targets": np.zeros_like(window.rows_BR) if window.targets_BR is None else window.targets_BR,
        }
        try:
            ids, log_probs, margin, entropy, targets, k, v = self._session.run(None, feeds)
        except Exception as error:  # the library has no common base
            raise model_failed(error) from error
        asked = targets if window.targets_BR is not None else None
        return Candidates(ids, log_probs, margin, entropy, asked), k, v

    def keep(self, cached_NBKWD: np.ndarray, wanted_W: np.ndarray) -> np.ndarray:
        """The rows of keys or values where the boolean `wanted_W` is true."""
        return np.ascontiguousarray(cached_NBKWD[:, :, :, wanted_W])

    def join(self, parts: list[np.ndarray]) -> np.ndarray:
        """Keys or values of rows that follow one another, as one."""
        return np.concatenate(parts, axis=3)
