"""A trained checkpoint becomes the embedded model: `python -m training.release build/embedded-run`.

Writes into the catalog's folder: config.json with the decoding defaults, tokenizer.json, model.safetensors (bfloat16),
model.onnx (8 bits), expert.npz with a gate learned for this network, the loss curve, card.json with the facts of the
run, SHA256SUMS. The prose of MODEL_CARD.md and its measured figures are kept by hand from the commands that it names.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from model_runtime.backends.onnx import OnnxBackend
from model_runtime.catalog.catalog import EMBEDDED
from model_runtime.engine.denoise import Bans
from model_runtime.engine.lengths import LADDER, measure_bias
from model_runtime.models.dream import DreamModel
from model_runtime.models.export import export_onnx
from model_runtime.models.quantize import quantize_weights
from model_runtime.models.tokenizer import TextTokenizer
from training.checkpoints import latest_checkpoint
from training.evaluation.infill import hardware
from training.gate import fit
from training.jsonl import read_jsonl
from training.stages.carrying import Earlier

GATE_LINES = 900  # validation lines on which the expert's gate is learned


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a run's jsonl log."""
    return read_jsonl(path)


def draw_loss_curve(records: list[dict[str, Any]], path: Path) -> None:
    """Held-out nats a token against tokens seen, for context (next token) and for masks of holes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    held_out = [r for r in records if "held_out" in r]
    millions = [r["tokens"] / 1e6 for r in held_out]
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    axes.plot(millions, [r["held_out"]["masked_nats"] for r in held_out], label="masks of holes", color="#0072b2")
    axes.plot(
        millions,
        [r["held_out"]["next_nats"] for r in held_out],
        label="next token of context",
        color="#d55e00",
        ls="--",
    )
    axes.set_xlabel("tokens seen (millions)")
    axes.set_ylabel("held-out nats a token")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    plt.close(figure)


def facts_of_run(run: Path, corpus: Path, state: dict[str, Any], model: DreamModel) -> dict[str, Any]:
    """What the card says about how the model came about."""
    report = json.loads((corpus / "report.json").read_text())
    held_out = [r["held_out"] for r in read_log(run / "log.jsonl") if "held_out" in r]
    earlier = Earlier(**state.get("earlier", {}))
    licences: dict[str, list[str]] = {}
    for source, row in report["sources"].items():
        licences.setdefault(row["licence"], []).append(source)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "recipe": json.loads(state["recipe"]),
        "runs": earlier.runs + 1,  # each from the weights of the one before; these are the sums
        "steps": earlier.steps + state["step"],
        "minutes": round((earlier.seconds + state["spent"]) / 60, 1),
        "tokens_seen": earlier.tokens + state["tokens"],
        "held_out_nats": held_out[-1],
        "hardware": hardware(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "corpus": {key: report[key] for key in ("total", "tests", "validation")},
        "licences": licences,
    }


def release(run: Path, corpus: Path, out: Path, name: str, decoding: dict[str, Any]) -> None:
    """Write the embedded model's files from the checkpoint of a run."""
    checkpoint = latest_checkpoint(run / "checkpoint")
    if checkpoint is None:
        raise FileNotFoundError(f"{run} has no complete checkpoint")
    state = torch.load(checkpoint / "trainer.pt", map_location="cpu", weights_only=True)
    model = DreamModel.from_pretrained(checkpoint, dtype=torch.bfloat16)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    shutil.copy(checkpoint / "tokenizer.json", out / "tokenizer.json")
    config = json.loads((out / "config.json").read_text())
    config["diffill"] = {"name": name, **decoding}
    write_json(out / "config.json", config)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "model.onnx"
        export_onnx(model, plain)  # from the rounded weights, so that both files are one model
        quantize_weights(plain, out / "model.onnx")
    backend, tokenizer = OnnxBackend(out), TextTokenizer(out / "tokenizer.json")
    config["diffill"]["probe_bias"] = measure_bias(backend, tokenizer, Bans(backend.facts, tokenizer), LADDER[-1])
    write_json(out / "config.json", config)
    shutil.copy(corpus / "expert.npz", out / "expert.npz")
    fit(out, corpus, GATE_LINES)
    draw_loss_curve(read_log(run / "log.jsonl"), out / "loss.svg")
    write_json(out / "card.json", facts_of_run(run, corpus, state, model))
    (out / "generation_config.json").unlink(missing_ok=True)
    sums = [
        f"{hashlib.sha256((out / file).read_bytes()).hexdigest()}  {file}\n"
        for file in ("config.json", "expert.npz", "model.onnx", "model.safetensors", "tokenizer.json")
    ]
    (out / "SHA256SUMS").write_text("".join(sums))


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


@dataclasses.dataclass
class Decoding:
    """Defaults of decoding that ship with the model."""

    context_length: int = 512
    threshold: float = 0.9
    start_masks: int = 16
    length: str = "search"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--corpus", type=Path, default=Path("build/embedded"))
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    parser.add_argument("--name", default="embedded")
    for field in dataclasses.fields(Decoding):
        parser.add_argument("--" + field.name.replace("_", "-"), type=type(field.default), default=field.default)
    arguments = parser.parse_args(argv)
    decoding = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Decoding)}
    release(arguments.run, arguments.corpus, arguments.out, arguments.name, decoding)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
