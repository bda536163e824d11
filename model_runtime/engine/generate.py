"""Whole-sequence decoding of masked diffusion models, as Dream and DiffuCoder publish it.

Every step runs the model over the whole canvas and fills some [MASK]s; nothing is cached and no step is
skipped, which makes this the yardstick for faster engines. By default the decoder does what its arguments
say; with `compat=True` it repeats the published one number for number, quirks included.

Legend: B batch, L length of the canvas, N masked positions of the batch in row-major order, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model_runtime.engine.filters import ban_ids, exponential, sample_tokens, uniform

ALGORITHMS = ("origin", "maskgit_plus", "topk_margin", "entropy")

TokensHook = Callable[[int | None, Tensor, Tensor | None], Tensor]
LogitsHook = Callable[[int, Tensor, Tensor], Tensor]


class _Omitted:
    def __repr__(self) -> str:
        return "OMITTED"


# Stands for an argument that was not given: in compat mode that differs from None.
OMITTED: Any = _Omitted()


@dataclass
class Generated:
    """The decoded canvases [B, L] and, if asked for, the canvas after every step."""

    sequences: Tensor
    history: list[Tensor] | None = None


@torch.no_grad()
def diffusion_generate(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    max_length: int | None = None,
    max_new_tokens: int | None = None,
    steps: int = 512,
    eps: float = 1e-3,
    alg: str = "origin",
    alg_temp: float | None = None,
    temperature: float | None = OMITTED,
    top_p: float | None = OMITTED,
    top_k: int | None = OMITTED,
    output_history: bool = False,
    generation_tokens_hook_func: TokensHook | None = None,
    generation_logits_hook_func: LogitsHook | None = None,
    generator: torch.Generator | None = None,
    compat: bool = False,
) -> Generated:
    """Fill the [MASK]s of `input_ids` and of the positions appended to it, in exactly `steps` forwards.

    Method: Dream (arXiv 2508.15487) and DiffuCoder (arXiv 2506.20639).

    - `model`: called as `model(ids_BL)`, or with `attention_mask` and `position_ids` [B, L] if there is
      padding; returns an object whose `logits` are [B, L, V] before any shift. Its `config` has
      `mask_token_id`, `shift` (default true: row i predicts token i + 1), and may name ids never to produce
      (`ban_ids`).
    - `input_ids` [B, length], integers; [MASK]s may stand anywhere. `attention_mask` is of the same shape, 0
      for padding. The canvas gets [MASK]s on the right up to `max_length`, or `max_new_tokens` of them; with
      neither it stays as it is.
    - `alg`: `origin` fills each [MASK] with the schedule's probability, the others fill those of the highest
      confidence (see `sample_tokens`); `reveal_ratios` says how many. `alg_temp` above 0 draws the positions
      from softmax(confidence / alg_temp) instead. `temperature`, `top_p`, `top_k`: omitted or None means 0,
      all, all.
    - `generation_tokens_hook_func(step, ids_BL, logits_BLV)` returns the ids to go on with: called with step
      and logits None before the first step, then after every step. `generation_logits_hook_func(step, ids_BL,
      logits_BLV)` returns the logits to use. Both see shifted logits: row i is about token i.
    - All randomness comes from `generator`, or else from the global one of the canvas's device.

    Padding, on whichever side, changes nothing: at temperature 0 a padded row decodes as it would alone. Rows
    may have different numbers of [MASK]s; each follows its own schedule and ends without any. Nothing but
    [MASK]s is overwritten.

    `compat=True` repeats the reference instead: one count for all rows, from the mean number of [MASK]s, so
    that uneven rows keep [MASK]s or lose prompt tokens; any id may be predicted, [MASK] too; the first token
    after padding is predicted from a padding row; at least one position must be appended, 20 if no length is
    given; an *omitted* `temperature`, `top_p` or `top_k` means 1.0, 1.0 and 50; logits keep the model's
    precision.

    Raises ValueError for arguments out of range, a model without a mask id, a model that needs segments
    (`config.attention` of "context_blind"), and a canvas with nothing to fill. An unknown `alg` is a
    RuntimeError in compat mode, as in the reference.
    """
    mask_id = getattr(model.config, "mask_token_id", None)
    if mask_id is None:
        raise ValueError("the model's config has no mask_token_id")
    if getattr(model.config, "attention", "full") != "full":
        raise ValueError("whole-sequence decoding needs a model of full attention")
    if alg not in ALGORITHMS:
        error = RuntimeError if compat else ValueError
        raise error(f"alg is one of {', '.join(ALGORITHMS)}, not {alg!r}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError(f"generator is a torch.Generator, not {type(generator).__name__}")
    if alg_temp is not None and not (alg_temp >= 0 and math.isfinite(alg_temp)):
        raise ValueError(f"alg_temp is a finite number of at least 0, not {alg_temp}")
    sampling = _sampling(temperature, top_p, top_k, compat)
    ratios = reveal_ratios(steps, eps)
    x_BL, real_BL = _canvas(input_ids, attention_mask, mask_id, max_length, max_new_tokens, compat)
    if generation_tokens_hook_func is None and not (x_BL == mask_id).any():
        raise ValueError("nothing to fill: input_ids hold no [MASK], and no positions are to be appended")
    history: list[Tensor] | None = [] if output_history else None
    hooks = generation_tokens_hook_func, generation_logits_hook_func
    x_BL = _denoise(model, x_BL, real_BL, ratios, alg, alg_temp, sampling, hooks, history, generator, compat)
    return Generated(x_BL, history)


def _denoise(
    model: Any,
    x_BL: Tensor,
    real_BL: Tensor | None,
    ratios: Tensor,
    alg: str,
    alg_temp: float | None,
    sampling: dict[str, Any],
    hooks: tuple[TokensHook | None, LogitsHook | None],
    history: list[Tensor] | None,
    generator: torch.Generator | None,
    compat: bool,
) -> Tensor:
    """Run all steps on a canvas [B, L] and return the last; `history`, if given, collects every one."""
    mask_id = model.config.mask_token_id
    tokens_hook, logits_hook = hooks
    sources_BL = _sources(x_BL, real_BL, getattr(model.config, "shift", True), compat)
    padding = {}
    if real_BL is not None:
        positions_BL = (real_BL.long().cumsum(dim=1) - 1).masked_fill(~real_BL, 1)
        padding = {"attention_mask": real_BL.long(), "position_ids": positions_BL}
    rows_BL = torch.arange(x_BL.shape[0], device=x_BL.device).unsqueeze(1).expand_as(x_BL)

    if tokens_hook is not None:
        x_BL = _same_shape(tokens_hook(None, x_BL, None), x_BL, "generation_tokens_hook_func")
    for step, ratio in enumerate(ratios):
        hole_BL = x_BL == mask_id
        if real_BL is not None and not compat:
            hole_BL = hole_BL & real_BL  # the padding id may be the mask id
        logits_BLV = model(x_BL, **padding).logits
        if tokens_hook is None and logits_hook is None:
            # shifting only the rows in use saves a copy of all logits
            logits_NV = logits_BLV[rows_BL[hole_BL], sources_BL[hole_BL]]
        else:
            logits_BLV = logits_BLV[rows_BL, sources_BL]
            if logits_hook is not None:
                hooked_BLV = logits_hook(step, x_BL, logits_BLV)
                logits_BLV = _same_shape(hooked_BLV, logits_BLV, "generation_logits_hook_func")
            logits_NV = logits_BLV[hole_BL]
        if not compat:
            logits_NV = ban_ids(logits_NV.float(), model.config)

        # what each position would become; where nothing is predicted, [MASK]: only the reference chooses that
        filled_BL = torch.full_like(x_BL, mask_id)
        if alg == "origin":
            chosen_N = uniform(len(logits_NV), x_BL.device, generator) < ratio
            chosen_BL = torch.zeros_like(hole_BL)
            chosen_BL[hole_BL] = chosen_N
            _, ids_N = sample_tokens(logits_NV[chosen_N], **sampling, generator=generator, compat=compat)
            filled_BL[chosen_BL] = ids_N
        else:
            confidence_N, ids_N = sample_tokens(logits_NV, alg, **sampling, generator=generator, compat=compat)
            filled_BL[hole_BL] = ids_N
            confidence_BL = torch.full(x_BL.shape, -torch.inf, dtype=logits_NV.dtype, device=x_BL.device)
            confidence_BL[hole_BL] = confidence_N
            holes_B = hole_BL.sum(dim=1).float()
            if compat:
                holes_B = holes_B.mean().expand_as(holes_B)
            chosen_BL = _choose(confidence_BL, (holes_B * ratio).long(), alg_temp, generator, compat)
        x_BL = torch.where(chosen_BL, filled_BL, x_BL)
        if tokens_hook is not None:
            x_BL = _same_shape(tokens_hook(step, x_BL, logits_BLV), x_BL, "generation_tokens_hook_func")
        if history is not None:
            history.append(x_BL.clone())
    return x_BL


def reveal_ratios(steps: int, eps: float = 1e-3) -> Tensor:
    """The share of the remaining [MASK]s that each step fills, float32 [steps]; the last is 1.

    From t to s on the line from 1 to `eps` it is 1 - s/t. A count is a float32 product, cut to an integer, so
    the roundings of torch are part of the schedule. Raises ValueError for `steps` < 1 or `eps` not in [0, 1).
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps is an integer of at least 1, not {steps}")
    if not 0 <= eps < 1:
        raise ValueError(f"eps is at least 0 and below 1, not {eps}")
    times = torch.linspace(1, eps, steps + 1)
    ratios = 1 - times[1:] / times[:-1]
    ratios[-1] = 1
    return ratios


