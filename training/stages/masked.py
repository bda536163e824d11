"""Opening a model that can already fill masks: what midtrain and sft begin with."""

from __future__ import annotations

from pathlib import Path

from model_runtime.models.dream import DreamModel
from training.errors import TrainingError
from training.models import Files, check_sizes, model_folder, read_files, read_model


def open_model(source: Path) -> tuple[DreamModel, Files]:
    """A masked diffusion model and its tokenizer; TrainingError where the mask is missing."""
    model, files = read_model(source), read_files(model_folder(source))
    check_sizes(model, files)
    mask = model.config.mask_token_id
    if mask is None:
        raise TrainingError(f"{source} has no mask_token_id: it is a causal model; run the stage adapt on it first")
    if not 0 <= mask < model.config.vocab_size:
        raise TrainingError(f"{source} names mask_token_id {mask}, beyond its {model.config.vocab_size} rows")
    return model, files
