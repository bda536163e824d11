"""A masked model with random weights, in a folder of its own: what evaluation is tried on."""

from __future__ import annotations

from pathlib import Path

import torch

from training.corpus.tokenizer import train_tokenizer
from training.models import Files, adapt_vocabulary, new_model, write_model
from training.stages.recipe import Shape

OWN = Path(__file__).parents[3] / "examples/evaluation"


def make_model(folder: Path) -> Path:
    """The folder of a chat model that has seen nothing."""
    texts = [(OWN / "humaneval.jsonl").read_text(), (OWN / "mbpp.jsonl").read_text()] * 3
    torch.manual_seed(0)
    files = Files(train_tokenizer(texts, 340), {})
    made = new_model(Shape(32, 32, 1, 2, 2, 1024), files)
    adapt_vocabulary(made, files)
    folder.mkdir()
    write_model(folder, made, made.state_dict(), files, False, torch.float32)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder
