"""The masked-diffusion loss: cross-entropy on masked tokens, weighted by the noise level.

Forward process (absorbing, linear schedule): one t in (0, 1] a sequence, each maskable token becomes [MASK] with
probability t. Loss as in LLaDA (arXiv 2502.09992), Dream (arXiv 2508.15487) and DiffuCoder (arXiv 2506.20639).

A loss is a quotient: a sum over masked tokens and a divisor that depends on the masks alone. `normaliser` gives the
parts, so that gradient accumulation and several processes divide by the divisor of the whole step.

Legend: B batch, L length, V vocabulary, N masked positions of the batch in row-major order.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Weight = Literal["1/t", "uniform", "linear", "cart"]
Normalise = Literal["masked", "token", "sequence", "batch"]
CART_P = 0.3  # of Dream's context-adaptive weight
GUARD = 1e-6  # added to t before dividing, as the reference does; noise begins at 1e-3


def masked_diffusion_loss(
    logits_BLV: Tensor,
    input_ids_BL: Tensor,
    masked_BL: Tensor,
    t_B: Tensor,
    *,
    maskable_BL: Tensor,
    weight: Weight = "1/t",
    normalise: Normalise = "masked",
    shift: bool = True,
) -> Tensor:
    """The loss (a scalar, nats) of `logits_BLV`, computed from rows whose `masked_BL` tokens were [MASK].

    - `input_ids_BL`: the clean ids. `masked_BL`: boolean, within `maskable_BL`. `t_B`: the noise levels.
    - `shift`: logits row i - 1 is about token i (row 0 about token 0 too), else row i.
    - `weight`, of a masked token of a row with noise t; integrated over t uniform in (0, 1) and the masks, a token
      counts
        - `1/t`: 1. The sum is then the negative evidence bound of the sequence: its mean over random orders of the
          chain rule.
        - `uniform`, 1: 1/2.
        - `linear`, 1 - t (DreamOn, arXiv 2602.01326): 1/6.
        - `cart`, the sum of p/2 (1 - p)^(d - 1) over tokens at distance d that are not masked, p = 0.3 (Dream): 1/6
          times that sum over all other positions, which is 1 far from both ends.
    - `normalise`, what the weighted sum is divided by: `masked`, the number of masked tokens; `token`, of maskable
      ones; `sequence`, the row's own number of maskable ones, then the mean of rows; `batch`, the number of rows.
      A divisor of 0 counts as 1. `masked` depends on the draw, so it is no unbiased estimator of a bound; the others
      are, up to a constant.

    Raises ValueError for an unknown weight or normaliser, and for masked tokens that are not maskable.
    """
    if (masked_BL & ~maskable_BL).any():
        raise ValueError("masked_BL holds tokens that are not in maskable_BL")
    rows_N = predicting_rows(masked_BL, shift)
    scale_B, count_B = normaliser(masked_BL, maskable_BL, normalise)
    weights_BL = token_weights(masked_BL, t_B, weight) * scale_B.unsqueeze(1)
    logits_NV = logits_BLV.flatten(0, 1)[rows_N]
    total = weighted_cross_entropy(logits_NV, input_ids_BL[masked_BL], weights_BL[masked_BL])
    return total / count_B.sum().clamp(min=1)


def predicting_rows(masked_BL: Tensor, shift: bool) -> Tensor:
    """Which rows [N] of the flattened [B * L] logits are about the masked tokens, in row-major order."""
    batch_N, at_N = masked_BL.nonzero(as_tuple=True)
    if shift:
        at_N = (at_N - 1).clamp(min=0)
    return batch_N * masked_BL.shape[1] + at_N


def token_weights(masked_BL: Tensor, t_B: Tensor, weight: Weight) -> Tensor:
    """The weights [B, L], float32, of masked tokens; what stands at other positions means nothing."""
    if weight == "cart":
        return cart_weights(masked_BL)
    t_B = t_B.float()
    if weight == "1/t":
        weight_B = 1 / (t_B + GUARD)
    elif weight == "uniform":
        weight_B = torch.ones_like(t_B)
    elif weight == "linear":
        weight_B = 1 - t_B
    else:
        raise ValueError(f"weight is one of {', '.join(get_args(Weight))}, not {weight!r}")
    return weight_B.unsqueeze(1).expand(masked_BL.shape)


def cart_weights(masked_BL: Tensor, p: float = CART_P) -> Tensor:
    """Dream's context-adaptive weights [B, L]: how much revealed context a position has around it.

    Padding counts as revealed, as in the reference.
    """
    at_L = torch.arange(masked_BL.shape[1], device=masked_BL.device)
    distance_LL = (at_L.unsqueeze(0) - at_L.unsqueeze(1)).abs()
    kernel_LL = (0.5 * p * (1 - p) ** (distance_LL - 1).float()).masked_fill(distance_LL == 0, 0.0)
    return (~masked_BL).float() @ kernel_LL


def normaliser(masked_BL: Tensor, maskable_BL: Tensor, normalise: Normalise) -> tuple[Tensor, Tensor]:
    """A factor for each row's sum, and each row's part of the common divisor, each [B] float32."""
    ones_B = torch.ones(masked_BL.shape[0], device=masked_BL.device)
    if normalise == "masked":
        return ones_B, masked_BL.sum(1).float()
    if normalise == "token":
        return ones_B, maskable_BL.sum(1).float()
    if normalise == "sequence":
        return 1 / maskable_BL.sum(1).clamp(min=1).float(), ones_B
    if normalise == "batch":
        return ones_B, ones_B
    raise ValueError(f"normalise is one of {', '.join(get_args(Normalise))}, not {normalise!r}")


def weighted_cross_entropy(logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor) -> Tensor:
    """The weighted sum (a scalar, nats) of the cross-entropies of rows of logits, in float32."""
    nats_N = F.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return (nats_N * weights_N).sum()
