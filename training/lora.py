"""Low-rank adapters by peft, over weights in nf4 if asked for, and how they become plain weights again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model_runtime.models.dream import DreamModel
from training.errors import TrainingError
from training.stages.recipe import Lora


def add_adapters(model: DreamModel, lora: Lora, device: torch.device) -> nn.Module:
    """The model with adapters, which alone are trained."""
    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError:
        raise TrainingError("lora needs peft: pip install 'diffill[train]'") from None
    if lora.bits == 4:
        quantize(model, device)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.modules), bias="none"
    )
    try:
        return get_peft_model(model, config)  # type: ignore[arg-type]
    except ValueError as error:
        raise TrainingError(f"lora.modules: {error}") from error


def quantize(model: DreamModel, device: torch.device) -> None:
    """Replace the matrices of the blocks by nf4 ones (bitsandbytes), in place."""
    import bitsandbytes as bnb

    for block in model.model.layers:
        for module in list(block.modules()):
            for name, layer in list(module.named_children()):
                if type(layer) is nn.Linear:
                    small = bnb.nn.Linear4bit(
                        layer.in_features,
                        layer.out_features,
                        bias=layer.bias is not None,
                        compute_dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
                        quant_type="nf4",
                    )
                    small.load_state_dict(layer.state_dict())
                    setattr(module, name, small.to(device))
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def merged_state(model: Any) -> dict[str, Tensor]:
    """The plain model's state dict with the adapters added in; the model goes on as it is."""
    from peft.tuners.lora import LoraLayer

    plain: DreamModel = model.get_base_model()
    state: dict[str, Tensor] = {}
    for name, module in plain.named_modules():
        if isinstance(module, LoraLayer):
            adapted: Any = module
            base: Any = adapted.base_layer
            weight = base.weight
            if hasattr(weight, "quant_state"):
                import bitsandbytes.functional as bnb

                weight = bnb.dequantize_4bit(weight.data, weight.quant_state)
            state[f"{name}.weight"] = weight.detach().float() + adapted.get_delta_weight("default").detach().float()
            if base.bias is not None:
                state[f"{name}.bias"] = base.bias.detach()
    adapters = tuple(state)
    for name, value in plain.state_dict().items():
        inside = any(name.startswith(key.rsplit(".", 1)[0] + ".") for key in adapters)
        if not inside:
            state[name] = value
    return state
