"""What many tests share: a small tokenizer, and tiny random models as folders that the engine can load."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from snippet import SNIPPET

from model_runtime.models.tokenizer import TextTokenizer

# The same examples in every run; how fast a machine is decides nothing.
settings.register_profile("diffill", deadline=None, database=None, derandomize=True, max_examples=60)
settings.load_profile("diffill")

# The models are tiny: where other work keeps the cores busy, threads that wait for each other cost ten times their use.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that runs the tests in the background has them ignore interrupts, and their children with them.
signal.signal(signal.SIGINT, signal.default_int_handler)

TOKENS = 380  # ids of the small tokenizer
VOCABULARY = 388  # rows of the tiny models' heads: eight ids without a token
PAD, BOS, MASK, EXPAND, DELETE = range(5)


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory) -> Path:
    """tokenizer.json of a byte-level BPE of 380 ids, trained on a few lines of code."""
    from training.corpus.tokenizer import train_tokenizer

    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer([SNIPPET] * 4, TOKENS).save(str(path))
    return path


@pytest.fixture(scope="session")
def tokenizer(tokenizer_path) -> TextTokenizer:
    return TextTokenizer(tokenizer_path)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory, tokenizer_path) -> dict[str, SimpleNamespace]:
    """By attention, "full" and "context_blind": a random two-layer model in torch (`model`) and exported (`folder`)."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from model_runtime.models.dream import DreamConfig, DreamModel
    from model_runtime.models.export import export_onnx

    models: dict[str, SimpleNamespace] = {}
    for attention in ("full", "context_blind"):
        torch.manual_seed(3)
        config = DreamConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            rope_theta=10_000.0,
            initializer_range=0.25,
            tie_word_embeddings=True,
            pad_token_id=PAD,
            bos_token_id=BOS,
            mask_token_id=MASK,
            expand_token_id=EXPAND,
            delete_token_id=DELETE,
            tokenizer_size=TOKENS,
            attention=attention,
        )
        model = DreamModel(config).eval()
        folder = tmp_path_factory.mktemp(attention)
        model.save_pretrained(folder)
        if models:  # the same weights and the same graph: what a row sees is data
            shutil.copy(models["full"].folder / "model.onnx", folder)
        else:
            export_onnx(model, folder / "model.onnx")
        written = json.loads((folder / "config.json").read_text())
        written["diffill"] = {"name": f"tiny-{attention}", "start_masks": 4}
        (folder / "config.json").write_text(json.dumps(written))
        (folder / "tokenizer.json").write_bytes(tokenizer_path.read_bytes())
        models[attention] = SimpleNamespace(model=model, folder=folder)
    return models
