"""Checkpoints with random weights in the shapes of real ones: speed does not depend on what a model has learned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from model_runtime.catalog.catalog import EMBEDDED

# Qwen2.5-0.5B, of which Open-dCoder 0.5B was made; a model of 24 M parameters; 7 B as DiffuCoder; one for tests.
SHAPES: dict[str, dict[str, Any]] = {
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True, "attention": "full"},
    "24m": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 7, "num_attention_heads": 8,
            "num_key_value_heads": 2, "vocab_size": 8192, "tie_word_embeddings": True, "attention": "context_blind"},
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False, "attention": "full"},
    "tiny": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 8192, "tie_word_embeddings": True, "attention": "full"},
}  # fmt: skip
ROWS = 8192  # of a matrix drawn in one go


def config_of(shape: str) -> dict[str, Any]:
    """config.json of a shape, with the embedded model's tokenizer: ids beyond it have no text."""
    config = json.loads((EMBEDDED / "config.json").read_text(encoding="utf-8")) | SHAPES[shape]
    config |= {
        "rope_theta": 1_000_000.0,
        "max_position_embeddings": 4096,
        "expand_token_id": None,
        "delete_token_id": None,
    }
    return config | {"diffill": {"name": f"random-{shape}", "context_length": 1040, "threshold": 0.9}}


def tensors_of(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's tensors."""
    from model_runtime.models.layouts import expected_tensors

    return expected_tensors(config)


def write_checkpoint(folder: Path, shape: str, seed: int = 0) -> Path:
    """Write a checkpoint of bfloat16 normal numbers (deviation width^-0.5, norms 1, biases 0), unless it is there."""
    if (folder / "model.safetensors").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(shape)
    tensors = tensors_of(config)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, dims in tensors.items():
        size = 2 * int(np.prod(dims))
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [at, at + size]}
        at += size
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    rng = np.random.default_rng(seed)
    partial = folder / "model.safetensors.partial"
    with partial.open("wb") as file:
        file.write(len(written).to_bytes(8, "little") + written)
        for name, dims in tensors.items():
            if len(dims) == 1:
                value = np.zeros(dims, np.float32) if name.endswith("bias") else np.ones(dims, np.float32)
                file.write(to_bfloat16(value))
                continue
            for start in range(0, dims[0], ROWS):
                part = rng.standard_normal((min(ROWS, dims[0] - start), dims[1]), np.float32)
                file.write(to_bfloat16(part * np.float32(dims[1] ** -0.5)))
    partial.rename(folder / "model.safetensors")
    shutil.copyfile(EMBEDDED / "tokenizer.json", folder / "tokenizer.json")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def to_bfloat16(value: np.ndarray) -> bytes:
    """The upper halves of float32 numbers, rounded to nearest."""
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    return ((bits + 0x8000) >> 16).astype(np.uint16).tobytes()
