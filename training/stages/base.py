"""Stage base: a small autoregressive model from nothing, so that the pipeline has an offline start."""

from __future__ import annotations

from pathlib import Path

import torch

from model_runtime.models.dream import DreamModel
from training.errors import TrainingError
from training.models import Files, check_sizes, model_folder, new_model, read_files, read_model
from training.stages.recipe import StageRecipe


def prepare(recipe: StageRecipe, source: Path | None) -> tuple[DreamModel, Files]:
    """The causal model to train: that in `source`, or a new one of the recipe's shape."""
    if source is not None:
        model, files = read_model(source), read_files(model_folder(source))
        if model.config.mask_token_id is not None:
            raise TrainingError(f"{source} is a masked diffusion model; base trains causal ones")
    else:
        assert recipe.shape is not None
        assert recipe.tokenizer is not None
        torch.manual_seed(recipe.seed)
        files = read_files(recipe.tokenizer)
        model = new_model(recipe.shape, files)
    check_sizes(model, files)
    return model, files
