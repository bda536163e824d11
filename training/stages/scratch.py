"""Train an infilling model from scratch within a time budget: `python -m training.stages.scratch --minutes 90`.

The same command on a CPU or a GPU. A run that was stopped, by a signal or a power cut, goes on from its last
checkpoint when the command is given again; time spent while paused (SIGSTOP) does not count. `--from FOLDER` starts
a run from the weights of a finished one, with fresh optimizers; what that one cost is added up in the card.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import signal
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from tokenizers import Tokenizer
from torch import Tensor

from model_runtime.models.dream import DreamConfig, DreamModel
from training.checkpoints import append_json, latest_checkpoint, save_checkpoint
from training.corpus.pack import load_pack
from training.data import InfillBatches, batches
from training.objectives.infill import IGNORE, PAD, InfillShape, Rows, TokenIds
from training.objectives.muon import Muon
from training.stages.shapes import TRIED_SECONDS, Trial, choose, speed

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0}  # dense bfloat16, as their maker states them


@dataclass
class Recipe:
    """A run's settings, as a recipe file writes them."""

    model: dict[str, Any]
    rows: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 8
    learning_rate: float = 0.004
    mask_weight: float = 3.0  # of a masked token against a next token
    weight_decay: float = 0.02
    warmup: float = 0.02
    decay: float = 0.45
    clip: float = 1.0
    seed: int = 0
    shapes: list[dict[str, Any]] = field(default_factory=list)  # of the model, tried before a new run (`shapes.py`)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; an unknown key is a ValueError."""
    values = yaml.safe_load(path.read_text())
    known = {f.name for f in dataclasses.fields(Recipe)}
    for key in values:
        if key not in known:
            raise ValueError(f"{path}: unknown key {key!r}; known are {', '.join(sorted(known))}")
    return Recipe(**values)


def token_ids(tokenizer: Tokenizer) -> TokenIds:
    """The special ids of a tokenizer that the corpus build made."""

    def of(name: str) -> int:
        found = tokenizer.token_to_id(name)
        if found is None:
            raise ValueError(f"the tokenizer has no token {name}")
        return found

    newline = tokenizer.encode("\n", add_special_tokens=False).ids
    if len(newline) != 1:
        raise ValueError("the tokenizer has no token for a newline")
    delete = of("<|endoftext|>")
    return TokenIds(of("<|pad|>"), of("<|bos|>"), of("<|mask|>"), of("<|expand|>"), delete, newline[0])


@dataclass
class Earlier:
    """What the runs cost whose weights a run goes on from."""

    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0
    runs: int = 0


def earlier_of(folder: Path) -> Earlier:
    """Read from a released model's card.json or a run's checkpoint; nothing known counts as nothing."""
    if (folder / "trainer.pt").is_file():
        state = torch.load(folder / "trainer.pt", map_location="cpu", weights_only=True)
        before = Earlier(**state.get("earlier", {}))
        steps, seconds, tokens = state["step"], state["spent"], state["tokens"]
        return Earlier(before.steps + steps, before.seconds + seconds, before.tokens + tokens, before.runs + 1)
    if (folder / "card.json").is_file():
        card = json.loads((folder / "card.json").read_text())
        return Earlier(card["steps"], card["minutes"] * 60, card["tokens_seen"], card.get("runs", 1))
    return Earlier(runs=1)


def carry_on(model: DreamModel, folder: Path, tokenizer: Tokenizer) -> None:
    """Load the weights of a model folder; another vocabulary or shape is a ValueError."""
    old = folder / "tokenizer.json"
    if old.is_file() and Tokenizer.from_file(str(old)).get_vocab() != tokenizer.get_vocab():
        raise ValueError(f"{folder} has another vocabulary than the corpus: build the corpus with --tokenizer {old}")
    weights = DreamModel.from_pretrained(folder, dtype=torch.float32).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in weights.items()}:
        raise ValueError(f"{folder} has another shape than the recipe")
    model.load_state_dict(weights)


