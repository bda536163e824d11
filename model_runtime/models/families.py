"""What a model is, read from its config.json: special ids, shift, attention, what it must never produce."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from model_runtime.protocol import ModelError

HOLE = -1  # segment of rows that see everything
PADDING = -2  # segment of rows that nobody sees
CANDIDATES = 64  # ids that come back for each masked row, out of a whole vocabulary


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
    length: str = "expand"  # what "auto" means where the model can expand: "expand" or "search"
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
    decoding = config.get("diffill", {})
    if not isinstance(decoding, dict):
        raise ModelError(f"{path} needs diffill as a JSON object, not {decoding!r}")
    vocabulary, width = positive(path, config, "vocab_size"), positive(path, config, "hidden_size")
    heads = positive(path, config, "num_attention_heads")
    kv_heads = positive(path, config, "num_key_value_heads", heads)
    positions = positive(path, config, "max_position_embeddings", 2048)
    if width % heads:
        raise ModelError(f"{path} needs num_attention_heads that divide hidden_size, not {heads} in {width}")
    if heads % kv_heads:
        raise ModelError(f"{path} needs num_key_value_heads that divide the {heads} heads, not {kv_heads}")
    attention, shift = config.get("attention", "full"), config.get("shift", True)
    if attention not in ("full", "context_blind"):
        raise ModelError(f"{path} needs attention as full or context_blind, not {attention!r}")
    if not isinstance(shift, bool):
        raise ModelError(f"{path} needs shift as true or false, not {shift!r}")
    ids: dict[str, int | None] = {}
    for key in ("mask_token_id", "bos_token_id", "pad_token_id", "expand_token_id", "delete_token_id"):
        value = config.get(key)
        if value is not None and not (whole(value) and 0 <= value < vocabulary):
            raise ModelError(f"{path} names {key} {value!r}, which is no id of its vocabulary of {vocabulary}")
        ids[key] = value
    name, threshold = decoding.get("name", folder.name), decoding.get("threshold", 0.9)
    if not isinstance(name, str):
        raise ModelError(f"{path} needs diffill.name as text, not {name!r}")
    if not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise ModelError(f"{path} needs diffill.threshold above 0 and not above 1, not {threshold!r}")
    length = decoding.get("length", "expand")
    if length not in ("expand", "search"):
        raise ModelError(f"{path} needs diffill.length as expand or search, not {length!r}")
    return ModelFacts(
        name=name,
        mask_id=mask_id,
        vocabulary=vocabulary,
        tokenizer_size=positive(path, config, "tokenizer_size", vocabulary),
        context_length=positive(path, decoding, "context_length", positions),
        layers=positive(path, config, "num_hidden_layers"),
        kv_heads=kv_heads,
        head_width=width // heads,
        shift=shift,
        context_blind=attention == "context_blind",
        bos_id=ids["bos_token_id"],
        pad_id=ids["pad_token_id"],
        expand_id=ids["expand_token_id"],
        delete_id=ids["delete_token_id"],
        threshold=threshold,
        length=length,
        start_masks=positive(path, decoding, "start_masks", 16),
        probe_bias=probe_bias(path, decoding),
    )


def whole(value: Any) -> TypeGuard[int]:
    """Whether a JSON value is a whole number: true and false, which Python counts as such, are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def positive(path: Path, config: dict[str, Any], key: str, default: int | None = None) -> int:
    """The whole number from 1 at `key`; where it is missing or null, the default."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if not whole(value) or value < 1:
        raise ModelError(f"{path} needs {key} as a positive number, not {value!r}")
    return value


def probe_bias(path: Path, decoding: dict[str, Any]) -> tuple[tuple[int, float], ...] | None:
    """The pairs (length, confidence) that came with the model."""
    pairs = decoding.get("probe_bias")
    if pairs is None:
        return None
    try:
        bias = tuple((int(length), float(confidence)) for length, confidence in pairs)
    except (TypeError, ValueError):
        bias = ()
    if not bias or any(length < 1 or not confidence > 0 for length, confidence in bias):
        raise ModelError(f"{path} needs diffill.probe_bias as pairs of a length and a confidence")
    return bias
