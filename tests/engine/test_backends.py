"""Both backends are one model: the same request gives the same text in ONNX Runtime and in torch."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from snippet import SNIPPET

from model_runtime.backends.interface import Window
from model_runtime.backends.onnx import OnnxBackend
from model_runtime.backends.torch import TorchBackend
from model_runtime.catalog.catalog import EMBEDDED
from model_runtime.engine.engine import Engine
from model_runtime.protocol import FillRequest, RewriteRequest

HOLES = {
    "one": [(SNIPPET.index("width * height"), SNIPPET.index("\n    if"))],
    "inside tokens": [(SNIPPET.index("nt_area"), SNIPPET.index("nt_area") + 4)],
    "several": [(14, 17), (40, 40), (120, 133)],
}
# Of the largest value. In 8 bits a rounding of the rotary embedding can tip an activation to the next of its 256 steps.
DRIFT = {"onnx": 0.02, "torch": 1e-4}
OPTIONS = [
    {"length": "fixed:6"},
    {"length": "fixed:6", "cache": "off"},
    {"length": "fixed:9", "sampler": "entropy", "steps": 3},
    {"length": "expand", "max_tokens": 12},
    {"length": "probe", "max_tokens": 8},
]


@pytest.fixture(scope="session")
def embedded_float(tmp_path_factory):
    """The embedded model exported in float32: what ships is in 8 bits."""
    import torch

    from model_runtime.models.dream import DreamModel
    from model_runtime.models.export import export_onnx

    folder = tmp_path_factory.mktemp("embedded")
    for name in ("config.json", "tokenizer.json", "model.safetensors", "expert.npz"):
        shutil.copy(EMBEDDED / name, folder / name)
    export_onnx(DreamModel.from_pretrained(EMBEDDED, dtype=torch.float32), folder / "model.onnx")
    return folder


def both(folder):
    return Engine.load(folder, backend="onnx"), Engine.load(folder, backend="torch")


@pytest.fixture(scope="module", params=["embedded", "context_blind", "full"])
def engines(request, tiny_models, embedded_float):
    return both(embedded_float if request.param == "embedded" else tiny_models[request.param].folder)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("holes", HOLES.values(), ids=HOLES)
def test_the_same_text_from_both(engines, holes, options):
    onnx, torch = (engine.fill(FillRequest(text=SNIPPET, holes=holes, **options)) for engine in engines)
    assert [hole.text for hole in onnx.holes] == [hole.text for hole in torch.holes]
    assert (onnx.end, onnx.steps) == (torch.end, torch.steps)
    sure = [[hole.confidence for hole in result.holes] for result in (onnx, torch)]
    assert sure[0] == pytest.approx(sure[1], abs=1e-3)


def test_the_same_rewrite_from_both(engines):
    request = RewriteRequest(text=SNIPPET, range=(10, 90), strength=0.3, seed=4)
    onnx, torch = (engine.rewrite(request) for engine in engines)
    assert [(h.start, h.end, h.text) for h in onnx.holes] == [(h.start, h.end, h.text) for h in torch.holes]


@pytest.mark.parametrize("load", [OnnxBackend, TorchBackend])
def test_text_that_moves_keeps_its_keys_and_values(load):
    """The embedded model's suffix, one token further on and behind a longer prefix: what drifts is rounding."""
    backend = load(EMBEDDED)
    ids = np.array([Engine.load().tokenizer.encode(SNIPPET)])
    count = ids.shape[1]

    def encode(before: int) -> list[np.ndarray]:
        prefix = np.full((1, before), backend.facts.bos_id)
        window = Window(
            ids_BW=np.concatenate([prefix, ids], axis=1),
            positions_BW=np.arange(before + count)[None],
            segments_BW=np.array([[0] * before + [1] * count]),
            rows_BR=np.zeros((1, 1), np.int64),
            bias_CV=np.zeros((1, backend.facts.vocabulary), np.float32),
            bias_rows_BR=np.zeros((1, 1), np.int64),
        )
        _, k, v = backend.window(window)
        suffix = np.arange(before + count) >= before
        return [np.asarray(backend.keep(cached, suffix)) for cached in (k, v)]

    for near, far in zip(encode(40), encode(41), strict=True):
        assert np.abs(near - far).max() <= DRIFT[backend.name] * np.abs(near).max()
