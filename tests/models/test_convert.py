"""Checkpoints converted for ONNX Runtime without torch: the same numbers, whole or not at all, and what cannot be."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from safetensors.torch import load_file, save_file  # noqa: E402
from synthetic import checkpoint  # noqa: E402
from windows import SHAPES, expected_window, random_window  # noqa: E402

from model_runtime import cli  # noqa: E402
from model_runtime.backends.onnx import OnnxBackend  # noqa: E402
from model_runtime.models import convert as converting  # noqa: E402
from model_runtime.models.convert import convert  # noqa: E402
from model_runtime.models.families import read_facts  # noqa: E402
from model_runtime.models.loading import open_checkpoint  # noqa: E402
from model_runtime.models.numbers import quantize_blocks  # noqa: E402
from model_runtime.protocol import ModelError, RequestError  # noqa: E402

LAYOUTS = ("DiffuCoder-7B-Base", "DreamOn-v0-7B", "open-dcoder-0.5B", "Stable-DiffCoder-8B-Instruct", "LLaDA-8B-Base")
# Root mean square of the error of log-probabilities, over their spread; random weights are the worst case.
WORST = {"none": 1e-5, "int8": 0.06, "int8-rows": 0.08, "int4": 0.6}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("hub")
    return {name: checkpoint(parent, name) for name in LAYOUTS}


def log_probs(backend, window):
    """What a backend says of the targets, [B, R]; keys and values."""
    candidates, k, v = backend.window(window)
    return candidates.target_log_probs_BR, k, v


@pytest.mark.parametrize("quantize", WORST)
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_graph_computes_what_the_checkpoint_does(folders, tmp_path, name, quantize):
    out = convert(folders[name], tmp_path / "converted", quantize)
    backend = OnnxBackend(out, threads=1)
    named = dataclasses.replace(read_facts(folders[name]), name=backend.facts.name)
    assert backend.facts == named
    model = open_checkpoint(folders[name], dtype=torch.float32).eval()
    errors, spread = [], []
    for batch, width, past, rows, biases in SHAPES:
        window = random_window(backend.facts, batch, width, past, rows, biases, seed=width)
        expected, k, v = expected_window(model, window)
        candidates, got_k, got_v = backend.window(window)
        assert got_k.shape == k.shape
        assert got_v.shape == v.shape
        wanted = np.take_along_axis(expected, candidates.ids_BRA, axis=-1)
        probable = wanted > -20
        errors.append((candidates.log_probs_BRA - wanted)[probable])
        spread.append((wanted - wanted.mean(axis=-1, keepdims=True))[probable])
        if quantize == "none":
            np.testing.assert_allclose(got_k, k, atol=1e-4)
            np.testing.assert_allclose(candidates.log_probs_BRA[probable], wanted[probable], atol=1e-4)
            asked = np.take_along_axis(expected, window.targets_BR[:, :, None], axis=-1)[:, :, 0]
            np.testing.assert_allclose(candidates.target_log_probs_BR, asked, rtol=1e-5, atol=1e-4)
            entropy = -(np.exp(expected) * np.maximum(expected, -1e4)).sum(axis=-1)
            np.testing.assert_allclose(candidates.entropy_BR, entropy, atol=1e-3)
            best = np.sort(np.exp(expected), axis=-1)
            np.testing.assert_allclose(candidates.margin_BR, best[:, :, -1] - best[:, :, -2], atol=1e-4)
    error = np.sqrt(np.mean(np.concatenate(errors) ** 2)) / np.sqrt(np.mean(np.concatenate(spread) ** 2))
    assert error < WORST[quantize]


@pytest.mark.parametrize("quantize", ["int8", "int8-rows", "int4"])
def test_a_row_does_not_depend_on_the_rows_beside_it(folders, tmp_path, quantize):
    backend = OnnxBackend(convert(folders["DiffuCoder-7B-Base"], tmp_path / "m", quantize), threads=1)
    window = random_window(backend.facts, 1, 12, 20, 3, 1, seed=5)
    window.segments_BW = np.arange(12)[None]  # every row sees only itself
    _, k, _ = backend.window(window)
    part = dataclasses.replace(
        window, ids_BW=window.ids_BW[:, 4:6], positions_BW=window.positions_BW[:, 4:6],
        segments_BW=window.segments_BW[:, 4:6], rows_BR=window.rows_BR[:, :1] * 0,
        bias_rows_BR=window.bias_rows_BR[:, :1], targets_BR=None,
    )  # fmt: skip
    np.testing.assert_allclose(backend.window(part)[1], k[:, :, :, 4:6], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("bits", "steps"), [(8, 256), (4, 16)])
def test_blocks_are_within_half_a_step_of_the_numbers(bits, steps):
    matrix = np.random.default_rng(0).normal(size=(5, 70)).astype(np.float32)
    matrix[2, :32] = 0
    packed, scales = quantize_blocks(matrix, bits)
    assert packed.shape == (5, 3, 32 * bits // 8)
    whole = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(5, 3, 32)
    back = ((whole.astype(np.float32) - steps // 2) * scales[:, :, None]).reshape(5, 96)[:, :70]
    scale = np.repeat(np.abs(scales), 32, axis=1)[:, :70]
    assert (np.abs(back - matrix) <= scale * 1.001).all()  # a whole step where the range's upper end is short
    assert (np.abs(back - matrix) <= scale * 0.501).mean() > 0.9


def test_large_numbers_stand_in_a_file_of_their_own(folders, tmp_path, monkeypatch):
    small = convert(folders["LLaDA-8B-Base"], tmp_path / "small")
    assert not (small / "model.onnx.data").exists()
    monkeypatch.setattr(converting, "INLINE", 0)
    large = convert(folders["LLaDA-8B-Base"], tmp_path / "large")
    assert (large / "model.onnx.data").stat().st_size > (large / "model.onnx").stat().st_size
    window = random_window(read_facts(large), 1, 8, 4, 3, 2, seed=1)
    one, other = (OnnxBackend(folder, threads=1).window(window)[0] for folder in (small, large))
    np.testing.assert_array_equal(one.log_probs_BRA, other.log_probs_BRA)


def test_the_sums_are_those_of_the_files(folders, tmp_path):
    out = convert(folders["DiffuCoder-7B-Base"], tmp_path / "m")
    sums = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir() if path.name != "SHA256SUMS"
    }
    assert {"config.json", "vocab.json", "model.onnx"} <= set(sums)


def test_from_the_command_line_and_filled_without_torch(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["models", "convert", str(folders["DiffuCoder-7B-Base"]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == "DiffuCoder-7B-Base-int8"
    assert cli.main(["models", "convert", str(folders["DiffuCoder-7B-Base"])]) == 2
    assert "DiffuCoder-7B-Base-int8 exists" in capsys.readouterr().err
    assert cli.main(["models", "convert", "x", "--to", "gguf"]) == 2
    assert "argument --to: invalid choice: 'gguf' (choose from" in capsys.readouterr().err
    Path("code.py").write_text("def f(x):\n    return <FILL>\n")
    script = """
