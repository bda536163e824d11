"""In what numbers the torch backend holds a checkpoint: chosen, loaded, nearly the same, or refused in one sentence."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from synthetic import checkpoint  # noqa: E402
from windows import expected_window, random_window  # noqa: E402

from model_runtime import cli  # noqa: E402
from model_runtime.backends import precision  # noqa: E402
from model_runtime.backends.loading import Loading, as_arguments, loading_of  # noqa: E402
from model_runtime.backends.precision import choose, needed_bytes, pick_device  # noqa: E402
from model_runtime.backends.torch import TorchBackend  # noqa: E402
from model_runtime.daemon.worker import load_engine  # noqa: E402
from model_runtime.engine.engine import Engine  # noqa: E402
from model_runtime.protocol import FillRequest, ModelError, OutOfMemory, RequestError  # noqa: E402

CPU = torch.device("cpu")
# Root mean square of the error of keys over that of the keys, random weights; bf16 keeps 8 bits of each number.
WORST = {"fp32": 1e-5, "bf16": 0.03, "fp16": 0.005, "int8": 0.05, "nf4": 0.3}
needs_bitsandbytes = pytest.mark.skipif(not precision.installed("bitsandbytes"), reason="bitsandbytes is missing")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("hub"), "DiffuCoder-7B-Base", hidden_size=64, intermediate_size=128)


@pytest.fixture(scope="module")
def exact(folder):
    """The window, and keys and values in float32."""
    backend = TorchBackend(folder, loading=Loading(device="cpu"))
    window = random_window(backend.facts, 1, 9, 5, 4, 2, seed=3)
    return window, expected_window(backend.model, window)


def keys(backend, window):
    """What a backend makes of the window: keys [N, B, K, W, D] in float32."""
    past = window.past
    dtype = backend._no_past.dtype
    given = (torch.from_numpy(np.asarray(part)).to(dtype) for part in (past.k_N1KPD, past.v_N1KPD))
    moved = type(past)(*given, past.positions_BP, past.segments_BP)
    window = type(window)(**{**vars(window), "past": moved})
    return backend.window(window)[1].float().numpy()


@needs_bitsandbytes
@pytest.mark.parametrize("quantization", WORST)
def test_each_precision_is_near_float32(folder, exact, quantization):
    window, (_, k, _) = exact
    backend = TorchBackend(folder, loading=Loading(quantization, device="cpu"))
    assert backend.quantization == quantization
    error = np.sqrt(np.mean((keys(backend, window) - k) ** 2) / np.mean(k**2))
    assert error < WORST[quantization]
    assert quantization == "fp32" or error > 1e-6


@needs_bitsandbytes
def test_head_embedding_and_norms_are_kept(folder):
    model = TorchBackend(folder, loading=Loading("nf4", device="cpu")).model
    assert type(model.lm_head) is torch.nn.Linear
    assert model.model.embed_tokens.weight.dtype == model.model.norm.weight.dtype == torch.float32
    assert type(model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"


def test_layers_offloaded_to_disk_give_the_same_numbers(folder, exact, tmp_path, monkeypatch):
    """As where memory holds no more than the first layers."""
    window, (_, k, _) = exact
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    places |= {"model.norm": "cpu", "lm_head": "disk"}
    given = precision.load_options
    monkeypatch.setattr(
        "model_runtime.backends.torch.load_options", lambda *args: given(*args) | {"device_map": places}
    )
    away = tmp_path / "away"
    backend = TorchBackend(folder, loading=Loading("fp32", device="cpu", offload=str(away)))
    assert backend.model.model.layers[1].mlp.up_proj.weight.device.type == "meta"
    np.testing.assert_allclose(keys(backend, window), k, atol=1e-5)


@needs_bitsandbytes
def test_a_checkpoint_that_was_saved_in_nf4(folder, exact, tmp_path):
    window, _ = exact
    saved = tmp_path / "DiffuCoder-7B-nf4"
    backend = TorchBackend(folder, loading=Loading("nf4", device="cpu"))
    backend.model.save_pretrained(saved)
    for name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "added_tokens.json"):
        if (folder / name).is_file():
            (saved / name).write_bytes((folder / name).read_bytes())
    again = TorchBackend(saved, loading=Loading(device="cpu"))
    assert again.quantization == "nf4"
    np.testing.assert_array_equal(keys(again, window), keys(backend, window))
    with pytest.raises(RequestError, match="stored in nf4"):
        TorchBackend(saved, loading=Loading("bf16", device="cpu"))


def test_fixed_shapes_give_the_same_texts(folder, monkeypatch):
    """What is compiled runs on padded windows: without a compiler here, the padding is what can go wrong."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: lambda *args: function(*args))
    text = "def f(x):\n    return x\n"
    request = FillRequest(text=text, holes=[(21, 22)], length="fixed:5")
    plain = Engine.load(folder, backend="torch", loading=Loading("fp32", device="cpu")).fill(request)
    fixed = Engine.load(folder, backend="torch", loading=Loading("fp32", device="cpu", compiled=True)).fill(request)
    assert [hole.text for hole in plain.holes] == [hole.text for hole in fixed.holes]


