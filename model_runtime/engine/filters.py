"""What happens to the logits of masked rows: filters, a draw, and the confidence that ranks the rows.

The rules are those of Dream (arXiv 2508.15487), which DiffuCoder (arXiv 2506.20639) shares: filters also act
at temperature 0, and the confidence is taken after them, so they change the order of filling too.

Legend: N rows, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def ban_ids(logits_NV: Tensor, config: Any) -> Tensor:
    """Give -inf, in place, to ids that are no text, and return the logits [N, V].

    They are `mask_token_id`, `expand_token_id` (DreamOn, arXiv 2602.01326), those from `tokenizer_size` on,
    and `bos_token_id`, unless it also ends or pads a text. Fields that are missing or None ban nothing.
    """
    bos = getattr(config, "bos_token_id", None)
    if bos in (getattr(config, "eos_token_id", None), getattr(config, "pad_token_id", None)):
        bos = None
    for banned in (config.mask_token_id, getattr(config, "expand_token_id", None), bos):
        if banned is not None:
            logits_NV[:, banned] = -torch.inf
    if (tokenizer_size := getattr(config, "tokenizer_size", None)) is not None:
        logits_NV[:, tokenizer_size:] = -torch.inf
    return logits_NV


def top_p_logits(logits_NV: Tensor, top_p: float) -> Tensor:
    """Keep in each row the likeliest ids up to and including the one that takes their mass beyond `top_p`.

    Logits [..., V]; the others become the lowest finite number. Nucleus sampling: arXiv 1904.09751.
    """
    sorted_NV, order_NV = logits_NV.sort(dim=-1, descending=True)
    beyond_NV = sorted_NV.softmax(dim=-1).cumsum(dim=-1) > top_p
    drop_NV = torch.zeros_like(beyond_NV)
    drop_NV[..., 1:] = beyond_NV[..., :-1]  # one later: the id that crosses the threshold stays
    drop_NV = torch.zeros_like(drop_NV).scatter(-1, order_NV, drop_NV)
    return logits_NV.masked_fill(drop_NV, torch.finfo(logits_NV.dtype).min)


def top_k_logits(logits_NV: Tensor, top_k: int) -> Tensor:
    """Keep in each row the `top_k` largest logits, and every tie of the last of them (arXiv 1805.04833).

    Logits [..., V]; the others become the lowest finite number. A `top_k` beyond V keeps everything.
    """
    kth_N1 = logits_NV.topk(min(top_k, logits_NV.shape[-1]), dim=-1).values[..., -1:]
    return logits_NV.masked_fill(logits_NV < kth_N1, torch.finfo(logits_NV.dtype).min)


def uniform(count: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw `count` numbers in [0, 1) on the generator's device, so that a seed means the same for all."""
    source = device if generator is None else generator.device
    return torch.rand(count, device=source, generator=generator).to(device)


def exponential(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw Exponential(1) noise in the shape and type of `like`; never 0, so that one may divide by it.

    Dividing weights by it and taking the k largest samples k places without replacement (Efraimidis and
    Spirakis 2006). `torch.multinomial` does the same, with the same draws; by hand it also works with a
    generator of another device and with a different k in each row.
    """
    source = like.device if generator is None else generator.device
    noise = torch.empty(like.shape, dtype=like.dtype, device=source).exponential_(generator=generator)
    return noise.to(like.device).clamp_min_(torch.finfo(like.dtype).tiny)


def sample_tokens(
    logits_NV: Tensor,
    confidence: str = "maskgit_plus",
    *,
    temperature: float = 0.0,
    top_p: float | None = None,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
    compat: bool = False,
) -> tuple[Tensor, Tensor]:
    """Choose an id for each row; return the confidences [N] and the ids [N].

    At temperature 0 the id is the likeliest, else it is drawn from the filtered distribution. Confidence,
    after the filters: `topk_margin` the gap of the two largest probabilities (arXiv 2502.06768), `entropy`
    the negative entropy, anything else the probability of the chosen id (MaskGIT, arXiv 2202.04200).

    Raises ValueError if a row holds nan or allows no id; with `compat` it takes the first id of the largest
    value instead of drawing, as the reference silently does.
    """
    if temperature > 0:
        logits_NV = logits_NV / temperature
    if top_p is not None and top_p < 1:
        logits_NV = top_p_logits(logits_NV, top_p)
    if top_k is not None:
        logits_NV = top_k_logits(logits_NV, top_k)
    p_NV = logits_NV.softmax(dim=-1)
    unusable = bool(p_NV[..., 0].isnan().any())  # the softmax of such a row is nan throughout
    if unusable and not compat:
        raise ValueError("logits hold nan, or allow no id at all at some position")
    if temperature > 0 and not unusable:
        ids_N = (p_NV / exponential(p_NV, generator)).argmax(dim=-1)
        confidence_N = p_NV.gather(-1, ids_N.unsqueeze(-1)).squeeze(-1)
    else:
        confidence_N, ids_N = p_NV.max(dim=-1)
    if confidence == "topk_margin":
        best_N2 = p_NV.topk(2, dim=-1).values
        confidence_N = best_N2[..., 0] - best_N2[..., 1]
    elif confidence == "entropy":
        confidence_N = (p_NV * (p_NV + 1e-10).log()).sum(dim=-1)
    return confidence_N, ids_N
