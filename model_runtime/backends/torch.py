"""The window pass in torch, on a GPU or a CPU. Only the candidates leave the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor

from model_runtime.backends.failures import first_line, model_failed
from model_runtime.backends.interface import CANDIDATES, Candidates, Window
from model_runtime.backends.joining import EXACT, SHARED, Answer, Joint, Stacks, groups, stack, unstack
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
    """A checkpoint folder in the public layout: config.json and safetensors.

    Up to `together` windows run as one pass, and always as one of that many: libraries choose their kernels by the
    size of a batch, and with it the order of their sums, so that a pass that is not full is filled up with padding.
    """

    name = "torch"

    def __init__(self, folder: Path, device: str | None = None, dtype: torch.dtype | None = None, together: int = 1):
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
        self.together, self._steps = together, SHARED if together > 1 else EXACT
        shape = self.facts.layers, 1, self.facts.kv_heads, 0, self.facts.head_width
        self._no_past = torch.zeros(shape, dtype=dtype, device=self.device)
        self._stacks = Stacks(stacked)

    def window(self, window: Window) -> Answer:
        """Compute a window; return candidates, and its keys and values [N, B, K, W, D] on the device."""
        return self.windows([window])[0]

    def windows(self, windows: list[Window]) -> list[Answer]:
        """Compute windows, those of like shapes in one pass."""
        answers: dict[int, Answer] = {}
        for shape, members in groups(windows, self._steps, self.together):
            chosen = [windows[n] for n in members]
            made = unstack(*self._run(stack(chosen, shape, self.together)), chosen, shape, Tensor.contiguous)
            answers.update(zip(members, made, strict=True))
        return [answers[n] for n in range(len(windows))]

    @torch.inference_mode()
    def _run(self, joint: Joint) -> Answer:
        """One pass."""

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

        def flat(array: np.ndarray) -> Tensor:
            return put(array).flatten(0, 1)

        pasts = [past for past in joint.pasts_F if past is not None]
        past_k = past_v = self._no_past
        try:
            if pasts:
                past_k, past_v = self._stacks.of(pasts, joint.past_positions_FP.shape[1])
            logits_BRV, k, v = self.model.window(
                flat(joint.ids_FGW),
                flat(joint.positions_FGW),
                flat(joint.segments_FGW),
                past_k,
                past_v,
                put(joint.past_positions_FP),
                put(joint.past_segments_FP),
                flat(joint.rows_FGR),
            )
            reduced = reduce_logits(
                logits_BRV, put(joint.bias_CV), flat(joint.bias_rows_FGR), flat(joint.targets_FGR), CANDIDATES
            )
        except torch.OutOfMemoryError as error:
            raise model_failed(error) from error
        ids, log_probs, margin, entropy, targets = (part.cpu().numpy() for part in reduced)
        return Candidates(ids, log_probs, margin, entropy, targets), k, v

    def keep(self, cached_NBKWD: Tensor, wanted_W: np.ndarray) -> Tensor:
        """The rows of keys or values where the boolean `wanted_W` is true."""
        return cached_NBKWD[:, :, :, torch.from_numpy(np.flatnonzero(wanted_W)).to(self.device)]

    def join(self, parts: list[Tensor]) -> Tensor:
        """Keys or values of rows that follow one another, as one."""
        return torch.cat(parts, dim=3)


def stacked(parts: list[Tensor], length: int) -> Tensor:
    """Keys or values [N, 1, K, p, D] as one tensor [N, F, K, P, D], zeros behind the shorter ones."""
    return torch.cat([torch.nn.functional.pad(part, (0, 0, 0, length - part.shape[3])) for part in parts], dim=1)
