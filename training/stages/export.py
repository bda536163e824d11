"""`diffill train export`: a run's model as a folder of its own, without what only training needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from model_runtime.commands.options import Parser
from training.checkpoints import begin_folder, commit_folder
from training.errors import TrainingError
from training.models import check_sizes, model_folder, read_files, read_model, write_model

EXAMPLES = """\
examples:
  diffill train export build/pipeline/sft --out my-model
  diffill train export build/pipeline/midtrain --out my-model --onnx
  diffill fill app.py --model ./my-model
"""


def make_parser() -> Parser:
    """The parser of `diffill train export`."""
    parser = Parser(prog="diffill train export", epilog=EXAMPLES)
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run's folder (its best, else its last checkpoint) or one"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the model's folder; must not exist")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="(default: bfloat16)")
    parser.add_argument("--onnx", action="store_true", help="also ONNX with 8-bit weights, which needs no torch to run")
    parser.add_argument("--name", help="what the model calls itself (default: the folder's name)")
    return parser


def main(argv: list[str]) -> int:
    """Run `diffill train export ARGV…` and return the exit code."""
    args = make_parser().parse_args(argv)
    export(args.run, args.out, getattr(torch, args.dtype), args.onnx, args.name or args.out.name)
    print(args.out)
    return 0


def export(run: Path, out: Path, dtype: torch.dtype, onnx: bool, name: str) -> None:
    """Write the model folder `out`, whole or not at all."""
    if out.exists():
        raise TrainingError(f"{out} exists: give a new folder")
    source = model_folder(run)
    model, files = read_model(source), read_files(source)
    check_sizes(model, files)
    causal = model.config.mask_token_id is None
    if onnx and causal:
        raise TrainingError(f"{run} is a causal model: ONNX export is for models that fill masks")
    fresh = begin_folder(out)
    try:
        write_model(fresh, model, model.state_dict(), files, causal, dtype)
        if not causal:
            config = json.loads((fresh / "config.json").read_text()) | {"diffill": {"name": name}}
            (fresh / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        if (source / "recipe.yaml").is_file():
            shutil.copy(source / "recipe.yaml", fresh)  # how it came about
        if onnx:
            from model_runtime.models.export import export_onnx
            from model_runtime.models.quantize import quantize_weights

            export_onnx(model.to(dtype).float(), fresh / "plain.onnx")  # from rounded weights: both are one model
            quantize_weights(fresh / "plain.onnx", fresh / "model.onnx")
            (fresh / "plain.onnx").unlink()
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise TrainingError(f"{out} cannot be written: {error.strerror or error}") from error
    commit_folder(fresh, out)
