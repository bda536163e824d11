"""A checkpoint in the layout of DiffuCoder Instruct that answers any instruction with a text set in its weights."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file
from synthetic import checkpoint

from model_runtime.models.tokenizer import TextTokenizer

NAME = "DiffuCoder-7B-Instruct"
WIDTH = 512  # one coordinate a token
SURE, MOSTLY = 24.0, 0.98  # the logit of what follows a token; the share of it that a second choice gets


def instructed(parent: Path, answer: str, other: str = "") -> Path:
    """Make one in a new folder of `parent`; it writes `answer`, and at other seeds than 0 `other` as well.

    Each token says which one follows: attention and MLP add nothing, an embedding is a coordinate of its own, and the
    head reads from it what comes next. So no token may occur twice in an answer, nor the two begin with the same one.
    """
    folder = checkpoint(parent, NAME, hidden_size=WIDTH, intermediate_size=8, num_hidden_layers=1)
    tokenizer = TextTokenizer(folder / "tokenizer.json")
    weights = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight", "lm_head.weight", "embed_tokens.weight")):
            tensor.zero_()
    weights["model.norm.weight"].fill_(1.0)
    embedding, head = weights["model.embed_tokens.weight"], weights["lm_head.weight"]
    assert len(embedding) <= WIDTH
    embedding.fill_diagonal_(1.0)
    embedding[tokenizer.id_of("<|mask|>")] = 0.0  # nothing is sure behind what is not written yet
    size = WIDTH**0.5  # of a coordinate, once it is normalised
    start = tokenizer.encode("```python\n")[-1]  # what every answer goes on from
    end = tokenizer.id_of("<|im_end|>")
    head[end, end] = SURE / size
    for text, share in ((answer, 1.0), (other, MOSTLY)):
        ids = tokenizer.encode(text)
        assert len(set(ids)) == len(ids), f"a token occurs twice in {text!r}"
        for n, (token, following) in enumerate(zip([start, *ids], [*ids, end], strict=True) if ids else []):
            assert n == 0 or not head[:, token].any(), f"the two answers share tokens: {text!r}"
            head[following, token] = SURE / size * (share if n == 0 else 1.0)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
