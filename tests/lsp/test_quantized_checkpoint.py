"""A 4-bit checkpoint in DiffuCoder's layout answers an inline completion, through daemon and language server."""

from __future__ import annotations

import json
import shutil

import pytest
from editor import PATIENCE

torch = pytest.importorskip("torch")
pytest.importorskip("bitsandbytes")

from safetensors.torch import load_file, save_file  # noqa: E402
from synthetic import checkpoint  # noqa: E402

from model_runtime.models.tokenizer import TextTokenizer  # noqa: E402

NAME = b" print"  # a token of the tokenizer
SHAPE = {"hidden_size": 64, "intermediate_size": 128}  # whole blocks of 64 numbers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The checkpoint, quantized as bitsandbytes and transformers do it and saved so; what it says is known.

    Attention and MLP add nothing, and the head prefers "0", among tokens that begin with a blank NAME, and at a
    line's end a newline: whatever the hole's length, a name is written.
    """
    from transformers import BitsAndBytesConfig

    from model_runtime.models.loading import open_checkpoint

    plain = checkpoint(tmp_path_factory.mktemp("plain"), "DiffuCoder-7B-Base", **SHAPE)
    tokenizer = TextTokenizer(plain / "tokenizer.json")
    weights = load_file(plain / "model.safetensors")
    for name, tensor in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight", "lm_head.weight")):
            tensor.zero_()
    weights["model.embed_tokens.weight"].fill_(1.0)
    weights["model.norm.weight"].fill_(1.0)
    for data, size in ((b"0", 12.0), (NAME, 10.0), (b"\n", 9.0)):
        weights["lm_head.weight"][tokenizer.token_bytes.index(data)] = size / 64
    save_file(weights, plain / "model.safetensors", metadata={"format": "pt"})
    bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["lm_head"],
    )
    quantized = tmp_path_factory.mktemp("nf4") / "DiffuCoder-7B-Base"
    open_checkpoint(plain, dtype=torch.float32, quantization_config=bits).save_pretrained(quantized)
    assert any(tensor.dtype == torch.uint8 for tensor in load_file(quantized / "model.safetensors").values())
    told = json.loads((quantized / "config.json").read_text())["quantization_config"]
    for path in plain.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, quantized)
    config = json.loads((plain / "config.json").read_text())
    measured = {"probe_bias": [[1, 0.9], [2, 0.9]]}  # else the first fill measures it, which takes a while in 4 bits
    (quantized / "config.json").write_text(json.dumps({**config, "quantization_config": told, "diffill": measured}))
    return quantized


def test_four_bits_complete_a_line(folder, environment, start, uri):
    editor = start(environment=environment, settings={"model": str(folder), "minConfidence": 0, "deadlineMs": 60_000})
    editor.open(uri, "def total(prices):\n    result = 0\n    return \n")
    for _ in range(4):  # torch is long in loading where other work goes on, and suggestions do not wait for ever
        answer = editor.complete(uri, 2, 11)[1].result(2 * PATIENCE)
        if editor.silence() != "loading":
            break
    texts = [item["insertText"] for item in (answer or {}).get("items", [])]
    assert texts, editor.ask("diffill/status")
    assert texts[0].startswith("print0")
    assert editor.ask("diffill/status")["model"] == "DiffuCoder-7B-Base"
