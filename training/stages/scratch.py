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
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from model_runtime.models.dream import DreamModel
from training.checkpoints import append_json, latest_checkpoint, save_checkpoint
from training.corpus.pack import load_pack
from training.data import InfillBatches, batches
from training.objectives.holes import InfillShape
from training.objectives.infill import PAD
from training.stages.carrying import Earlier, carry_on, earlier_of
from training.stages.infill import (
    Recipe,
    backward,
    evaluate,
    load_recipe,
    make_model,
    make_optimizers,
    pick_precision,
    rate,
    token_ids,
)
from training.stages.shapes import TRIED_SECONDS, Trial, choose, speed

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0}  # dense bfloat16, as their maker states them


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
