"""What a model is, read from its config.json: special ids, shift, attention, what it must never produce."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_runtime.protocol import ModelError


@dataclass(frozen=True)
class ModelFacts:
    """The facts of a checkpoint that decoding needs; ids are None where the model has no such token."""

    name: str
    mask_id: int
    vocabulary: int  # rows of the head
    tokenizer_size: int  # ids from here on have no text
    context_length: int
    layers: int
    kv_heads: int
    head_width: int
    shift: bool = True  # row i predicts token i+1
    context_blind: bool = False
    bos_id: int | None = None
    pad_id: int | None = None
    expand_id: int | None = None
    delete_id: int | None = None
    threshold: float = 0.9  # of the threshold sampler
    start_masks: int = 16  # a hole's first length when it can grow and shrink
    probe_bias: tuple[tuple[int, float], ...] | None = None  # lengths.py: mean first-step confidence by length


def read_facts(folder: Path) -> ModelFacts:
    """Read `folder`/config.json; ModelError with one sentence when it cannot be a masked diffusion model."""
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is not a model: it has no config.json") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object")
    if config.get("model_type") != "Dream":
        raise ModelError(f"{path} names the model type {config.get('model_type')!r}; supported is Dream")
    mask_id = config.get("mask_token_id")
    if mask_id is None:
        raise ModelError(f"{path} names no mask_token_id, so the model cannot fill holes")
    sizes = {}
    for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        value = config.get(key)
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"{path} needs {key} as a positive number, not {value!r}")
        sizes[key] = value
    if not 0 <= mask_id < sizes["vocab_size"]:
        raise ModelError(f"{path} names mask_token_id {mask_id}, beyond its vocabulary of {sizes['vocab_size']}")
    decoding = config.get("diffill", {})
    return ModelFacts(
        name=decoding.get("name", folder.name),
        mask_id=mask_id,
        vocabulary=sizes["vocab_size"],
        tokenizer_size=config.get("tokenizer_size") or sizes["vocab_size"],
        context_length=decoding.get("context_length", config.get("max_position_embeddings", 2048)),
        layers=sizes["num_hidden_layers"],
        kv_heads=config.get("num_key_value_heads") or sizes["num_attention_heads"],
        head_width=sizes["hidden_size"] // sizes["num_attention_heads"],
        shift=config.get("shift", True),
        context_blind=config.get("attention", "full") == "context_blind",
        bos_id=config.get("bos_token_id"),
        pad_id=config.get("pad_token_id"),
        expand_id=config.get("expand_token_id"),
        delete_id=config.get("delete_token_id"),
        threshold=decoding.get("threshold", 0.9),
        start_masks=decoding.get("start_masks", 16),
        probe_bias=tuple((int(n), float(b)) for n, b in decoding["probe_bias"]) if "probe_bias" in decoding else None,
    )
