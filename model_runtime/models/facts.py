"""What decoding needs to know of a model, and the checks that its numbers pass."""

from __future__ import annotations

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
    family: str = "dream"  # the row of families.FAMILIES
    infills: bool = True  # trained to fill holes; else to complete prompts
    chat: str | None = None  # the prompt format of an instruct model: a name of engine/chat.py
    block_length: int | None = None  # rows see their own block of positions and those before it, nothing behind
    reveal_block: int | None = None  # tokens of an answer are revealed block after block of so many


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
