"""Stage midtrain: the adapted model on annealing data, several epochs, with full attention (DiffuCoder, stage 2)."""

from __future__ import annotations

from pathlib import Path

from model_runtime.models.dream import DreamModel
from training.models import Files, enable_resizing
from training.stages.masked import open_model
from training.stages.recipe import StageRecipe


def prepare(recipe: StageRecipe, source: Path) -> tuple[DreamModel, Files]:
    """The masked model in `source`; it learns to expand and delete if the recipe teaches that."""
    model, files = open_model(source)
    if recipe.resizing.share > 0:
        enable_resizing(model, files)
    return model, files
