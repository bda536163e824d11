"""Weights of an ONNX graph in 8 bits: blocks of 32 along the input, each with its own scale.

Activations are quantized row by row inside the kernel, so a row's result does not depend on which other rows are
computed with it: a cached step and an uncached one agree, which the usual dynamic quantization (one scale for a whole
activation tensor) would break.
"""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

INT8_COMPUTE = 4  # the kernel's accuracy level that multiplies in int8


def quantize_weights(source: Path, target: Path, block_size: int = 32) -> None:
    """Write `source` with every constant matrix in 8 bits to `target`."""
    logging.disable(logging.WARNING)  # the library reports every node that it leaves alone
    quantizer = MatMulNBitsQuantizer(
        onnx.load(str(source)), bits=8, block_size=block_size, is_symmetric=True, accuracy_level=INT8_COMPUTE
    )
    quantizer.process()
    logging.disable(logging.NOTSET)
    onnx.save(quantizer.model.model, str(target))
