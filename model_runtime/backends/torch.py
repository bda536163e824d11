"""The window pass in torch, on a GPU or a CPU. Only the candidates leave the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor

from model_runtime.backends.failures import first_line, model_failed
from model_runtime.backends.interface import CANDIDATES, Candidates, Window
from model_runtime.models.export import reduce_logits
from model_runtime.models.families import ModelFacts, read_facts
from model_runtime.models.loading import check_numbers, open_checkpoint
from model_runtime.protocol import ModelError


def default_device() -> str:
    """The accelerator, if there is one."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class TorchBackend:
    """A checkpoint folder in the public layout: config.json and safetensors."""

    name = "torch"

    def __init__(self, folder: Path, device: str | None = None, dtype: torch.dtype | None = None):
        self.facts: ModelFacts = read_facts(folder)
        self.device = torch.device(device or default_device())
        if dtype is None:
            dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
        transformers.utils.logging.disable_progress_bar()
        try:
            model = open_checkpoint(folder, dtype=dtype)
        except ModelError:
            raise
        except Exception as error:  # safetensors, transformers and torch share no base
            raise ModelError(f"the weights in {folder} cannot be read: {first_line(error)}") from error
        self.model = model.to(self.device).eval()
        check_numbers(self.model, folder)
        head_width = self.facts.head_width
        self._no_past = torch.zeros(
            self.facts.layers, 1, self.facts.kv_heads, 0, head_width, dtype=dtype, device=self.device
        )

    @torch.inference_mode()
    def window(self, window: Window) -> tuple[Candidates, Tensor, Tensor]:
        """Compute a window; return candidates, and its keys and values [N, B, K, W, D] on the device."""

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

        batch = window.ids_BW.shape[0]
        past_k = past_v = self._no_past
        none = torch.zeros(batch, 0, dtype=torch.long, device=self.device)
        past_positions, past_segments = none, none
        if window.past is not None:
            past_k, past_v = window.past.k_N1KPD, window.past.v_N1KPD
            past_positions, past_segments = put(window.past.positions_BP), put(window.past.segments_BP)
        try:
            logits_BRV, k, v = self.model.window(
                put(window.ids_BW),
                put(window.positions_BW),
                put(window.segments_BW),
                past_k,
                past_v,
                past_positions,
                past_segments,
                put(window.rows_BR),
            )
        except torch.OutOfMemoryError as error:
            raise model_failed(error) from error
        targets = np.zeros_like(window.rows_BR) if window.targets_BR is None else window.targets_BR
        reduced = reduce_logits(logits_BRV, put(window.bias_CV), put(window.bias_rows_BR), put(targets), CANDIDATES)
        ids, log_probs, margin, entropy, asked = (part.cpu().numpy() for part in reduced)
        return Candidates(ids, log_probs, margin, entropy, asked if window.targets_BR is not None else None), k, v

    def keep(self, cached_NBKWD: Tensor, wanted_W: np.ndarray) -> Tensor:
        """The rows of keys or values where the boolean `wanted_W` is true."""
        return cached_NBKWD[:, :, :, torch.from_numpy(np.flatnonzero(wanted_W)).to(self.device)]

    def join(self, parts: list[Tensor]) -> Tensor:
        """Keys or values of rows that follow one another, as one."""
        return torch.cat(parts, dim=3)
