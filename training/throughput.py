"""`diffill train bench`: tokens a second of this trainer and of a plain Hugging Face Trainer, in one run.

Same model, same batch, same optimizer and precision, same masked-diffusion loss. The plain loop computes the logits of
every row and masks in its collator; ours asks the head for masked rows only and prepares batches in another process.
Stretches of both are interleaved, because a shared machine is not equally fast all the time.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_runtime.commands.options import Parser, whole_number
from model_runtime.models.dream import DreamConfig, DreamModel
from training import parallel
from training.data import batches
from training.evaluation.infill import hardware
from training.mixture import Mixture
from training.models import Files
from training.noisy import Noising, NoisyBatches, TokenIds
from training.objectives.masked import masked_diffusion_loss
from training.objectives.noise import Noise
from training.plan import GPUS, Size, flops_per_token, size_of
from training.rows import CleanRow
from training.run import Run
from training.stages.command import read_stage
from training.stages.recipe import StageRecipe
from training.trainer import Objective, one_step, take

MASK, EOS = 1, 0
EXAMPLES = """\
examples:
  diffill train bench --recipe tiny/adapt
  diffill train bench --recipe small-1gpu/adapt --set batch.micro=8 --steps 20
"""


class RandomRows:
    """Rows of random tokens: speed does not depend on what they say."""

    def __init__(self, vocabulary: int, length: int):
        self.vocabulary, self.length = vocabulary, length

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> CleanRow:
        ids = np.random.default_rng(index).integers(2, self.vocabulary, self.length)
        return CleanRow(ids, 1, 1)


def make_model(size: Size, length: int) -> DreamModel:
    """A random model of a size."""
    torch.manual_seed(0)
    config = DreamConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        tie_word_embeddings=size.tied,
        max_position_embeddings=length,
        mask_token_id=MASK,
        eos_token_id=EOS,
    )
    return DreamModel(config)


def rows_of(recipe: StageRecipe, vocabulary: int) -> NoisyBatches:
    """Micro-batches of random rows, noised as stage 1 does."""
    rows = RandomRows(vocabulary, recipe.data.length)
    noising = Noising("masked", TokenIds(MASK, None, EOS, EOS), Noise(keep_prefix=0, truncate=0), recipe.resizing)
    mixture = Mixture({"random": len(rows)}, [], recipe.batch.rows, 0)
    return NoisyBatches({"random": rows}, mixture, noising, recipe.batch.micro, 0, 1, 0)


class Ours:
    """Stretches of steps of this trainer."""

    def __init__(self, recipe: StageRecipe, size: Size, folder: Path, device: str | None):
        self.accelerator = parallel.start_processes(device, recipe.precision)
        model = make_model(size, recipe.data.length)
        self.run = Run(recipe, self.accelerator, model, Files(None, {}), folder, 1 << 30, {})  # type: ignore[arg-type]
        self.supply = batches(rows_of(recipe, size.vocabulary), 0, recipe.data.workers)
        self.objective = Objective(recipe.loss.weight, recipe.loss.normalise)
        self.accumulate = recipe.batch.rows // recipe.batch.micro

    def __call__(self, steps: int) -> tuple[float, float]:
        """Seconds of a step, and the share of time spent waiting for data."""
        waited, began = 0.0, time.perf_counter()
        for _ in range(steps):
            before = time.perf_counter()
            parts = take(self.supply, self.accumulate, self.run.config.vocab_size, self.accelerator.device)
            waited += time.perf_counter() - before
            one_step(self.run, parts, self.objective)
        seconds = time.perf_counter() - began
        return seconds / steps, waited / seconds


class Plain:
    """Stretches of steps of transformers.Trainer."""

    def __init__(self, recipe: StageRecipe, size: Size, folder: Path, half: bool, device: str | None):
        from transformers import Trainer, TrainerCallback, TrainingArguments

        vocabulary, length = size.vocabulary, recipe.data.length

        class Rows(torch.utils.data.Dataset):
            def __len__(self) -> int:
                return 1 << 20

            def __getitem__(self, index: int) -> dict[str, Any]:
                return {"input_ids": RandomRows(vocabulary, length)[index].ids_L}

        def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            ids_BL = torch.from_numpy(np.stack([row["input_ids"] for row in rows]))
            t_B = 1e-3 + (1 - 1e-3) * torch.rand(len(rows))
            maskable_BL = torch.ones_like(ids_BL, dtype=torch.bool)
            maskable_BL[:, 0] = False
            masked_BL = maskable_BL & (torch.rand(ids_BL.shape) < t_B.unsqueeze(1))
            return {"ids": ids_BL, "masked": masked_BL, "maskable": maskable_BL, "t": t_B}

        class Diffusion(Trainer):
            def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[override]
                noisy_BL = inputs["ids"].masked_fill(inputs["masked"], MASK)
                logits_BLV = model(input_ids=noisy_BL).logits
                return masked_diffusion_loss(
                    logits_BLV, inputs["ids"], inputs["masked"], inputs["t"], maskable_BL=inputs["maskable"],
                    weight=recipe.loss.weight, normalise=recipe.loss.normalise,
                )  # fmt: skip

        times: list[float] = []

        class Clock(TrainerCallback):
            def on_step_begin(self, *_: object, **__: object) -> None:
                times.append(time.perf_counter())

        settings = recipe.optimizer
        arguments = TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=recipe.batch.micro,
            gradient_accumulation_steps=recipe.batch.rows // recipe.batch.micro,
            learning_rate=settings.learning_rate,
            adam_beta1=settings.betas[0],
            adam_beta2=settings.betas[1],
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.clip,
            gradient_checkpointing=recipe.gradient_checkpointing,
            bf16=half,
            use_cpu=device == "cpu" or not torch.cuda.is_available(),
            max_steps=1,
            save_strategy="no",
            report_to=[],
            logging_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
            optim="adamw_torch",
        )
        self.times = times
        self.trainer = Diffusion(
            model=make_model(size, length), args=arguments, train_dataset=Rows(), data_collator=collate,
            callbacks=[Clock()],
        )  # fmt: skip

    def __call__(self, steps: int) -> float:
        """Seconds of a step: between the beginnings of steps, the first left out, for it makes the loop ready."""
        self.times.clear()
        self.trainer.args.max_steps = steps + 2
        self.trainer.train()
        return (self.times[-1] - self.times[1]) / (len(self.times) - 2)


def peak_of(device: torch.device, half: bool) -> tuple[float, str]:
    """Operations a second that matrix products reach at best, and how that is known."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for kind in sorted(GPUS, key=len, reverse=True):
            if half and kind in name:
                return GPUS[kind][0], f"{kind}'s data sheet"
    kind_of = torch.bfloat16 if half else torch.float32
    a, b = (torch.randn(2048, 2048, device=device, dtype=kind_of) for _ in range(2))
    best = 0.0
    for _ in range(8):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * 2048**3 / (time.perf_counter() - began))
    return best, "the best of eight products of 2048 x 2048, measured here"


