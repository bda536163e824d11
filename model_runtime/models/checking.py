"""Whether a folder holds a whole model, told before anything is loaded: no torch, no weights in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_runtime.models.families import ModelFacts, family_named, read_config, read_facts
from model_runtime.models.layouts import expected_tensors, in_dreams_words, renamed
from model_runtime.models.weights import Weights
from model_runtime.protocol import ModelError

PACKED = ("U8", "I8", "F8_E4M3")  # numbers that were quantized: their shapes are not those of the config


def told_config(folder: Path, facts: ModelFacts) -> tuple[dict[str, Any], str]:
    """The config of a folder in Dream's words, its ids as in its `facts`, and the name of its layout."""
    config, layout = read_config(folder), family_named(facts.family).layout
    told = in_dreams_words(folder / "config.json", config, layout)
    told |= {"mask_token_id": facts.mask_id, "bos_token_id": facts.bos_id, "pad_token_id": facts.pad_id}
    told |= {"expand_token_id": facts.expand_id, "delete_token_id": facts.delete_id}
    told |= {"shift": facts.shift, "block_length": facts.block_length, "num_key_value_heads": facts.kv_heads}
    return told, layout


def check_weights(folder: Path) -> ModelFacts:
    """Read the headers of a checkpoint's weights; ModelError for pickles, links out of the folder, files that are cut
    short, tensors that are missing or of another shape than the config's, and for what the config itself has wrong.
    """
    facts = read_facts(folder)
    config, layout = told_config(folder, facts)
    weights = Weights(folder)
    stored = {renamed(name, layout): one for name, one in weights.tensors.items()}
    if layout == "llama" and "lm_head.weight" not in stored and "model.embed_tokens.weight" in stored:
        config["tie_word_embeddings"] = True
    wanted = expected_tensors(config)
    missing = [name for name in wanted if name not in stored]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(
            f"the weights in {folder} lack {missing[0]}{more}: the download is not whole, "
            "or config.json is another model's"
        )
    for name, shape in wanted.items():
        found = stored[name]
        if found.kind not in PACKED and found.shape != shape:
            raise ModelError(
                f"{name} of {folder} is {list(found.shape)}, and config.json asks for {list(shape)}: "
                "they belong to different models"
            )
    return facts
