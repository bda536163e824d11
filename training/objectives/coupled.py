"""Coupled-GRPO: log-probabilities from complementary maskings, advantages, and the clipped loss.

Method: DiffuCoder (arXiv 2506.20639, section 4); GRPO: arXiv 2402.03300; leave-one-out: arXiv 2402.14740.

No single forward gives a masked diffusion model's log-probability of a completion. The estimate here takes a view with
all of the completion masked and pairs of views that divide it: what the first does not mask, the second does. So every
token is measured in context once a pair, and the noise of the two parts cancels in part.

Legend: B rows, L length, C length of the completion.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.objectives.views import weighted_log_probs


def coupled_views(completion_mask_BL: Tensor, uniform_BL: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which tokens are masked in the three views, each boolean [B, L]: the whole completion, U < t, and the others.

    `uniform_BL`: numbers in [0, 1). `t`: the share of the first, a number or one a row [B]. Every completion token is
    in exactly one of the last two.
    """
    full_BL = completion_mask_BL.bool()
    first_BL = full_BL & (uniform_BL < levels(t, uniform_BL))
    return full_BL, first_BL, full_BL & ~first_BL


def coupled_log_probs(
    model: Any,
    input_ids_BL: Tensor,
    completion_length: int,
    uniform_BL: Tensor,
    t: float | Tensor,
    mask_id: int,
    attention_mask: Tensor | None = None,
    pairs: int = 1,
) -> Tensor:
    """The estimate of each completion token's log-probability (nats), [B, C]; the completion ends the rows.

    With one pair: (p0 + p1/t) / 2 for tokens that the first view masks, (p0 + p2/(1 - t)) / 2 for the others; p0 is of
    the view with everything masked. With K pairs the sum of all is divided by K + 1.

    - `t`: a number within (0, 1), or one a row [B].
    - `uniform_BL`: numbers in [0, 1), of which those at the completion count. K pairs take [K, B, L], or one [B, L],
      which pair k turns by k/K, so that the pairs mask different tokens.
    - `attention_mask` [B, L]: 0 for padding. Without it padding is seen, as in the DiffuCoder repository.
    """
    if not 0 < completion_length <= input_ids_BL.shape[1]:
        raise ValueError(f"completion_length lies between 1 and {input_ids_BL.shape[1]}, not {completion_length}")
    if pairs < 1:
        raise ValueError(f"pairs is at least 1, not {pairs}")
    completion_BL = torch.zeros_like(input_ids_BL, dtype=torch.bool)
    completion_BL[:, -completion_length:] = True
    if uniform_BL.dim() == 2:
        uniforms = [(uniform_BL + k / pairs) % 1 for k in range(pairs)] if pairs > 1 else [uniform_BL]
    elif len(uniform_BL) == pairs:
        uniforms = list(uniform_BL)
    else:
        raise ValueError(f"{pairs} pairs take as many matrices of numbers, not {len(uniform_BL)}")
    level_B1 = levels(t, uniforms[0])
    views: list[tuple[Tensor, Tensor | float]] = [(completion_BL, 1.0)]
    for one_BL in uniforms:
        _, first_BL, second_BL = coupled_views(completion_BL, one_BL, t)
        views += [(first_BL, 1 / level_B1), (second_BL, 1 / (1 - level_B1))]
    logp_BL = weighted_log_probs(model, input_ids_BL, views, pairs + 1, mask_id, attention_mask)
    return logp_BL[:, -completion_length:]


def leave_one_out_advantages(rewards: Tensor, group_size: int, scale: bool = False) -> Tensor:
    """Each reward less the mean of the others of its group, [B]; the groups follow each other.

    It is group_size / (group_size - 1) times the reward less the mean of all. `scale` divides by the group's standard
    deviation (of a sample) plus 1e-4. A group whose rewards are all equal gets 0.
    """
    if group_size < 2:
        raise ValueError(f"a group has at least two completions, not {group_size}: there is no other to compare with")
    if rewards.dim() != 1 or len(rewards) == 0 or len(rewards) % group_size:
        raise ValueError(f"rewards {list(rewards.shape)} are no whole number of groups of {group_size}")
    grouped_NG = rewards.view(-1, group_size)
    grouped_NG = grouped_NG - grouped_NG[:, :1]  # so that equal rewards give 0 and not a rounding error
    others_NG = (grouped_NG.sum(1, keepdim=True) - grouped_NG) / (group_size - 1)
    advantages_NG = grouped_NG - others_NG
    if scale:
        advantages_NG = advantages_NG / (grouped_NG.std(1, keepdim=True) + 1e-4)
    return advantages_NG.flatten()


def grpo_loss(
    new_BC: Tensor,
    old_BC: Tensor | None,
    ref_BC: Tensor | None,
    advantages_B: Tensor,
    completion_mask_BC: Tensor,
    clip_low: float = 0.5,
    clip_high: float = 0.5,
    beta: float = 0.01,
) -> tuple[Tensor, dict[str, float]]:
    """The clipped policy loss with a penalty for leaving the reference, a mean over counted tokens; and its figures.

    - `new_BC`, `old_BC`, `ref_BC`: log-probabilities by the policy in training, by the one that made the rollouts
      (None: the same, at ratio 1) and by the reference (None where `beta` is 0).
    - A token costs -min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A) + beta (exp(d) - d - 1), where ratio =
      exp(new - old) and d = ref - new. Without any counted token the loss is 0.
    - Figures: `kl`, the mean of exp(d) - d - 1; `clip_low` and `clip_high`, the shares of tokens held back below and
      above; `clip`, their sum; `ratio`, the mean ratio.
    """
    if beta and ref_BC is None:
        raise ValueError("beta above 0 needs the log-probabilities of the reference")
    counted_BC = completion_mask_BC.bool()
    advantages_B1 = advantages_B.unsqueeze(1)
    ratio_BC = torch.exp(new_BC - (new_BC.detach() if old_BC is None else old_BC))
    held_BC = ratio_BC.clamp(1 - clip_low, 1 + clip_high)
    loss_BC = -torch.min(ratio_BC * advantages_B1, held_BC * advantages_B1)
    kl_BC = torch.zeros_like(new_BC)
    if beta and ref_BC is not None:
        away_BC = ref_BC - new_BC
        kl_BC = away_BC.exp() - away_BC - 1
        loss_BC = loss_BC + beta * kl_BC
    count = counted_BC.sum().clamp(min=1)

    def mean(values_BC: Tensor) -> Tensor:
        return values_BC.masked_fill(~counted_BC, 0.0).sum() / count

    with torch.no_grad():
        low_BC = (ratio_BC < 1 - clip_low) & (advantages_B1 < 0)
        high_BC = (ratio_BC > 1 + clip_high) & (advantages_B1 > 0)
        metrics = {
            "kl": float(mean(kl_BC)),
            "clip_low": float(mean(low_BC.float())),
            "clip_high": float(mean(high_BC.float())),
            "clip": float(mean((low_BC | high_BC).float())),
            "ratio": float(mean(ratio_BC)),
        }
    return mean(loss_BC), metrics


def levels(t: float | Tensor, like_BL: Tensor) -> Tensor:
    """`t` as a column [B, 1] or a scalar tensor beside `like_BL`; ValueError outside of (0, 1)."""
    level = torch.as_tensor(t, dtype=like_BL.dtype, device=like_BL.device)
    if not bool(((level > 0) & (level < 1)).all()):
        raise ValueError(f"t lies between 0 and 1, not {t}")
    return level.unsqueeze(1) if level.dim() == 1 else level
