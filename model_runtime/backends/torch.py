"""The window pass in torch, on a GPU or a CPU. Only the candidates leave the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor

from model_runtime.backends.failures import first_line, model_failed, ran_out_of_memory
from model_runtime.backends.interface import CANDIDATES, Candidates, Window
from model_runtime.backends.joining import EXACT, SHARED, Answer, Joint, Stacks, groups, stack, unstack
from model_runtime.backends.loading import Loading
from model_runtime.backends.precision import choose, load_options, pick_device
from model_runtime.models.checking import check_weights
from model_runtime.models.export import reduce_logits
from model_runtime.models.families import ModelFacts
from model_runtime.models.loading import check_numbers, open_checkpoint
from model_runtime.protocol import ModelError, OutOfMemory


class TorchBackend:
    """A checkpoint folder in the public layout: config.json and safetensors.

    Up to `together` windows run as one pass, and always as one of that many: libraries choose their kernels by the
    size of a batch, and with it the order of their sums, so that a pass that is not full is filled up with padding.
    """

    name = "torch"

    def __init__(self, folder: Path, together: int = 1, loading: Loading | None = None):
        loading = loading or Loading()
        self.facts: ModelFacts = check_weights(folder)
        self.device = pick_device(loading.device)
        self.quantization = choose(folder, loading, self.device)
        options = load_options(folder, self.quantization, loading, self.device)
        transformers.utils.logging.disable_progress_bar()
        try:
            model = open_checkpoint(folder, **options)
            self.model = model.eval()
            check_numbers(self.model, folder)
        except ModelError:
            raise
        except Exception as error:  # safetensors, transformers, bitsandbytes and torch share no base
            if ran_out_of_memory(error):
                raise OutOfMemory(
                    f"{folder.name} in {self.quantization} is more than {self.device} has room for"
                ) from error
            raise ModelError(f"the weights in {folder} cannot be read: {first_line(error)}") from error
        self._window, self._compiled = self.model.window, loading.compiled
        if self._compiled:
            self._window = torch.compile(self.model.window, dynamic=False, mode="reduce-overhead")
        self.together = together
        self._steps = SHARED if together > 1 or self._compiled else EXACT
        shape = self.facts.layers, 1, self.facts.kv_heads, 0, self.facts.head_width
        self._no_past = torch.zeros(shape, dtype=options["dtype"], device=self.device)
        self._stacks = Stacks(stacked)

    def window(self, window: Window) -> Answer:
        """Compute a window; return candidates, and its keys and values [N, B, K, W, D] on the device."""
        return self.windows([window])[0]

    def windows(self, windows: list[Window]) -> list[Answer]:
        """Compute windows, those of like shapes in one pass."""
        answers: dict[int, Answer] = {}
        for shape, members in groups(windows, self._steps, self.together):
            chosen = [windows[n] for n in members]
            candidates, k, v = self._run(stack(chosen, shape, self.together))
            made = unstack(candidates, k, v, chosen, shape, Tensor.contiguous)
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
            logits_BRV, k, v = self._window(
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
            if self._compiled:  # a CUDA graph's results lie where the next run will write
                k, v = k.clone(), v.clone()
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

    @torch.inference_mode()
    def write(self, past: Tensor, at_S: np.ndarray, cached_NBKWD: Tensor, rows_S: np.ndarray) -> None:
        """Put the rows `rows_S` of a window's keys or values in the places `at_S` of a past."""
        at, rows = (torch.from_numpy(numbers).to(self.device) for numbers in (at_S, rows_S))
        past[:, :, :, at] = cached_NBKWD[:, :, :, rows]


def stacked(parts: list[Tensor], length: int) -> Tensor:
    """Keys or values [N, 1, K, p, D] as one tensor [N, F, K, P, D], zeros behind the shorter ones."""
    return torch.cat([torch.nn.functional.pad(part, (0, 0, 0, length - part.shape[3])) for part in parts], dim=1)