def _choose(
    confidence_BL: Tensor,
    counts_B: Tensor,
    alg_temp: float | None,
    generator: torch.Generator | None,
    compat: bool,
) -> Tensor:
    """Mark in each row as many positions as `counts_B` says: the most confident, or drawn by `alg_temp`."""
    widest = int(counts_B.max())
    score_BL = confidence_BL
    if alg_temp and widest > 0:
        # in logarithms small weights do not vanish, so they never tie with positions that are not masked
        score_BL = confidence_BL / alg_temp - exponential(confidence_BL, generator).log()
    if compat:
        best_BK = score_BL.topk(widest, dim=1).indices
    else:  # the leftmost of equals: topk promises no order, and padding would change it
        best_BK = score_BL.sort(dim=1, descending=True, stable=True).indices[:, :widest]
    taken_BK = torch.arange(widest, device=counts_B.device) < counts_B.unsqueeze(1)
    return torch.zeros_like(score_BL, dtype=torch.bool).scatter(1, best_BK, taken_BK)


def _sampling(temperature: Any, top_p: Any, top_k: Any, compat: bool) -> dict[str, Any]:
    """The options of `sample_tokens`, with defaults for what was omitted."""
    if temperature is OMITTED:
        temperature = 1.0 if compat else 0.0
    if top_p is OMITTED:
        top_p = 1.0 if compat else None
    if top_k is OMITTED:
        top_k = 50 if compat else None
    temperature = 0.0 if temperature is None else temperature
    if not (temperature >= 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature is a finite number of at least 0, not {temperature}")
    if top_p is not None and not 0 <= top_p <= 1:
        raise ValueError(f"top_p is between 0 and 1, not {top_p}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is at least 1, not {top_k}")
    return {"temperature": temperature, "top_p": top_p, "top_k": top_k}


def _canvas(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    mask_id: int,
    max_length: int | None,
    max_new_tokens: int | None,
    compat: bool,
) -> tuple[Tensor, Tensor | None]:
    """The canvas [B, L] and which of its positions are not padding [B, L], or None if none is."""
    if input_ids.dim() != 2 or input_ids.numel() == 0 or input_ids.is_floating_point():
        raise ValueError(f"input_ids are integers [batch, length], not {list(input_ids.shape)}")
    length = input_ids.shape[1]
    if max_new_tokens is not None:
        if max_length is not None and not compat:
            raise ValueError("give max_length or max_new_tokens, not both")
        max_length = length + max_new_tokens
    elif max_length is None:
        max_length = length + 20 if compat else length
    appended = max_length - length
    if appended < int(compat):
        raise ValueError(
            f"the canvas would be {max_length} tokens long, but input_ids have {length}"
            + (", and compat mode appends at least one" if compat else "")
        )
    x_BL = torch.nn.functional.pad(input_ids.long(), (0, appended), value=mask_id)
    if attention_mask is None:
        return x_BL, None
    if attention_mask.shape != input_ids.shape:
        raise ValueError(f"attention_mask is {list(attention_mask.shape)}, not {list(input_ids.shape)}")
    real_BL = torch.nn.functional.pad(attention_mask.to(x_BL.device).bool(), (0, appended), value=True)
    return x_BL, None if real_BL.all() else real_BL


def _sources(x_BL: Tensor, real_BL: Tensor | None, shift: bool, compat: bool) -> Tensor:
    """For each position, the row of logits that predicts it [B, L]: the one before, at the beginning its own.

    Padding is stepped over, so that the first token of a row, or the first after padding on the right, is
    predicted as without padding; the reference takes the row of padding there.
    """
    at_BL = torch.arange(x_BL.shape[1], device=x_BL.device).expand_as(x_BL)
    if not shift:
        return at_BL
    if real_BL is None or compat:
        return (at_BL - 1).clamp_min(0)
    last_real_BL = torch.where(real_BL, at_BL, -1).cummax(dim=1).values
    before_BL = torch.nn.functional.pad(last_real_BL[:, :-1], (1, 0), value=-1)
    return torch.where(before_BL < 0, at_BL, before_BL)


def _same_shape(returned: Any, expected: Tensor, hook: str) -> Tensor:
    if not isinstance(returned, Tensor) or returned.shape != expected.shape:
        raise ValueError(f"{hook} has to return a tensor {list(expected.shape)}")
    return returned