def losses(model: DreamModel, rows: Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Summed next-token loss and its count, summed weighted masked loss and its weight (nats)."""
    x_BTE, _, _ = model.hidden(rows.ids, rows.positions, rows.visible())
    x_RE = x_BTE.flatten(0, 1)
    next_R = rows.next_labels.flatten() != IGNORE
    mask_R = rows.mask_labels.flatten() != IGNORE
    wanted = next_R | mask_R  # a row carries one target or the other
    target = torch.where(mask_R, rows.mask_labels.flatten(), rows.next_labels.flatten())[wanted]
    nats = F.cross_entropy(model.lm_head(x_RE[wanted]).float(), target, reduction="none")
    masked = mask_R[wanted]
    weight = rows.weights.flatten()[wanted] * masked
    return (nats * ~masked).sum(), (~masked).sum(), (nats * weight).sum(), weight.sum()


def rate(progress: float, recipe: Recipe) -> float:
    """Share of the learning rate at `progress` in [0, 1] of the budget: warm-up, plateau, linear to zero."""
    if progress < recipe.warmup:
        return max(progress / recipe.warmup, 0.02)
    return min(1.0, max(0.0, (1 - progress) / recipe.decay))


def make_optimizers(model: DreamModel, recipe: Recipe, half: bool = False) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, in bfloat16 if `half`; AdamW for embeddings, norms and biases."""
    matrices = [p for p in model.model.layers.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if not any(p is m for m in matrices)]
    return [
        Muon(matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, half=half),
        torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.97), weight_decay=0.0, fused=True),
    ]


def pick_precision(model: DreamModel, rows: Rows, device: str) -> bool:
    """Whether bfloat16 autocast is the faster one here (half the CPUs have no native support)."""
    if device == "cuda":
        return True
    seconds = {False: math.inf, True: math.inf}
    for half in (False, True) * 3:
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            parts = losses(model, rows)
        (parts[0] + parts[2]).backward()
        model.zero_grad()
        seconds[half] = min(seconds[half], time.perf_counter() - start)  # the best: other work may disturb some
    return seconds[True] < seconds[False]


@torch.no_grad()
def evaluate(model: DreamModel, held_out: list[Rows], device: str, half: bool) -> dict[str, float]:
    """Held-out nats a token: next-token on context, masked tokens of holes."""
    model.eval()
    sums = [0.0] * 4
    for rows in held_out:
        with torch.autocast(device, torch.bfloat16, enabled=half):
            sums = [a + float(b) for a, b in zip(sums, losses(model, rows), strict=True)]
    model.train()
    return {"next_nats": sums[0] / max(sums[1], 1), "masked_nats": sums[2] / max(sums[3], 1)}


def make_model(shape: dict[str, Any], tokenizer: Tokenizer, device: str) -> DreamModel:
    """A fresh model for a tokenizer of the corpus build, ready to train."""
    ids, vocabulary = token_ids(tokenizer), tokenizer.get_vocab_size()
    special = {
        "pad_token_id": ids.pad,
        "bos_token_id": ids.bos,
        "mask_token_id": ids.mask,
        "expand_token_id": ids.expand,
        "delete_token_id": ids.delete,
        "eos_token_id": ids.delete,
    }
    model = DreamModel(DreamConfig(vocab_size=vocabulary, tokenizer_size=vocabulary, **special, **shape))
    return model.to(device).train()


def backward(model: DreamModel, rows: Rows, recipe: Recipe, device: str, half: bool) -> tuple[Tensor, float, float]:
    """Gradients of the loss of a batch: the loss, and its nats of a next and of a masked token."""
    with torch.autocast(device, torch.bfloat16, enabled=half):
        next_sum, next_count, mask_sum, mask_weight = losses(model, rows)
        w = recipe.mask_weight
        loss = (next_sum + w * mask_sum) / (next_count + w * mask_weight)
    loss.backward()
    return loss.detach(), float(next_sum.detach() / next_count), float(mask_sum.detach() / mask_weight)


