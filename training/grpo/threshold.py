"""Window-cached threshold decoding of a batch: each step computes the masked stretch alone, and keeps all that is sure.

Keys and values of what lies outside of the stretch are kept for some steps (with full attention an approximation, after
Fast-dLLM, arXiv 2505.22618). A token is kept where the model gives it at least the threshold, at temperature 1 and
before any filter, so that sampling does not make it look surer than it is; one a row at least.

Legend: B rows, L length, W window, N masked positions in row-major order, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from model_runtime.engine.filters import ban_ids, sample_tokens
from model_runtime.models.families import HOLE, PADDING
from training.objectives.views import plain


@torch.no_grad()
def threshold_generate(
    model: Any,
    input_ids_BL: Tensor,
    present_BL: Tensor,
    *,
    threshold: float = 0.9,
    refresh: int = 8,
    temperature: float = 0.0,
    top_p: float | None = None,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, list[Tensor], int]:
    """The filled canvases [B, L], the canvas after every step, and how many steps there were.

    `input_ids_BL` holds [MASK]s, each row's in one stretch; `present_BL` is false for padding on the left. Every
    `refresh` steps the keys and values of the whole canvas are computed anew; 1 keeps nothing between steps.
    """
    config = plain(model).config
    dream = dream_of(model)
    ids_BL = input_ids_BL.clone()
    segments_BL = torch.where(present_BL, HOLE, PADDING)
    positions_BL = (present_BL.long().cumsum(1) - 1).clamp(min=0)
    window_BW = window_of(ids_BL == config.mask_token_id)
    keys = values = outside_BL = None
    history: list[Tensor] = []
    while bool((ids_BL == config.mask_token_id).any()):
        if len(history) % refresh == 0:
            visible_BLL = (present_BL.unsqueeze(1) & present_BL.unsqueeze(2)) | torch.eye(
                ids_BL.shape[1], dtype=torch.bool, device=ids_BL.device
            )
            _, keys, values = dream.hidden(ids_BL, positions_BL, visible_BLL)
            outside_BL = segments_BL.scatter(1, window_BW, PADDING)
        inside_BW = ids_BL.gather(1, window_BW)
        hole_BW = inside_BW == config.mask_token_id
        # with the shift, the row before a mask is asked about it; a window begins one token before its first mask
        rows_BW = torch.arange(window_BW.shape[1], device=ids_BL.device).expand_as(window_BW)
        asked_BW = (rows_BW - 1).clamp(min=0) if getattr(config, "shift", True) else rows_BW
        logits_BWV, _, _ = dream.window(
            inside_BW,
            positions_BL.gather(1, window_BW),
            segments_BL.gather(1, window_BW),
            keys,
            values,
            positions_BL,
            outside_BL,
            asked_BW,
        )
        logits_NV = ban_ids(logits_BWV[hole_BW].float(), config)
        _, drawn_N = sample_tokens(logits_NV, temperature=temperature, top_p=top_p, top_k=top_k, generator=generator)
        sure_N = logits_NV.softmax(-1).gather(1, drawn_N.unsqueeze(1)).squeeze(1)
        sure_BW = torch.full(hole_BW.shape, -1.0, device=ids_BL.device).masked_scatter(hole_BW, sure_N)
        best_B1 = sure_BW.argmax(1, keepdim=True)
        kept_BW = (sure_BW >= threshold) | torch.zeros_like(hole_BW).scatter(1, best_B1, True)
        drawn_BW = inside_BW.masked_scatter(hole_BW, drawn_N)
        ids_BL = ids_BL.scatter(1, window_BW, torch.where(kept_BW & hole_BW, drawn_BW, inside_BW))
        history.append(ids_BL)
    return ids_BL, history, len(history)


def window_of(masked_BL: Tensor) -> Tensor:
    """The positions [B, W] of each row's masks and the token before them; shorter stretches take more before, or after.

    W is one more than the longest stretch. ValueError for a row without masks.
    """
    length = masked_BL.shape[1]
    if not bool(masked_BL.any(1).all()):
        raise ValueError("a row has no masks")
    at_L = torch.arange(length, device=masked_BL.device)
    first_B = torch.where(masked_BL, at_L, length).min(1).values
    last_B = torch.where(masked_BL, at_L, -1).max(1).values
    width = min(length, int((last_B - first_B).max()) + 2)
    start_B = (last_B - width + 1).clamp(min=0)
    return start_B.unsqueeze(1) + torch.arange(width, device=masked_BL.device)


def dream_of(model: Any) -> Any:
    """The Dream model inside of adapters."""
    inner = plain(model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner
