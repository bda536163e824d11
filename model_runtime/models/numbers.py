"""Where the numbers of an ONNX graph are written: matrices in 8 or 4 bits or float32, in a file beside the graph.

- int8, int4: blocks of 32 along the input, each with its own scale; activations likewise, inside the kernel.
- int8-rows: a scale for each output and one for each row of activations (W8A8 as in SmoothQuant, arXiv 2211.10438,
  without its smoothing), for processors that multiply bytes (VNNI). Twice as fast, and less exact.

In all of them a row does not depend on which rows are computed beside it (quantize.py). Each matrix is read, quantized
and written before the next one is looked at, so the largest tensor of a checkpoint decides how much memory a conversion
takes. The embedding, of which a step reads a few rows, is kept in float16 (exact for bfloat16 weights of ordinary
size); norms and biases in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from model_runtime.models.graph import FLOAT, MICROSOFT, Graph
from model_runtime.models.weights import Weights

BLOCK = 32
INT8_COMPUTE = 4  # the kernel's accuracy level that multiplies in int8
BITS = {"int8": 8, "int8-rows": 8, "int4": 4, "none": 32}
PAGE = 1 << 16  # bytes: where tensors begin in the file, so that they can be mapped into memory
SMALL = 1 << 12  # bytes: what is smaller stands in the graph itself
ROWS = 4096  # of a matrix, quantized in one go
HALF_MAX = float(np.finfo(np.float16).max)
NUMPY_TYPES = {
    np.dtype(np.float32): FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int8): TensorProto.INT8,
}


class Numbers:
    """The initializers of a graph: `graph.Store` over a checkpoint's tensors and one file for what is large."""

    def __init__(self, weights: Weights, path: Path, kind: str, progress: Callable[[str, int], None] | None = None):
        self.weights, self.kind, self.bits = weights, kind, BITS[kind]
        self.initializers: list[onnx.TensorProto] = []
        self.done = 0  # numbers of the checkpoint that have been written
        self._path, self._file, self._progress = path, path.open("wb"), progress
        self._known: dict[str, str] = {}
        self._rows: dict[str, tuple[str, str]] = {}  # activations in 8 bits, and the scale of each row

    def close(self) -> None:
        """Finish the file; it may be empty."""
        self._file.close()

    def small(self, name: str, value: np.ndarray) -> None:
        """Add an initializer that belongs to the graph itself."""
        self.initializers.append(numpy_helper.from_array(value, name))

    def vector(self, name: str, width: int) -> str:
        """An initializer of one tensor of the checkpoint, in float32."""
        if name not in self._known:
            self._known[name] = self._add(name, self.weights.read(name, (width,)))
            self._tell(name, width)
        return self._known[name]

    def table(self, graph: Graph, name: str, ids: str, rows: int, width: int) -> str:
        """Nodes that look up rows of an embedding: float32 [..., width]."""
        values = self.weights.read(name, (rows, width))
        exact = np.float32 if self.bits == 32 or np.abs(values).max() > HALF_MAX else np.float16
        found = graph.op("Gather", self._add(f"{name}.table", values.astype(exact)), ids, axis=0)
        self._tell(name, rows * width)
        return found if exact is np.float32 else graph.op("Cast", found, to=FLOAT)

    def linear(self, graph: Graph, x: str, names: list[tuple[str, int]], width: int, biases: list[str]) -> str:
        """Nodes that multiply by matrices [rows, width] of the checkpoint, stacked; `biases` likewise, or none."""
        rows = sum(count for _, count in names)
        bias = ""
        if biases:
            parts = [self.weights.read(one, (count,)) for one, (_, count) in zip(biases, names, strict=True)]
            bias = self._add(biases[0] + ".stacked", np.concatenate(parts))
        if self.bits == 32:
            whole = np.concatenate([self.weights.read(name, (count, width)) for name, count in names])
            y = graph.op("MatMul", x, self._add(f"{names[0][0]}.stacked", np.ascontiguousarray(whole.T)))
            self._tell(names[0][0], rows * width)
            return graph.op("Add", y, bias) if bias else y
        if self.kind == "int8-rows":
            return self._linear_rows(graph, x, names, width, bias)
        blocks = -(-width // BLOCK)
        packed = np.empty((rows, blocks, BLOCK * self.bits // 8), np.uint8)
        scales = np.empty((rows, blocks), np.float32)
        start = 0
        for name, count in names:
            matrix = self.weights.read(name, (count, width))
            for at in range(0, count, ROWS):
                part = matrix[at : at + ROWS]
                packed[start : start + len(part)], scales[start : start + len(part)] = quantize_blocks(part, self.bits)
                start += len(part)
            self._tell(name, count * width)
        label = names[0][0]
        inputs = [x, self._add(f"{label}.blocks", packed), self._add(f"{label}.scales", scales)]
        inputs += ["", "", bias] if bias else []
        return graph.op(
            "MatMulNBits",
            *inputs,
            domain=MICROSOFT,
            K=width,
            N=rows,
            bits=self.bits,
            block_size=BLOCK,
            accuracy_level=INT8_COMPUTE,
        )

    def _linear_rows(self, graph: Graph, x: str, names: list[tuple[str, int]], width: int, bias: str) -> str:
        """Bytes times bytes: each row of activations has its scale, and so has each output."""
        rows = sum(count for _, count in names)
        packed, scales = np.empty((width, rows), np.int8), np.empty(rows, np.float32)
        start = 0
        for name, count in names:
            matrix = self.weights.read(name, (count, width))
            for at in range(0, count, ROWS):
                part = matrix[at : at + ROWS]
                scale = np.maximum(np.abs(part).max(axis=1), np.finfo(np.float32).tiny) / 127
                packed[:, start : start + len(part)] = np.rint(part / scale[:, None]).T
                scales[start : start + len(part)] = scale
                start += len(part)
            self._tell(name, count * width)
        middle = graph.constant(128, np.uint8)
        if x not in self._rows:  # several matrices may take the same rows
            above, below = (graph.op(kind, x, graph.constant([-1]), keepdims=1) for kind in ("ReduceMax", "ReduceMin"))
            highest = graph.op("Max", above, graph.op("Neg", below), graph.constant(1e-28, np.float32))
            scale_x = graph.op("Mul", highest, graph.constant(1 / 127, np.float32))
            steps = graph.op("Mul", x, graph.op("Div", graph.constant(127, np.float32), highest))
            self._rows[x] = graph.op("QuantizeLinear", steps, graph.constant(1.0, np.float32), middle), scale_x
        bytes_x, scale_x = self._rows[x]
        label = names[0][0]
        y = graph.op(
            "MatMulIntegerToFloat",
            bytes_x,
            self._add(f"{label}.bytes", packed),
            graph.constant(1.0, np.float32),
            self._add(f"{label}.scales", scales),
            middle,
            domain=MICROSOFT,
        )
        y = graph.op("Mul", y, scale_x)
        return graph.op("Add", y, bias) if bias else y

    def _add(self, name: str, value: np.ndarray) -> str:
        if value.nbytes < SMALL:
            self.small(name, value)
            return name
        start = -(-self._file.tell() // PAGE) * PAGE
        self._file.seek(start)
        self._file.write(value.tobytes() if value.nbytes < 1 << 24 else value.data)
        tensor = TensorProto(name=name, data_type=NUMPY_TYPES[value.dtype], dims=value.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, told in (("location", self._path.name), ("offset", start), ("length", value.nbytes)):
            tensor.external_data.add(key=key, value=str(told))
        self.initializers.append(tensor)
        return name

    def _tell(self, name: str, count: int) -> None:
        self.done += count
        if self._progress is not None:
            self._progress(name, self.done)


def quantize_blocks(matrix_NK: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of BLOCK numbers as unsigned integers around 2 ** (bits - 1), and their scales [N, blocks].

    The number of largest magnitude in a block is met exactly, by the lower end of the range (as llama.cpp's q4_0).
    """
    rows, width = matrix_NK.shape
    blocks = -(-width // BLOCK)
    padded = np.zeros((rows, blocks * BLOCK), np.float32)
    padded[:, :width] = matrix_NK
    x = padded.reshape(rows, blocks, BLOCK)
    middle = 1 << (bits - 1)
    low, high = x.min(axis=2), x.max(axis=2)
    largest = np.where(-low > high, low, high)  # with its sign
    scales = (largest / -middle).astype(np.float32)
    with np.errstate(divide="ignore"):
        inverse = np.where(scales == 0, 0, 1 / scales).astype(np.float32)
    whole = np.rint(x * inverse[:, :, None]) + middle
    whole = np.clip(whole, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:  # two to a byte, the lower half first
        whole = whole[:, :, 0::2] | (whole[:, :, 1::2] << 4)
    return whole, scales