def pick_shape(recipe: Recipe, tokenizer: Tokenizer, dataset: InfillBatches, device: str, seconds: float) -> Recipe:
    """The recipe with the shape that trains best in `seconds`, each tried for a few of them."""
    rows = [dataset[n].to(device) for n in range(4)]
    trials = []
    for shape in recipe.shapes:
        model = make_model({**recipe.model, **shape}, tokenizer, device)
        optimizers, taken = make_optimizers(model, recipe), 0

        def step(model=model, optimizers=optimizers) -> int:  # type: ignore[no-untyped-def]
            nonlocal taken
            batch = rows[taken % len(rows)]
            backward(model, batch, recipe, device, device == "cuda")[0].item()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            taken += 1
            return int((batch.kind != PAD).sum())

        tokens_per_second = speed(step, min(TRIED_SECONDS, seconds / 10) / len(recipe.shapes))
        trial = Trial(shape, sum(p.numel() for p in model.parameters()), tokens_per_second)
        trials.append(trial)
        print(
            f"tried {shape}: {trial.parameters / 1e6:.2f} M parameters, {tokens_per_second:,.0f} tokens a second,"
            f" predicted {trial.predicted(seconds):.4f}",
            flush=True,
        )
    return dataclasses.replace(recipe, model={**recipe.model, **choose(trials, seconds).shape}, shapes=[])


def utilisation(parameters: int, rows_per_second: float, device: str) -> dict[str, float]:
    """Floating-point operations in 10^12 a second (6 a parameter and row), and their share of a known device's peak."""
    tflops = 6 * parameters * rows_per_second / 1e12
    known = torch.cuda.get_device_name() if device == "cuda" else ""
    peak = next((peak for name, peak in PEAK_TFLOPS.items() if name in known), None)
    return {"tflops": round(tflops, 2)} | ({"utilisation": round(tflops / peak, 3)} if peak else {})


