"""Low-rank adapters by peft, over weights in nf4 if asked for, and how they become plain weights again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model_runtime.models.dream import DreamModel
from training.errors import TrainingError
from training.stages.recipe import Lora


def add_adapters(model: DreamModel, lora: Lora, tokens: list[int], device: torch.device, half: bool) -> nn.Module:
    """The model with adapters, which alone are trained, and the rows of `tokens` in embedding and head.

    The mask and its kin begin as a mean and must learn what they are. All else is frozen, in bfloat16 if computing is.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError:
        raise TrainingError("lora needs peft: pip install 'diffill[train]'") from None
    if lora.bits == 4:
        quantize(model, device)
    tables = ["embed_tokens"] if model.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.modules),
        trainable_token_indices=dict.fromkeys(tables, tokens),
    )
    try:
        adapted = get_peft_model(model, config)  # type: ignore[arg-type]
    except ValueError as error:
        raise TrainingError(f"lora.modules: {error}") from error
    for parameter in adapted.parameters():
        if half and not parameter.requires_grad and parameter.dtype == torch.float32:
            parameter.data = parameter.data.bfloat16()
    return adapted


def quantize(model: DreamModel, device: torch.device) -> None:
    """Replace the matrices of the blocks by nf4 ones (bitsandbytes), in place."""
    import bitsandbytes as bnb

    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    for block in model.model.layers:
        for module in list(block.modules()):
            for name, layer in list(module.named_children()):
                if type(layer) is nn.Linear:
                    bias = layer.bias is not None
                    small = bnb.nn.Linear4bit(
                        layer.in_features, layer.out_features, bias=bias, compute_dtype=kind, quant_type="nf4"
                    )
                    small.load_state_dict(layer.state_dict())
                    # on a CPU, measuring would repack the weights into a format that cannot be trained through
                    small.support_avx512bf16_for_cpu = False
                    setattr(module, name, small.to(device))


def merged_state(model: Any) -> dict[str, Tensor]:
    """The plain model's state dict with the adapters added in; the model goes on as it is."""
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import TrainableTokensWrapper

    plain: DreamModel = model.get_base_model()
    state: dict[str, Tensor] = {}
    covered: list[str] = []
    for name, module in plain.named_modules():
        if name.startswith(tuple(covered)):
            continue  # part of one that was taken whole
        adapted: Any = module
        if isinstance(module, LoraLayer):
            weight = whole(adapted.base_layer.weight)
            state[f"{name}.weight"] = weight + adapted.get_delta_weight("default").detach().float()
            if adapted.base_layer.bias is not None:
                state[f"{name}.bias"] = adapted.base_layer.bias.detach()
            covered.append(f"{name}.")
        elif isinstance(module, TrainableTokensWrapper):
            state[f"{name}.weight"] = adapted.token_adapter.get_merged_weights(["default"]).detach()
            covered.append(f"{name}.")
        elif hasattr(getattr(module, "weight", None), "quant_state"):
            state[f"{name}.weight"] = whole(adapted.weight)
            if adapted.bias is not None:
                state[f"{name}.bias"] = adapted.bias.detach()
            covered.append(f"{name}.")
    for name, value in plain.state_dict().items():
        if not name.startswith(tuple(covered)):
            state[name] = value
    return state


def whole(weight: Any) -> Tensor:
    """A weight in float32, whatever it is kept in."""
    if hasattr(weight, "quant_state"):
        import bitsandbytes.functional as bnb

        return bnb.dequantize_4bit(weight.data, weight.quant_state).float()
    return weight.detach().float()
