"""The next-token loss of a causal model: what the stage `base` trains, and what adaptation starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from training.objectives.masked import Normalise, masked_diffusion_loss


def next_token_loss(
    logits_BLV: Tensor, input_ids_BL: Tensor, *, counted_BL: Tensor, normalise: Normalise = "token"
) -> Tensor:
    """Mean cross-entropy (a scalar, nats) of the tokens in `counted_BL`, each from logits row i - 1.

    This is the masked loss with every counted token "masked" and weight 1: causal attention hides from row i - 1
    what stands at i. Position 0, which no row is about, must not be counted (ValueError).
    """
    if counted_BL[:, 0].any():
        raise ValueError("the first token of a row has nothing before it to be predicted from")
    t_B = torch.ones(len(input_ids_BL), device=input_ids_BL.device)
    return masked_diffusion_loss(
        logits_BLV, input_ids_BL, counted_BL, t_B, maskable_BL=counted_BL, weight="uniform", normalise=normalise
    )
