"""The public layouts of checkpoints, told in the words of one: what their configs and tensors are called in Dream's.

All are the same blocks (RMS norm, grouped attention with rotary positions, SwiGLU) under different names; Qwen2's have
biases on q, k and v, Llama's and LLaDA's none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from model_runtime.protocol import ModelError

# LLaDA's own names in config.json (OLMo's, from which its code comes), and Dream's.
LLADA_CONFIG = {
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "mlp_hidden_size": "intermediate_size",
    "embedding_size": "vocab_size",
    "max_sequence_length": "max_position_embeddings",
    "weight_tying": "tie_word_embeddings",
}
# Values without which a LLaDA checkpoint would be another architecture than the one we compute.
LLADA_FIXED: dict[str, tuple[Any, ...]] = {
    "block_type": ("llama",),
    "layer_norm_type": ("rms",),
    "activation_type": ("silu",),
    "include_bias": (False,),
    "bias_for_layer_norm": (False, None),
    "alibi": (False,),
    "rope": (True,),
    "scale_logits": (False,),
    "input_emb_norm": (False,),
    "attention_layer_norm": (False,),
}
# Tensor names of LLaDA's blocks as patterns with one group at most (transformers fills in no more), and Dream's.
LLADA_TENSORS = {
    r"^model\.transformer\.wte\.": "model.embed_tokens.",
    r"^model\.transformer\.ln_f\.": "model.norm.",
    r"^model\.transformer\.ff_out\.": "lm_head.",
    r"^model\.transformer\.blocks\.(\d+)\.attn_norm\.": r"model.layers.\1.input_layernorm.",
    r"^model\.transformer\.blocks\.(\d+)\.ff_norm\.": r"model.layers.\1.post_attention_layernorm.",
    r"^model\.transformer\.blocks\.(\d+)\.q_proj\.": r"model.layers.\1.self_attn.q_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.k_proj\.": r"model.layers.\1.self_attn.k_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.v_proj\.": r"model.layers.\1.self_attn.v_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.attn_out\.": r"model.layers.\1.self_attn.o_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.ff_proj\.": r"model.layers.\1.mlp.gate_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.up_proj\.": r"model.layers.\1.mlp.up_proj.",
    r"^model\.transformer\.blocks\.(\d+)\.ff_out\.": r"model.layers.\1.mlp.down_proj.",
}


def in_dreams_words(path: Path, config: dict[str, Any], layout: str) -> dict[str, Any]:
    """The config of a layout ("dream", "qwen2", "llama" or "llada") with Dream's keys.

    ModelError for what is not computed. `qkv_bias` says whether q, k and v have biases; where rope_theta stands in
    rope_parameters, it is taken from there.
    """
    told = dict(config)
    if layout == "llada":
        for name, allowed in LLADA_FIXED.items():
            if name in config and config[name] not in allowed:
                raise ModelError(f"{path} needs {name} as {allowed[0]!r}, not {config[name]!r}")
        for theirs, ours in LLADA_CONFIG.items():
            if config.get(theirs) is not None:
                told[ours] = config[theirs]
        told["qkv_bias"] = bool(config.get("include_qkv_bias", False))
        told.setdefault("rms_norm_eps", 1e-5)
    elif layout == "llama":
        if config.get("attention_bias") or config.get("mlp_bias"):
            raise ModelError(f"{path} has biases in attention or MLP, which its family has not")
        told["qkv_bias"] = False
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if isinstance(rope, dict):
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise ModelError(f"{path} scales its positions ({kind!r}), which no supported family does")
        told.setdefault("rope_theta", rope.get("rope_theta"))
        told["rope_scaling"] = None
    if told.get("rope_theta") is None:
        told["rope_theta"] = 1_000_000.0 if layout in ("dream", "qwen2") else 500_000.0
    return told


def tensor_names(layout: str) -> dict[str, str]:
    """Patterns of a layout's tensor names and what they become; nothing where the names are Dream's already."""
    return dict(LLADA_TENSORS) if layout == "llada" else {}


def renamed(name: str, layout: str) -> str:
    """A tensor's name in Dream's words."""
    for pattern, ours in tensor_names(layout).items():
        if re.match(pattern, name):
            return re.sub(pattern, ours, name)
    return name


def expected_tensors(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors that a checkpoint must hold, by Dream's names, and their shapes, for a config in Dream's words."""
    width, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    narrow = (config.get("num_key_value_heads") or heads) * (width // heads)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, width),
        "model.norm.weight": (width,),
    }
    if not config.get("tie_word_embeddings", False):
        shapes["lm_head.weight"] = (vocabulary, width)
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}."
        for name, rows in (("q", width), ("k", narrow), ("v", narrow)):
            shapes[f"{layer}self_attn.{name}_proj.weight"] = (rows, width)
            if config.get("qkv_bias", True):
                shapes[f"{layer}self_attn.{name}_proj.bias"] = (rows,)
        shapes[f"{layer}self_attn.o_proj.weight"] = (width, width)
        shapes[f"{layer}mlp.gate_proj.weight"] = shapes[f"{layer}mlp.up_proj.weight"] = (inner, width)
        shapes[f"{layer}mlp.down_proj.weight"] = (width, inner)
        shapes[f"{layer}input_layernorm.weight"] = shapes[f"{layer}post_attention_layernorm.weight"] = (width,)
    return shapes