def measure(recipe: StageRecipe, steps: int, repeats: int, device: str | None) -> dict[str, Any]:
    """Both loops, interleaved: medians over `repeats` stretches of `steps` steps."""
    size = size_of(recipe)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        ours = Ours(recipe, size, Path(folder), device)
        stack.enter_context(ours.run)
        half = ours.accelerator.mixed_precision == "bf16"
        plain = Plain(recipe, size, Path(folder), half, device)
        ours(2)
        measured: list[tuple[float, float, float]] = []
        for _ in range(repeats):
            seconds, waiting = ours(steps)
            measured.append((seconds, waiting, plain(steps)))
        peak, source = peak_of(ours.accelerator.device, half)
    tokens = recipe.batch.rows * recipe.data.length
    flops = flops_per_token(size, recipe.data.length)
    mine, stall, theirs = (statistics.median(column) for column in zip(*measured, strict=True))
    return {
        "parameters": size.parameters,
        "tokens_per_step": tokens,
        "precision": "bf16" if half else "float32",
        "tokens_per_s": tokens / mine,
        "tokens_per_s_plain": tokens / theirs,
        "faster": theirs / mine,
        "mfu": tokens / mine * flops / peak,
        "mfu_plain": tokens / theirs * flops / peak,
        "peak": peak,
        "peak_source": source,
        "waiting_for_data": stall,
        "hardware": hardware(),
        "steps": steps,
        "repeats": repeats,
    }


def main(argv: list[str]) -> int:
    """Run `diffill train bench ARGV…` and return the exit code."""
    parser = Parser(prog="diffill train bench", epilog=EXAMPLES)
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE", help="whose model, batch and optimizer")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a.b=value")
    parser.add_argument("--steps", type=whole_number, default=6, help="of a stretch (default: 6)")
    parser.add_argument("--repeats", type=whole_number, default=3, help="stretches of each (default: 3)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU if there is one)")
    args = parser.parse_args(argv)
    recipe = read_stage(args.recipe, None, args.set)
    found = measure(recipe, max(2, args.steps), max(1, args.repeats), args.device)
    size, step = f"{found['parameters'] / 1e6:.2f} M parameters", f"{found['tokens_per_step']:,} tokens a step"
    print(f"{size}, {step}, {found['precision']}")
    print(f"diffill train     {found['tokens_per_s']:>10,.0f} tokens/s  MFU {found['mfu']:.1%}")
    print(f"transformers      {found['tokens_per_s_plain']:>10,.0f} tokens/s  MFU {found['mfu_plain']:.1%}")
    print(f"{found['faster']:.2f} times as fast; waiting for data {found['waiting_for_data']:.2%} of the time")
    print(f"{found['hardware']}; peak {found['peak'] / 1e12:.2f} T/s: {found['peak_source']}")
    print(json.dumps(found))
    return 0
