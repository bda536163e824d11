"""A corpus, a causal model and recipes so small that a training run takes a second or two."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tokenizers import Tokenizer

from training.corpus.clean import Document
from training.corpus.pack import encode, write_pack
from training.corpus.sources import SourceFile
from training.corpus.tokenizer import train_tokenizer

VOCABULARY = 340
NAMES = ("total", "count", "items", "value", "result", "left", "right", "index")


def module(seed: int) -> str:
    """A documented module of three small functions."""
    choose = random.Random(seed)
    parts = []
    for number in range(3):
        a, b, c = choose.sample(NAMES, 3)
        parts.append(
            f"def {a}_{number}({b}, {c}):\n"
            f'    """Return the {a} of {b} and {c}."""\n'
            f"    if {c} is None:\n        return {b}\n"
            f"    {a} = {b} + {c} * {choose.randrange(9)}\n    return {a}\n\n\n"
        )
    return "".join(parts)


def make_pack(folder: Path, documents: int = 60, seed: int = 0, tokenizer: Tokenizer | None = None) -> Path:
    """A pack of generated modules, a tenth of them for validation."""
    texts = [module(seed * 1000 + n) for n in range(documents)]
    tokenizer = tokenizer or train_tokenizer(texts, VOCABULARY)
    made = [
        Document(SourceFile("made", f"made/m{n}.py", "code", "MIT", Path("m.py")), text) for n, text in enumerate(texts)
    ]
    write_pack(folder, made, documents - documents // 10, tokenizer, list(encode(made, tokenizer)), {})
    return folder


def values(stage: str, pack: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of `stage` as YAML holds it; `changes` by dotted key with __ for dots."""
    recipe: dict[str, Any] = {
        "stage": stage,
        "seed": 1,
        "data": {"length": 48, "packs": {"made": str(pack)}, "workers": 0},
        "optimizer": {"learning_rate": 0.003},
        "schedule": {"steps": 6, "warmup": 2},
        "batch": {"rows": 4, "micro": 2},
        "precision": "float32",
        "scoring": {"every": 3, "rows": 4, "ratios": [0.5], "holes": 2},
        "checkpoints": {"every": 2, "keep": 2, "dtype": "float32"},
        "logging": {"every": 1},
    }
    if stage == "sft":
        recipe["data"] = {"length": 192, "functions": str(pack), "workers": 0}
    return changed(recipe, changes)


SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def changed(recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A recipe with other values, by dotted key with __ for dots."""
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = recipe
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return recipe


def run(
    stage: str, pack: Path, out: Path, on_step: Callable[[dict[str, Any]], None] | None = None, **changes: Any
) -> int:
    """Run a stage on the processor; its exit code."""
    from training.recipe import build
    from training.stages.recipe import StageRecipe
    from training.stages.stage import run_stage

    return run_stage(build(StageRecipe, values(stage, pack, **changes)), out, "cpu", on_step=on_step)


def write_recipe(path: Path, recipe: dict[str, Any]) -> Path:
    """The recipe as a YAML file."""
    path.write_text(yaml.safe_dump(recipe))
    return path
