"""Attention annealing: from a causal model to one that sees everything (DiffuLLaMA, arXiv 2410.17891).

At step n the mask is the causal one OR a Bernoulli(r) matrix over all pairs, r = min(1, (n + 1) / anneal_steps), drawn
anew at each step and shared by the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def opened_share(step: int, anneal_steps: int) -> float:
    """The share r in (0, 1] of the attention that is open at `step` (from 0); 1 when there is nothing to anneal."""
    return 1.0 if anneal_steps <= 1 else min(1.0, (step + 1) / anneal_steps)


def annealed_mask(length: int, share: float, seed: int, device: torch.device | str = "cpu") -> Tensor | None:
    """Boolean [L, L], which key each row sees; None, everything, at share 1; exactly causal at share 0.

    The same arguments give the same mask on every process with the same kind of device.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the opened share lies between 0 and 1, not at {share}")
    if share == 1:
        return None
    causal_LL = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    if share == 0:
        return causal_LL
    generator = torch.Generator(device).manual_seed(seed)
    return causal_LL | (torch.rand(length, length, generator=generator, device=device) < share)
