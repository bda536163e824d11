"""The exported graph and the torch backend against the architecture, and graphs that cannot be run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnxscript")

from windows import SHAPES, expected_window, random_window  # noqa: E402

from model_runtime.backends import interface  # noqa: E402
from model_runtime.backends.interface import BANNED, CANDIDATES, HOLE, Window  # noqa: E402
from model_runtime.backends.loading import Loading  # noqa: E402
from model_runtime.backends.onnx import OnnxBackend  # noqa: E402
from model_runtime.backends.torch import TorchBackend  # noqa: E402
from model_runtime.catalog.catalog import EMBEDDED  # noqa: E402
from model_runtime.models import attention  # noqa: E402
from model_runtime.protocol import ModelError  # noqa: E402


@pytest.fixture(scope="module")
def backends(tiny_models):
    return {
        (attention, kind): make(tiny.folder)
        for attention, tiny in tiny_models.items()
        for kind, make in (
            ("onnx", lambda folder: OnnxBackend(folder, threads=1)),
            ("torch", lambda folder: TorchBackend(folder, loading=Loading(device="cpu"))),
        )
    }


@pytest.mark.parametrize("kind", ["onnx", "torch"])
@pytest.mark.parametrize("attention", ["full", "context_blind"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_backend_computes_the_window_pass(backends, tiny_models, attention, kind, shape):
    backend, model = backends[attention, kind], tiny_models[attention].model
    window = random_window(backend.facts, *shape, seed=sum(shape))
    log_probs, k, v = expected_window(model, window)
    if kind == "torch":
        window.past.k_N1KPD = torch.from_numpy(window.past.k_N1KPD)
        window.past.v_N1KPD = torch.from_numpy(window.past.v_N1KPD)
    candidates, got_k, got_v = backend.window(window)
    np.testing.assert_allclose(np.asarray(got_k), k, atol=1e-4)
    np.testing.assert_allclose(np.asarray(got_v), v, atol=1e-4)
    batch, _, _, rows, _ = shape
    assert candidates.ids_BRA.shape == candidates.log_probs_BRA.shape == (batch, rows, CANDIDATES)
    best = -np.sort(-log_probs, axis=-1)[:, :, :CANDIDATES]
    probable = best > -20  # what is banned has no order
    np.testing.assert_allclose(candidates.log_probs_BRA[probable], best[probable], atol=1e-4)
    # the ids are those with these log-probabilities: equal ones may swap places
    named = np.take_along_axis(log_probs, candidates.ids_BRA, axis=-1)
    np.testing.assert_allclose(named[probable], best[probable], atol=1e-4)
    assert all(len(set(ids)) == CANDIDATES for ids in candidates.ids_BRA.reshape(-1, CANDIDATES).tolist())
    np.testing.assert_allclose(candidates.margin_BR, np.exp(best[:, :, 0]) - np.exp(best[:, :, 1]), atol=1e-4)
    entropy = -(np.exp(log_probs) * np.maximum(log_probs, -1e4)).sum(axis=-1)
    np.testing.assert_allclose(candidates.entropy_BR, entropy, atol=1e-3)
    targets = np.take_along_axis(log_probs, window.targets_BR[:, :, None], axis=-1)[:, :, 0]
    np.testing.assert_allclose(candidates.target_log_probs_BR, targets, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_banned_ids_are_never_candidates_that_count(backends, kind):
    backend = backends["context_blind", kind]
    facts = backend.facts
    bias = np.full((1, facts.vocabulary), BANNED, np.float32)
    bias[0, [10, 20, 30]] = 0.0
    window = Window(
        ids_BW=np.array([[5, 6, 7]]),
        positions_BW=np.array([[0, 1, 2]]),
        segments_BW=np.full((1, 3), HOLE),
        rows_BR=np.array([[0, 2]]),
        bias_CV=bias,
        bias_rows_BR=np.zeros((1, 2), np.int64),
    )
    candidates, _, _ = backend.window(window)
    assert candidates.target_log_probs_BR is None
    for row in range(2):
        assert set(candidates.ids_BRA[0, row, :3].tolist()) == {10, 20, 30}
        assert np.exp(candidates.log_probs_BRA[0, row, :3]).sum() == pytest.approx(1, abs=1e-5)
        assert (candidates.log_probs_BRA[0, row, 3:] < -1e8).all()


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_kept_rows_are_the_wanted_ones(backends, kind):
    backend = backends["full", kind]
    window = random_window(backend.facts, 1, 6, 0, 1, 1, seed=1)
    window.past = None
    _, k, _ = backend.window(window)
    wanted = np.array([True, False, False, True, True, False])
    np.testing.assert_array_equal(np.asarray(backend.keep(k, wanted)), np.asarray(k)[:, :, :, [0, 3, 4]])


def test_both_sides_mean_the_same_segments():
    assert (interface.HOLE, interface.PADDING) == (attention.HOLE, attention.PADDING)


def test_a_folder_without_a_graph_is_refused(tiny_models, tmp_path):
    shutil.copy(tiny_models["full"].folder / "config.json", tmp_path)
    with pytest.raises(ModelError, match=r"has no model\.onnx"):
        OnnxBackend(tmp_path)


@pytest.mark.parametrize("spoil", ["truncated", "garbage", "empty"])
def test_a_spoilt_graph_is_refused(tiny_models, tmp_path, spoil):
    folder = tiny_models["full"].folder
    shutil.copy(folder / "config.json", tmp_path)
    whole = (folder / "model.onnx").read_bytes()
    data = {"truncated": whole[: len(whole) // 2], "garbage": b"\x00\x01garbage" * 100, "empty": b""}[spoil]
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"ONNX model|window graph") as refused:
        OnnxBackend(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes", [{"num_hidden_layers": 3}, {"num_key_value_heads": 4}, {"num_attention_heads": 8}, {"hidden_size": 64}]
)
def test_a_graph_of_another_shape_is_refused(tiny_models, tmp_path, changes):
    folder = tiny_models["full"].folder
    shutil.copy(folder / "model.onnx", tmp_path)
    config = json.loads((folder / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="disagree"):
        OnnxBackend(tmp_path)


@pytest.mark.parametrize("spoil", ["missing", "truncated"])
def test_spoilt_weights_are_refused_by_the_torch_backend(tiny_models, tmp_path, spoil):
    folder = tiny_models["full"].folder
    shutil.copy(folder / "config.json", tmp_path)
    if spoil == "truncated":
        whole = (folder / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"is cut short|has no model\.safetensors") as refused:
        TorchBackend(tmp_path, loading=Loading(device="cpu"))
    assert "\n" not in str(refused.value)


def test_no_graph_tells_where_it_was_made(tiny_models):
    for path in (tiny_models["full"].folder / "model.onnx", EMBEDDED / "model.onnx"):
        assert b"site-packages" not in path.read_bytes()
        assert b"model_runtime/" not in path.read_bytes()


def test_a_checkpoint_is_exported_from_the_command_line(tiny_models, tmp_path):
    folder, out = tiny_models["full"].folder, tmp_path / "model.onnx"
    command = [sys.executable, "-m", "model_runtime.models.export", str(folder), str(out)]
    subprocess.run(command, check=True, capture_output=True)
    assert out.read_bytes() == (folder / "model.onnx").read_bytes()
