"""Stage adapt: an autoregressive model becomes a masked diffusion model (DiffuLLaMA, arXiv 2410.17891; DiffuCoder).

Any causal checkpoint of the Qwen2 architecture: it keeps its tokenizer, gets a mask, and its attention is opened step
by step. The shift stays: row i - 1 is about token i, as the autoregressive head has learned. With `shape` instead of
`init` the same stage trains from nothing, for comparison.
"""

from __future__ import annotations

from pathlib import Path

import torch

from model_runtime.models.dream import DreamModel
from training.models import Files, adapt_vocabulary, enable_resizing
from training.stages import base
from training.stages.masked import open_model
from training.stages.recipe import StageRecipe


def prepare(recipe: StageRecipe, source: Path | None, begun: bool) -> tuple[DreamModel, Files]:
    """The model with a mask: adapted from a causal one, or as an earlier run of this stage left it (`begun`)."""
    if begun:
        assert source is not None
        return open_model(source)
    model, files = base.prepare(recipe, source)
    torch.manual_seed(recipe.seed)
    adapt_vocabulary(model, files)
    if recipe.resizing.share > 0:
        enable_resizing(model, files)
    return model, files
