"""Muon: momentum whose update of each matrix is made orthogonal (Jordan et al., 2024).

Written out rather than taken from torch.optim because that one computes in bfloat16 whatever the machine, and
because matrices of one shape are handled here in one batch, which matters at small widths.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

# The quintic of the method: steep at zero, settling around one.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(updates_XRC: Tensor, steps: int = 5, half: bool = False) -> Tensor:
    """The nearest matrices with equal singular values, roughly, by Newton-Schulz iteration ([X, R, C]).

    `half` computes in bfloat16, which the method tolerates.
    """
    a, b, c = COEFFICIENTS
    tall = updates_XRC.shape[1] > updates_XRC.shape[2]
    x = updates_XRC.mT if tall else updates_XRC
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16() if half else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(updates_XRC.dtype)


class Muon(torch.optim.Optimizer):
    """For matrices only; embeddings, norms and biases belong to AdamW.

    `lr` is in the scale of AdamW: the update is multiplied by 0.2·sqrt(max(rows, columns)), as in Moonlight
    (arXiv 2502.16982), so that one learning rate serves both.
    """

    def __init__(self, params, lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.0, half: bool = False):
        self.half = half
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                updates = []
                for p in params:
                    state = self.state[p]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(p)
                    state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(state["momentum"], group["momentum"]))
                scale = 0.2 * max(shape) ** 0.5 * group["lr"]
                for p, update in zip(params, orthogonalise(torch.stack(updates), half=self.half), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-scale)