def train(
    recipe: Recipe,
    corpus: Path,
    out: Path,
    minutes: float,
    device: str,
    workers: int,
    source: Path | None = None,
) -> Path:
    """Run or continue the recipe until `minutes` of computing are spent; return the checkpoint's folder.

    `source` is a model folder whose weights a new run starts from; a run that goes on ignores it.
    """
    pack = load_pack(corpus)
    tokenizer = Tokenizer.from_file(str(corpus / "tokenizer.json"))
    ids = token_ids(tokenizer)
    shape = InfillShape(**recipe.rows)
    count = len(pack.offsets) - 1
    dataset = InfillBatches(pack, (0, pack.validation_from), shape, ids, recipe.batch_size, recipe.seed)
    held_out_set = InfillBatches(pack, (pack.validation_from, count), shape, ids, recipe.batch_size, 1)
    held_out = [held_out_set[n].to(device) for n in range(6)]
    out.mkdir(parents=True, exist_ok=True)
    log, place = out / "log.jsonl", out / "checkpoint"
    found = latest_checkpoint(place)
    state: dict[str, Any] = {}
    if found is not None:
        state = torch.load(found / "trainer.pt", map_location=device, weights_only=True)
        recipe = dataclasses.replace(recipe, model=json.loads(state["recipe"])["model"], shapes=[])
    elif recipe.shapes and source is None:
        recipe = pick_shape(recipe, tokenizer, dataset, device, minutes * 60)
    torch.manual_seed(recipe.seed)
    model = make_model(recipe.model, tokenizer, device)
    half: bool | None = state.get("half")
    if half is None:
        half = pick_precision(model, held_out[0], device)
    optimizers = make_optimizers(model, recipe, half and device == "cpu")
    step, spent, tokens, earlier = 0, 0.0, 0, Earlier()
    if found is not None:
        model.load_state_dict(DreamModel.from_pretrained(found, dtype=torch.float32).state_dict())
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, spent, tokens = state["step"], state["spent"], state["tokens"]
        earlier = Earlier(**state.get("earlier", {}))
        print(f"going on from step {step} after {spent / 60:.1f} minutes", flush=True)
    elif source is not None:
        carry_on(model, source, tokenizer)
        earlier = earlier_of(source)
        print(f"weights of {source} after {earlier.tokens / 1e6:.1f} M tokens", flush=True)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {'bfloat16' if half else 'float32'} on {device}", flush=True)

    stop = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)

    def save() -> None:
        trainer = {
            "optimizers": [o.state_dict() for o in optimizers],
            "step": step,
            "spent": spent,
            "tokens": tokens,
            "earlier": dataclasses.asdict(earlier),
            "half": half,
            "recipe": json.dumps(dataclasses.asdict(recipe)),
        }
        save_checkpoint(place, model, corpus / "tokenizer.json", trainer)

    recent: list[float] = []
    budget = minutes * 60
    saved_at = evaluated_at = spent
    if step == 0:
        scores = evaluate(model, held_out, device, half)
        append_json(log, {"step": 0, "minutes": 0.0, "tokens": 0, "held_out": scores})
        print(f"held out at the start: {scores}", flush=True)
    # an earlier run on the same corpus has seen the first batches
    for rows in batches(dataset, earlier.steps + step, workers):
        if stop or spent >= budget:
            break
        began = time.perf_counter()
        rows = rows.to(device)
        share = rate(spent / budget, recipe)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * recipe.learning_rate
        loss, next_nats, masked_nats = backward(model, rows, recipe, device, half)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}; the last checkpoint is intact")
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        tokens += int((rows.kind != PAD).sum())
        seconds = time.perf_counter() - began
        recent = [*recent[-49:], seconds]
        spent += min(seconds, 4 * statistics.median(recent))  # a paused process spends nothing
        if step % 20 == 0:
            record = {
                "step": step,
                "minutes": round(spent / 60, 2),
                "tokens": tokens,
                "next_nats": round(next_nats, 4),
                "masked_nats": round(masked_nats, 4),
                "norm": round(float(norm), 3),
                "rate": round(share, 3),
                "tokens_per_s": round(tokens / step / statistics.median(recent)),
                **utilisation(parameters, rows.ids.numel() / statistics.median(recent), device),
            }
            append_json(log, record)
            print(json.dumps(record), flush=True)
        if spent - evaluated_at > budget / 30:
            evaluated_at = spent
            scores = evaluate(model, held_out, device, half)
            record = {"step": step, "minutes": round(spent / 60, 2), "tokens": tokens, "held_out": scores}
            append_json(log, record)
            print(json.dumps(record), flush=True)
        if spent - saved_at > 300:
            saved_at = spent
            save()
    scores = evaluate(model, held_out, device, half)
    append_json(log, {"step": step, "minutes": round(spent / 60, 2), "tokens": tokens, "held_out": scores})
    save()
    print(f"step {step}, {tokens / 1e6:.1f} M tokens, {spent / 60:.1f} minutes, held out {scores}", flush=True)
    if stop:
        sys.exit(143)
    return place


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parents[1] / "recipes/embedded/cpu.yaml")
    parser.add_argument("--corpus", type=Path, default=Path("build/embedded"))
    parser.add_argument("--out", type=Path, default=Path("build/embedded-run"))
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, help="processes that build batches (1; on a GPU up to 12)")
    parser.add_argument("--from", dest="source", type=Path, help="start from the weights of this model folder")
    parser.add_argument("--learning-rate", type=float, help="another than the recipe's, say for going on")
    arguments = parser.parse_args(argv)
    recipe = load_recipe(arguments.recipe)
    workers = arguments.workers
    if workers is None:
        workers = 1 if arguments.device == "cpu" else max(1, min(12, (os.cpu_count() or 2) - 2))
    if arguments.learning_rate is not None:
        recipe = dataclasses.replace(recipe, learning_rate=arguments.learning_rate)
    train(
        recipe,
        arguments.corpus,
        arguments.out,
        arguments.minutes,
        arguments.device,
        workers,
        arguments.source,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