import sys
from model_runtime import cli
code = cli.main(["fill", "code.py", "--model", "DiffuCoder-7B-Base-int8", "--length", "fixed:4", "--stdout"])
sys.exit(code or 9 * ("torch" in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "DiffuCoder-7B-Base-int8, " in done.stderr
    assert done.stdout.startswith("def f(x):\n    return ")


def test_progress_counts_all_numbers(folders, tmp_path):
    told: list[tuple[str, int, int]] = []
    convert(folders["DiffuCoder-7B-Base"], tmp_path / "m", progress=lambda *one: told.append(one))
    done = [count for _, count, _ in told]
    assert done == sorted(done)
    assert 0.99 < done[-1] / told[-1][2] <= 1  # biases are not counted


# --- what cannot be converted ---


@pytest.fixture
def spoilt(folders, tmp_path):
    """A copy to spoil, and a function that says what is then told; nothing is left behind."""
    folder = shutil.copytree(folders["DiffuCoder-7B-Base"], tmp_path / "checkpoint")

    def told(quantize="int8") -> str:
        with pytest.raises((ModelError, RequestError)) as error:
            convert(folder, tmp_path / "out", quantize)
        assert "\n" not in str(error.value)
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
        return str(error.value)

    return folder, told


def test_an_unknown_family(spoilt):
    folder, told = spoilt
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    assert "names the model type 'gpt2'" in told()


def test_numbers_that_are_none(spoilt):
    folder, told = spoilt
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 4] = float("inf")
    save_file(tensors, folder / "model.safetensors")
    assert "model.layers.1.mlp.down_proj.weight" in told()


def test_half_a_checkpoint(spoilt):
    folder, told = spoilt
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    assert "is cut short" in told()


def test_no_tokenizer(spoilt):
    folder, told = spoilt
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    assert "tokenizer" in told()


def test_an_unknown_precision(spoilt):
    assert "quantize is int8" in spoilt[1]("int3")


def test_a_disk_without_room_is_seen_before_anything_is_written(spoilt, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(converting.shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    assert "GB of disk" in spoilt[1]()


def test_a_disk_that_fills_up_meanwhile(spoilt, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(converting, "write_sums", full)
    assert "the disk is full" in spoilt[1]()


def test_a_folder_that_cannot_be_written(spoilt, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", refused)
    assert "cannot be written: Read-only file system" in spoilt[1]()


def test_onnx_is_not_installed(spoilt, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'diffill[convert]'" in spoilt[1]()
