"""A model, tasks and recipes so small that a run of grpo takes a second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from small import SHAPE, changed, module

from training.corpus.small_tasks import make_tasks
from training.corpus.tasks import write_tasks
from training.corpus.tokenizer import train_tokenizer
from training.grpo.recipe import GrpoRecipe
from training.models import Files, adapt_vocabulary, new_model, write_model
from training.recipe import build
from training.rewards.sandbox import why_not
from training.stages.recipe import Shape

UNSAFE = why_not() is not None  # without a sandbox here, the tests' own candidates run as they are


def make_model(folder: Path, seed: int = 0) -> Path:
    """A masked diffusion model with random weights, and its tokenizer."""
    texts = [task.prefix + task.body for task in make_tasks()[:60]] + [module(n) for n in range(10)]
    tokenizer = train_tokenizer(texts, 340)
    torch.manual_seed(seed)
    files = Files(tokenizer, {})
    model = new_model(Shape(**SHAPE), files)
    adapt_vocabulary(model, files)
    folder.mkdir(parents=True)
    write_model(folder, model, model.state_dict(), files, False, torch.float32)
    return folder


def make_task_file(path: Path, train: int = 12, held_out: int = 4) -> Path:
    """Some small tasks."""
    made = make_tasks()
    kept = [[task for task in made if task.split == split] for split in ("train", "held_out")]
    write_tasks(path, kept[0][:train] + kept[1][:held_out])
    return path


def values(model: Path, tasks: Path | None, **changes: Any) -> dict[str, Any]:
    """A recipe as YAML holds it; `changes` by dotted key with __ for dots."""
    recipe: dict[str, Any] = {
        "stage": "grpo",
        "seed": 1,
        "init": str(model),
        "tasks": {"path": str(tasks) if tasks else None, "context_tokens": 48, "hole_tokens": 1},
        "rollouts": {"group": 4, "steps": 0, "temperature": 1.0, "micro": 4},
        "objective": {"iterations": 2},
        "reference": {"sync": 3, "mix": 0.5},
        "optimizer": {"learning_rate": 0.003},
        "schedule": {"steps": 8, "warmup": 2},
        "batch": {"rows": 8, "micro": 4},
        "precision": "float32",
        "rewards": {"workers": 2},
        "measure": {"tasks": 2, "samples": 1},
        "checkpoints": {"every": 2, "keep": 2, "dtype": "float32"},
        "logging": {"every": 1},
    }
    return changed(recipe, changes)


def recipe(model: Path, tasks: Path | None, **changes: Any) -> GrpoRecipe:
    """That recipe, read."""
    return build(GrpoRecipe, values(model, tasks, **changes))
