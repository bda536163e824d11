"""Runs that start from the weights of another: its weights, and what they cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from model_runtime.models.dream import DreamModel


@dataclass
class Earlier:
    """What the runs cost whose weights a run goes on from."""

    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0
    runs: int = 0


def earlier_of(folder: Path) -> Earlier:
    """Read from a released model's card.json or a run's checkpoint; nothing known counts as nothing."""
    if (folder / "trainer.pt").is_file():
        state = torch.load(folder / "trainer.pt", map_location="cpu", weights_only=True)
        before = Earlier(**state.get("earlier", {}))
        steps, seconds, tokens = state["step"], state["spent"], state["tokens"]
        return Earlier(before.steps + steps, before.seconds + seconds, before.tokens + tokens, before.runs + 1)
    if (folder / "card.json").is_file():
        card = json.loads((folder / "card.json").read_text())
        return Earlier(card["steps"], card["minutes"] * 60, card["tokens_seen"], card.get("runs", 1))
    return Earlier(runs=1)


def carry_on(model: DreamModel, folder: Path, tokenizer: Tokenizer) -> None:
    """Load the weights of a model folder; another vocabulary or shape is a ValueError."""
    old = folder / "tokenizer.json"
    if old.is_file() and Tokenizer.from_file(str(old)).get_vocab() != tokenizer.get_vocab():
        raise ValueError(f"{folder} has another vocabulary than the corpus: build the corpus with --tokenizer {old}")
    weights = DreamModel.from_pretrained(folder, dtype=torch.float32).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in weights.items()}:
        raise ValueError(f"{folder} has another shape than the recipe")
    model.load_state_dict(weights)