# --- what is chosen ---


@pytest.mark.parametrize("fits", ["fp32", "bf16"])
def test_auto_takes_what_fits_a_cpu(folder, monkeypatch, fits):
    monkeypatch.setattr(precision, "free_bytes", lambda _: needed_bytes(folder, fits))
    assert choose(folder, Loading(), CPU) == fits


@needs_bitsandbytes
@pytest.mark.parametrize("fits", ["bf16", "int8", "nf4"])
def test_auto_takes_what_fits_a_gpu(folder, monkeypatch, fits):
    monkeypatch.setattr(precision, "free_bytes", lambda _: needed_bytes(folder, fits))
    monkeypatch.setattr(precision, "half", lambda _: "bf16")
    assert choose(folder, Loading(), torch.device("cuda")) == fits


def test_a_quantization_needs_less_the_fewer_bits_it_has(folder):
    sizes = [needed_bytes(folder, one) for one in ("fp32", "bf16", "int8", "nf4")]
    assert sizes == sorted(sizes, reverse=True)


# --- what is refused ---


def test_a_gpu_without_memory(folder, monkeypatch):
    monkeypatch.setattr(precision, "free_bytes", lambda _: 1000)
    with pytest.raises(OutOfMemory, match=r"needs about .* GB in nf4, and cuda has 0.0 GB free"):
        choose(folder, Loading("nf4"), torch.device("cuda"))
    assert choose(folder, Loading("fp32", offload="away"), CPU) == "fp32"


def test_bitsandbytes_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match="nf4 needs the package bitsandbytes: pip install"):
        choose(folder, Loading("nf4"), CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("built", "told"), [(None, "built without CUDA"), ("13.0", "no NVIDIA driver answers")])
def test_the_driver_is_missing(monkeypatch, built, told):
    monkeypatch.setattr(torch.version, "cuda", built)
    with pytest.raises(ModelError, match=told):
        pick_device("cuda")


def test_devices_that_are_none():
    with pytest.raises(RequestError, match="device is cpu, cuda"):
        pick_device("toaster")


def test_a_quantization_that_is_none(folder):
    with pytest.raises(RequestError, match="quantization is auto"):
        choose(folder, Loading("int3"), CPU)


def test_another_quantization_in_the_config(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": {"quant_method": "awq"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="neither nf4 nor int8"):
        precision.stored_quantization(tmp_path)


def test_the_command_line_tells_it_in_one_sentence(folder, tmp_path, capsys, monkeypatch):
    code = tmp_path / "code.py"
    code.write_text("x = <FILL>\n")
    arguments = ["fill", str(code), "--model", str(folder), "--backend", "torch", "--quantization"]
    assert cli.main([*arguments, "int3"]) == 2
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert cli.main([*arguments, "nf4"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "bitsandbytes" in lines[1]


# --- through the daemon's worker ---


def test_options_reach_another_process(folder):
    import argparse

    from model_runtime.backends.loading import add_loading_options

    parser = argparse.ArgumentParser()
    add_loading_options(parser)
    for loading in (Loading("bf16", "cpu", "/tmp/x", True), Loading("nf4")):
        assert loading_of(parser.parse_args(as_arguments(loading))) == loading
    assert loading_of(parser.parse_args(as_arguments(None))) is None
    engine = load_engine(str(folder), loading=Loading("bf16", "cpu"))
    assert engine.backend.quantization == "bf16"
