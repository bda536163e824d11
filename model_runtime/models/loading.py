"""A checkpoint of any supported family as our own torch model; code that comes with it is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from model_runtime.models.checking import check_weights, told_config
from model_runtime.models.dream import DreamConfig, DreamModel
from model_runtime.models.layouts import tensor_names
from model_runtime.protocol import ModelError


def open_checkpoint(folder: Path, **options: Any) -> DreamModel:
    """Load a folder with safetensors; `options` go to from_pretrained (dtype, device_map, quantization_config).

    ModelError with one sentence for what `check_weights` finds; other failures are the libraries' own.
    """
    told, layout = told_config(folder, check_weights(folder))
    told.pop("model_type", None)
    told.pop("architectures", None)
    told.pop("auto_map", None)
    config = DreamConfig(**told)
    names = tensor_names(layout)
    model, told_of = DreamModel.from_pretrained(
        folder,
        config=config,
        use_safetensors=True,
        output_loading_info=True,
        **({"key_mapping": names} if names else {}),
        **options,
    )
    if missing := sorted(told_of["missing_keys"]):
        raise ModelError(f"the weights in {folder} lack {missing[0]}")
    return model


@torch.inference_mode()
def check_numbers(model: DreamModel, folder: Path) -> None:
    """Run the model over a few tokens; ModelError that names a tensor if what comes out is not finite.

    A damaged file can be whole in form. One short pass uses all weights but the embedding's other rows.
    """
    device = model.model.embed_tokens.weight.device
    ids_BL = torch.arange(4, device=device).unsqueeze(0) % model.config.vocab_size
    if bool(torch.isfinite(model(ids_BL).logits).all()):
        return
    bad = [
        name
        for name, values in model.named_parameters()
        if values.is_floating_point() and not bool(torch.isfinite(values).all())
    ]
    named = f": {bad[0]} holds numbers that are not finite" if bad else ": its numbers overflow; try another precision"
    raise ModelError(f"the weights in {folder} are damaged{named}")
