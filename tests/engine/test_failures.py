"""When a library's failure means that memory ran out."""

from __future__ import annotations

import errno

import pytest

from model_runtime.backends.failures import model_failed, ran_out_of_memory
from model_runtime.protocol import ModelError, OutOfMemory, RequestError

ARENA = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running GatherND node. Status Message: "
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 Failed to allocate memory for requested buffer"
)


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """An error as it is caught."""
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemory("the model ran out of memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("_multiarray.so: failed to map segment from shared object"),
        RuntimeError(ARENA),
        RuntimeError("std::bad_alloc"),
        raised(ImportError("numpy could not be imported"), ImportError("lib.so: cannot allocate memory")),
    ],
    ids=lambda error: str(error)[:20],
)
def test_memory_ran_out(error):
    assert ran_out_of_memory(error)
    assert isinstance(model_failed(error), OutOfMemory)
    assert str(model_failed(error)) == "the model ran out of memory"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Non-zero status code returned while running Reshape node"),
        RequestError("length is fixed:N, not 'out of memory'"),  # words of a user's
        KeyError("bad_alloc"),
        OSError(errno.ENOENT, "No such file"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_memory_did_not_run_out(error):
    assert not ran_out_of_memory(error)
    failed = model_failed(error)
    assert isinstance(failed, ModelError)
    assert not isinstance(failed, OutOfMemory)


def test_a_circle_of_causes_ends():
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    assert not ran_out_of_memory(one)


def test_onnx_runtime_says_that_memory_ran_out(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, save

    size = helper.make_tensor_value_info("size", TensorProto.INT64, [1])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [None])
    graph = helper.make_graph([helper.make_node("ConstantOfShape", ["size"], ["out"])], "g", [size], [out])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "big.onnx")
    session = ort.InferenceSession(tmp_path / "big.onnx", providers=["CPUExecutionProvider"])
    with pytest.raises(Exception) as caught:
        session.run(None, {"size": [2**50]})
    assert ran_out_of_memory(caught.value)
