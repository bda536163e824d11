"""A checkpoint becomes a folder for ONNX Runtime: `convert` needs neither torch nor room for the whole model.

What is written is a model folder like any other: config.json, tokenizer.json, model.onnx, beside it model.onnx.data
with the numbers, and SHA256SUMS. It appears whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_runtime.models.checking import check_weights, told_config
from model_runtime.models.families import FAMILIES, names_of, read_config
from model_runtime.models.layouts import renamed
from model_runtime.models.qwen_files import has_qwen_files
from model_runtime.protocol import ModelError, RequestError

GRAPH, DATA = "model.onnx", "model.onnx.data"
INLINE = 64 << 20  # bytes: up to here the numbers stand in the graph's own file; ONNX allows 2 GB
BESIDE = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("merges.txt", "generation_config.json", "LICENSE", "LICENSE.txt", "MODEL_CARD.md", "README.md", "expert.npz"),
)
NUMBERS = ("F64", "F32", "F16", "BF16")
SPARE = 32 << 20  # bytes that must stay free on the disk

Progress = Callable[[str, int, int], None]  # what is being written, numbers done, numbers in all


def convert(source: Path, out: Path, quantize: str = "int8", progress: Progress | None = None) -> Path:
    """Write the model folder `out` from the checkpoint `source`; ModelError with one sentence if that cannot be.

    `quantize` is int8, int8-rows, int4 or none (float32): see numbers.py.
    """
    facts = check_weights(source)  # what is wrong with the folder comes before what is not installed
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ModelError("models convert needs the package onnx: pip install 'diffill[convert]'") from error
    from model_runtime.models.numbers import BITS
    from model_runtime.models.weights import Weights

    if quantize not in BITS:
        raise RequestError(f"quantize is {', '.join(BITS)}, not {quantize!r}")
    if not (source / "tokenizer.json").is_file() and not has_qwen_files(source):
        raise ModelError(f"{source} has no tokenizer.json, without which the model cannot be run")
    if out.exists():
        raise RequestError(f"{out} exists: give a new folder")
    config, layout = told_config(source, facts)
    weights = Weights(source)
    if any(stored.kind not in NUMBERS for stored in weights.tensors.values()):
        raise ModelError(f"{source} holds weights that are quantized already: convert the checkpoint they came from")
    weights.tensors = {renamed(name, layout): stored for name, stored in weights.tensors.items()}
    total = sum(math.prod(stored.shape) for stored in weights.tensors.values())
    check_room(out, total, BITS[quantize])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        write_graph(config, weights, fresh, quantize, lambda name, done: progress and progress(name, done, total))
        for name in BESIDE:
            if (source / name).is_file():
                shutil.copyfile(source / name, fresh / name)
        keep_family(fresh, source)
        write_sums(fresh)
        fresh.chmod(0o755)
        fresh.rename(out)
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return out


def check_room(out: Path, numbers: int, bits: int) -> None:
    """ModelError where the disk has no room for what will be written (estimated), before anything is."""
    home = next(folder for folder in out.absolute().parents if folder.exists())
    # a scale for 32 numbers, and an embedding in float16 that is at most half of a model
    needed = numbers * (bits + 1) // 8 + (numbers if bits < 32 else 0) + SPARE
    free = shutil.disk_usage(home).free
    if free < needed:
        raise ModelError(f"converting may take {needed / 1e9:.1f} GB of disk, and {home} has {free / 1e9:.1f} GB free")


def cannot_write(out: Path, error: OSError) -> ModelError:
    """What a failed write means."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelError(f"the disk is full: {out} was not written")
    return ModelError(f"{out} cannot be written: {error.strerror or error}")


def write_graph(
    config: dict[str, Any], weights: Any, folder: Path, quantize: str, progress: Callable[[str, int], Any] | None = None
) -> None:
    """Write model.onnx, and model.onnx.data unless the numbers are few."""
    import onnx
    from onnx import helper

    from model_runtime.models.graph import IR, MICROSOFT, OPSET, window_graph
    from model_runtime.models.numbers import Numbers

    numbers = Numbers(weights, folder / DATA, quantize, progress)
    try:
        graph = window_graph(config, numbers)
    finally:
        numbers.close()
    graph.initializer.extend(numbers.initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="diffill")
    if (folder / DATA).stat().st_size <= INLINE:
        onnx.load_external_data_for_model(model, str(folder))
        for tensor in model.graph.initializer:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
        (folder / DATA).unlink()
    (folder / GRAPH).write_bytes(model.SerializeToString())


def keep_family(fresh: Path, source: Path) -> None:
    """Note in config.json what the checkpoint goes by, where its family is known by that alone."""
    config = read_config(source)
    known = [name for name in names_of(source, config) if any(re.search(one.named, name) for one in FAMILIES)]
    if known:
        config["_name_or_path"] = known[0]
    (fresh / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS of all that is there."""
    lines = []
    for path in sorted(folder.iterdir()):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        lines.append(f"{digest.hexdigest()}  {path.name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
