"""Which keys a row sees, where they stand, and attention to a past that many rows share: functions of tensors alone.

Legend: B batch, W window, P past, T = P + W, H heads, K key/value heads, D head width, F pasts, of which each serves
G = B / F rows of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model_runtime.models.families import HOLE, PADDING


def visible_from_segments(
    segments_BW: Tensor, positions_BW: Tensor, segments_BT: Tensor, positions_BT: Tensor
) -> Tensor:
    """Which keys each query may look at, from segments: boolean [B, W, T].

    A row of a hole (segment HOLE) sees every key but padding; a row of context segment n >= 0 sees the rows of
    the same segment at its own position or before.
    """
    hole_BW1 = (segments_BW == HOLE).unsqueeze(2)
    same_BWT = segments_BW.unsqueeze(2) == segments_BT.unsqueeze(1)
    earlier_BWT = positions_BT.unsqueeze(1) <= positions_BW.unsqueeze(2)
    present_B1T = (segments_BT != PADDING).unsqueeze(1)
    return (hole_BW1 & present_B1T) | (same_BWT & earlier_BWT)


def in_block_order(positions_BW: Tensor, positions_BT: Tensor, length: int) -> Tensor:
    """Which keys stand in a query's own block of positions or before it: boolean [B, W, T]."""
    return (positions_BT // length).unsqueeze(1) <= (positions_BW // length).unsqueeze(2)


def rotary(positions_BT: Tensor, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary embedding, each [B, 1, T, D] (Su et al., arXiv 2104.09864)."""
    exponents = torch.arange(0, width, 2, device=positions_BT.device, dtype=torch.float32) / width
    angles_BTD = positions_BT.unsqueeze(2).float() * (1.0 / theta**exponents)
    angles_B1TD = torch.cat([angles_BTD, angles_BTD], dim=-1).unsqueeze(1)
    return angles_B1TD.cos(), angles_B1TD.sin()


def rotate(x_BHTD: Tensor, cos_B1TD: Tensor, sin_B1TD: Tensor) -> Tensor:
    """Turn queries or keys to their positions."""
    half = x_BHTD.shape[-1] // 2
    turned = torch.cat([-x_BHTD[..., half:], x_BHTD[..., :half]], dim=-1)
    return x_BHTD * cos_B1TD + turned * sin_B1TD


def attend_to_past(
    q_BHWD: Tensor, k_BKWD: Tensor, v_BKWD: Tensor, past_k_FKPD: Tensor, past_v_FKPD: Tensor, added_B1WT: Tensor
) -> Tensor:
    """Attention of a window to its past and itself [B, H, W, D]; all keys are turned already.

    Rows of the batch that share a past, and heads that share its keys, are one matrix product: the past is read once,
    not once a row.
    """
    batch, heads, window, width = q_BHWD.shape
    pasts, kv_heads, length, _ = past_k_FKPD.shape
    group, share = batch // pasts, heads // kv_heads  # G and H / K, the fourth axis below
    parted = pasts, group, kv_heads, share, window
    q = q_BHWD * width**-0.5
    far_q = q.reshape(*parted, width).transpose(1, 2).reshape(pasts, kv_heads, group * share * window, width)
    far = (far_q @ past_k_FKPD.transpose(2, 3)).reshape(pasts, kv_heads, group, share, window, length)
    near = q.reshape(batch, kv_heads, share * window, width) @ k_BKWD.transpose(2, 3)
    near = near.reshape(*parted, window).transpose(1, 2)
    added = added_B1WT.reshape(pasts, group, 1, 1, window, length + window).transpose(1, 2)
    weights = (torch.cat([far, near], dim=-1) + added).softmax(-1, dtype=torch.float32).to(q.dtype)
    far_weights = weights[..., :length].reshape(pasts, kv_heads, group * share * window, length)
    near_weights = weights[..., length:].transpose(1, 2).reshape(batch, kv_heads, share * window, window)
    far_y = (far_weights @ past_v_FKPD).reshape(pasts, kv_heads, group, share, window, width).transpose(1, 2)
    return far_y.reshape(q.shape) + (near_weights @ v_BKWD).reshape(q.shape)


def attend_in_blocks(q_BHWD: Tensor, k_BKWD: Tensor, v_BKWD: Tensor, visible_B1WW: Tensor, rows: int = 384) -> Tensor:
    """Softmax attention by plain products, `rows` rows at a time over the keys up to the last that any of them sees.

    `visible_B1WW` is boolean; every row sees a key. Heads of a group share their keys. For training on a CPU in
    bfloat16, where it takes half the time of torch's fused kernel with a mask. Returns [B, H, W, D].
    """
    (batch, heads, window, width), shared = q_BHWD.shape, k_BKWD.shape[1]
    q_BKGWD = (q_BHWD * width**-0.5).view(batch, shared, heads // shared, window, width)
    keys_BKDW = k_BKWD.transpose(-1, -2)
    outputs = []
    for first in range(0, window, rows):
        visible_B1RW = visible_B1WW[..., first : first + rows, :]
        seen = int(visible_B1RW.flatten(0, 2).view(torch.uint8).amax(0).nonzero().max()) + 1
        hidden_B1RS = torch.zeros_like(visible_B1RW[..., :seen], dtype=torch.bfloat16)
        hidden_B1RS.masked_fill_(~visible_B1RW[..., :seen], float("-inf"))
        q_BKRD = q_BKGWD[..., first : first + rows, :].flatten(2, 3)
        scores_BKGRS = (q_BKRD @ keys_BKDW[..., :seen]).view(batch, shared, heads // shared, -1, seen)
        p_BKRS = (scores_BKGRS + hidden_B1RS.unsqueeze(2)).softmax(-1).flatten(2, 3)
        outputs.append((p_BKRS @ v_BKWD[:, :, :seen]).view(batch, heads, -1, width))
    return torch.cat(outputs, dim=2)
