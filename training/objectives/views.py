"""Log-probabilities of tokens in several maskings of the same rows, by one forward.

A *view* of a row is the row with some of its tokens masked. Logits are asked for at masked positions alone, so a pair
of complementary views costs the head as much as one view that masks all.

Legend: B rows, L length, S views, N masked positions of all views, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.objectives.masked import predicting_rows


def view_log_probs(
    model: Any,
    input_ids_BL: Tensor,
    masked_SBL: Tensor,
    mask_id: int,
    attention_mask: Tensor | None = None,
    entropies: list[Tensor] | None = None,
) -> Tensor:
    """The log-probability (nats) of each masked token in each view, [S, B, L]; 0 where a view masks nothing.

    `attention_mask` [B, L] has 0 for padding, which no row then sees, and positions count from the first real token;
    without it every row sees all. `entropies`, if given, gets the entropies [N] of the predictions, without gradient.
    """
    views, batch, length = masked_SBL.shape
    masked_BL = masked_SBL.reshape(views * batch, length)
    ids_BL = input_ids_BL.repeat(views, 1)
    padding: dict[str, Tensor] = {}
    if attention_mask is not None and not bool(attention_mask.bool().all()):
        present_BL = attention_mask.bool().repeat(views, 1)
        positions_BL = (present_BL.long().cumsum(1) - 1).masked_fill(~present_BL, 1)
        padding = {"attention_mask": present_BL.long(), "position_ids": positions_BL}
    rows_N = predicting_rows(masked_BL, getattr(plain(model).config, "shift", True))
    logits_NV = logits_of_rows(model, ids_BL.masked_fill(masked_BL, mask_id), rows_N, padding).float()
    if entropies is not None:
        log_p_NV = logits_NV.detach().log_softmax(-1)
        entropies.append(-(log_p_NV.exp() * log_p_NV).sum(-1))
    nats_N = F.cross_entropy(logits_NV, ids_BL[masked_BL], reduction="none")
    found_BL = torch.zeros(masked_BL.shape, device=nats_N.device)
    return found_BL.masked_scatter(masked_BL, -nats_N).view(views, batch, length)


def weighted_log_probs(
    model: Any,
    input_ids_BL: Tensor,
    views: Sequence[tuple[Tensor, Tensor | float]],
    divisor: float,
    mask_id: int,
    attention_mask: Tensor | None = None,
    entropies: list[Tensor] | None = None,
) -> Tensor:
    """The sum over views of weight times log-probability, over `divisor`: [B, L].

    `views`: masks [B, L], each with a weight, a number or one a row [B, 1].
    """
    masked_SBL = torch.stack([masked_BL for masked_BL, _ in views])
    logp_SBL = view_log_probs(model, input_ids_BL, masked_SBL, mask_id, attention_mask, entropies)
    parts = [logp_BL * weight for logp_BL, (_, weight) in zip(logp_SBL, views, strict=True)]
    return torch.stack(parts).sum(0) / divisor


def logits_of_rows(model: Any, ids_BL: Tensor, rows_N: Tensor, padding: dict[str, Tensor]) -> Tensor:
    """The logits [N, V] of rows of the flattened [B * L]; a model that takes no `rows` gives all, and is cut."""
    parameters = inspect.signature(model.forward if hasattr(model, "forward") else model).parameters.values()
    takes_rows = any(p.name == "rows" or p.kind is p.VAR_KEYWORD for p in parameters)
    logits = model(ids_BL, **padding, **({"rows": rows_N} if takes_rows else {})).logits
    return logits if logits.dim() == 2 else logits.flatten(0, 1)[rows_N]


def plain(model: Any) -> Any:
    """The model inside of a wrapper for several processes."""
    return model if hasattr(model, "config") else model.module
