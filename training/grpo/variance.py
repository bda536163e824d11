"""How noisy an estimator of log-probabilities is: its variance over draws of masks, against another's at equal cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.objectives.estimators import LEVELS, Kind, draw_own, log_probs

DRAWS, SEED = 100, 0


@torch.no_grad()
def variance(
    model: Any,
    input_ids_BL: Tensor,
    present_BL: Tensor,
    completion_BL: Tensor,
    mask_id: int,
    kind: Kind,
) -> dict[str, float]:
    """Variances over draws of masks: of a `token`'s estimate, and of a `sequence`'s mean over tokens (nats squared).

    t is drawn from LEVELS. Estimators that are compared get the same draws where they draw alike.
    """
    found = []
    for number in range(DRAWS):
        numbers = [number * len(input_ids_BL) + row for row in range(len(input_ids_BL))]
        draw = draw_own(SEED, numbers, completion_BL, 1, LEVELS).to(input_ids_BL.device)
        found.append(log_probs(model, input_ids_BL, completion_BL, draw, mask_id, present_BL, kind))
    logp_DBL = torch.stack(found)
    count_B = completion_BL.sum(1)
    return {
        "token": float(logp_DBL.var(0)[completion_BL].mean()),
        "sequence": float((logp_DBL.sum(2) / count_B).var(0).mean()),
    }


def variance_ratio(
    model: Any, input_ids_BL: Tensor, present_BL: Tensor, completion_BL: Tensor, mask_id: int
) -> dict[str, float]:
    """The variance of `coupled` over that of `decoupled`, which costs as many forwards and has the same mean."""
    rows = model, input_ids_BL, present_BL, completion_BL, mask_id
    coupled, decoupled = (variance(*rows, kind) for kind in ("coupled", "decoupled"))
    return {name: coupled[name] / decoupled[name] for name in coupled}
