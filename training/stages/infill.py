"""The embedded model's recipe and one step of its training: model, loss, optimizers, precision."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from tokenizers import Tokenizer
from torch import Tensor

from model_runtime.models.dream import DreamConfig, DreamModel
from training.objectives.holes import IGNORE, TokenIds
from training.objectives.infill import Rows
from training.objectives.muon import Muon


@dataclass
class Recipe:
    """A run's settings, as a recipe file writes them."""

    model: dict[str, Any]
    rows: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 8
    learning_rate: float = 0.004
    mask_weight: float = 3.0  # of a masked token against a next token
    weight_decay: float = 0.02
    warmup: float = 0.02
    decay: float = 0.45
    clip: float = 1.0
    seed: int = 0
    shapes: list[dict[str, Any]] = field(default_factory=list)  # of the model, tried before a new run (`shapes.py`)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; an unknown key is a ValueError."""
    values = yaml.safe_load(path.read_text())
    known = {f.name for f in dataclasses.fields(Recipe)}
    for key in values:
        if key not in known:
            raise ValueError(f"{path}: unknown key {key!r}; known are {', '.join(sorted(known))}")
    return Recipe(**values)


def token_ids(tokenizer: Tokenizer) -> TokenIds:
    """The special ids of a tokenizer that the corpus build made."""

    def of(name: str) -> int:
        found = tokenizer.token_to_id(name)
        if found is None:
            raise ValueError(f"the tokenizer has no token {name}")
        return found

    newline = tokenizer.encode("\n", add_special_tokens=False).ids
    if len(newline) != 1:
        raise ValueError("the tokenizer has no token for a newline")
    delete = of("<|endoftext|>")
    return TokenIds(of("<|pad|>"), of("<|bos|>"), of("<|mask|>"), of("<|expand|>"), delete, newline[0])


def losses(model: DreamModel, rows: Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Summed next-token loss and its count, summed weighted masked loss and its weight (nats)."""
    x_BTE, _, _ = model.hidden(rows.ids, rows.positions, rows.visible())
    x_RE = x_BTE.flatten(0, 1)
    next_R = rows.next_labels.flatten() != IGNORE
    mask_R = rows.mask_labels.flatten() != IGNORE
    wanted = next_R | mask_R  # a row carries one target or the other
    target = torch.where(mask_R, rows.mask_labels.flatten(), rows.next_labels.flatten())[wanted]
    nats = F.cross_entropy(model.lm_head(x_RE[wanted]).float(), target, reduction="none")
    masked = mask_R[wanted]
    weight = rows.weights.flatten()[wanted] * masked
    return (nats * ~masked).sum(), (~masked).sum(), (nats * weight).sum(), weight.sum()


def rate(progress: float, recipe: Recipe) -> float:
    """Share of the learning rate at `progress` in [0, 1] of the budget: warm-up, plateau, linear to zero."""
    if progress < recipe.warmup:
        return max(progress / recipe.warmup, 0.02)
    return min(1.0, max(0.0, (1 - progress) / recipe.decay))


def make_optimizers(model: DreamModel, recipe: Recipe, half: bool = False) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, in bfloat16 if `half`; AdamW for embeddings, norms and biases."""
    matrices = [p for p in model.model.layers.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if not any(p is m for m in matrices)]
    return [
        Muon(matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, half=half),
        torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.97), weight_decay=0.0, fused=True),
    ]


def pick_precision(model: DreamModel, rows: Rows, device: str) -> bool:
    """Whether bfloat16 autocast is the faster one here (half the CPUs have no native support)."""
    if device == "cuda":
        return True
    seconds = {False: math.inf, True: math.inf}
    for half in (False, True) * 3:
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            parts = losses(model, rows)
        (parts[0] + parts[2]).backward()
        model.zero_grad()
        seconds[half] = min(seconds[half], time.perf_counter() - start)  # the best: other work may disturb some
    return seconds[True] < seconds[False]


@torch.no_grad()
def evaluate(model: DreamModel, held_out: list[Rows], device: str, half: bool) -> dict[str, float]:
    """Held-out nats a token: next-token on context, masked tokens of holes."""
    model.eval()
    sums = [0.0] * 4
    for rows in held_out:
        with torch.autocast(device, torch.bfloat16, enabled=half):
            sums = [a + float(b) for a, b in zip(sums, losses(model, rows), strict=True)]
    model.train()
    return {"next_nats": sums[0] / max(sums[1], 1), "masked_nats": sums[2] / max(sums[3], 1)}


def make_model(shape: dict[str, Any], tokenizer: Tokenizer, device: str) -> DreamModel:
    """A fresh model for a tokenizer of the corpus build, ready to train."""
    ids, vocabulary = token_ids(tokenizer), tokenizer.get_vocab_size()
    special = {
        "pad_token_id": ids.pad,
        "bos_token_id": ids.bos,
        "mask_token_id": ids.mask,
        "expand_token_id": ids.expand,
        "delete_token_id": ids.delete,
        "eos_token_id": ids.delete,
    }
    model = DreamModel(DreamConfig(vocab_size=vocabulary, tokenizer_size=vocabulary, **special, **shape))
    return model.to(device).train()


def backward(model: DreamModel, rows: Rows, recipe: Recipe, device: str, half: bool) -> tuple[Tensor, float, float]:
    """Gradients of the loss of a batch: the loss, and its nats of a next and of a masked token."""
    with torch.autocast(device, torch.bfloat16, enabled=half):
        next_sum, next_count, mask_sum, mask_weight = losses(model, rows)
        w = recipe.mask_weight
        loss = (next_sum + w * mask_sum) / (next_count + w * mask_weight).clamp(min=1)  # a batch may ask for nothing
    loss.backward()
    per_next, per_mask = next_sum / next_count.clamp(min=1), mask_sum / mask_weight.clamp(min=1)
    return loss.detach(), float(per_next.detach()), float(per_mask.detach())
