"""A stage from its recipe: model, rows, noise and scores are put together, and the trainer runs."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_runtime.models.dream import DreamModel
from model_runtime.models.tokenizer import TextTokenizer
from training import parallel
from training.corpus.pack import Pack, load_pack
from training.curves import draw_curves
from training.errors import TrainingError
from training.logs import Logs
from training.mixture import Mixture
from training.models import Files, read_files, token_ids, write_files
from training.noisy import Kind, Noising, NoisyBatches, TokenIds
from training.recipe import as_plain, git_commit, save_resolved
from training.rows import PackedRows, Rows
from training.run import STOPPED, Run
from training.scoring import Held, Scorer
from training.stages import adapt, base, midtrain, sft
from training.stages.recipe import StageRecipe
from training.trainer import Objective, OnStep, train

KINDS: dict[str, Kind] = {"base": "causal", "adapt": "masked", "midtrain": "masked", "sft": "conditional"}


def run_stage(
    recipe: StageRecipe,
    out: Path,
    device: str | None = None,
    weights_from: Path | None = None,
    on_step: OnStep | None = None,
) -> int:
    """Run a stage in `out`, or go on with it exactly; the exit code: 0, or 143 if a signal stopped it.

    `weights_from` begins a new run (step 0, fresh optimizer) with the weights of a checkpoint, whatever the recipe's
    `init` says; it is refused where `out` holds a run already.
    """
    accelerator = parallel.start_processes(device, recipe.precision)
    per_step = recipe.batch.micro * accelerator.num_processes
    if recipe.batch.rows % per_step:
        raise TrainingError(
            f"batch.rows {recipe.batch.rows} is no multiple of batch.micro {recipe.batch.micro} times "
            f"{accelerator.num_processes} processes"
        )
    model, files = begin_model(recipe, out, weights_from)
    ids = token_ids(model, files)
    tokenizer = text_tokenizer(files)
    sources, held, data = read_data(recipe, model, files, tokenizer, ids)
    sizes = {name: len(rows) for name, rows in sources.items()}
    steps = recipe.schedule.steps or max(
        1, round((recipe.schedule.epochs or 1) * sum(sizes.values()) / recipe.batch.rows)
    )
    noising = Noising(KINDS[recipe.stage], ids, recipe.noise, recipe.resizing, recipe.ramp_epochs)
    dataset = NoisyBatches(
        sources,
        Mixture(sizes, recipe.data.mixture, recipe.batch.rows, recipe.seed),
        noising,
        recipe.batch.micro,
        accelerator.process_index,
        accelerator.num_processes,
        recipe.seed,
    )
    facts = {"commit": git_commit(), "data": data, "steps": steps, "processes": accelerator.num_processes}
    torch.manual_seed(recipe.seed + accelerator.process_index)  # for dropout alone: rows have seeds of their own
    with Run(recipe, accelerator, model, files, out, steps, facts) as run:
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        resumed = run.restore()
        if run.main and not resumed:
            (out / "log.jsonl").unlink(missing_ok=True)
            (out / "best.json").unlink(missing_ok=True)
        if run.main:
            save_resolved(out / "recipe.yaml", recipe, facts)
        title = f"{recipe.stage} {parameters(model) / 1e6:.1f} M"
        logs = Logs(out, recipe.logging, run.main, title, steps, run.progress.step, as_plain(recipe))
        if resumed:
            logs.say(f"going on from step {run.progress.step} of {steps}")
        scorer = make_scorer(recipe, model, held, tokenizer, ids)
        try:
            finished = train(run, dataset, make_objective(recipe), scorer, logs, on_step)
        finally:
            logs.close()
        if run.main and (out / "log.jsonl").is_file():
            draw_curves([(recipe.stage, out / "log.jsonl")], out / "curve.svg")
        logs.say(f"{'done' if finished else 'stopped'} at step {run.progress.step}: {run.checkpoints()[-1]}")
    return 0 if finished else STOPPED


def begin_model(recipe: StageRecipe, out: Path, weights_from: Path | None) -> tuple[DreamModel, Files]:
    """The model that the run begins with. A run that goes on takes its own, unless adapters lie on frozen weights."""
    kept = sorted((out / "checkpoints").glob("step-????????"))
    if kept and weights_from is not None:
        raise TrainingError(f"{out} holds a run already: --weights-from begins a new one, give another --out")
    begun = bool(kept) and recipe.lora is None
    source = kept[-1] if begun else weights_from or recipe.init
    if recipe.stage == "base":
        return base.prepare(recipe, source)
    if recipe.stage == "adapt":
        return adapt.prepare(recipe, source, begun or weights_from is not None)
    if source is None:
        raise TrainingError(f"{recipe.stage} needs init: the model that adapt has made")
    return midtrain.prepare(recipe, source) if recipe.stage == "midtrain" else sft.prepare(source)


def read_data(
    recipe: StageRecipe, model: DreamModel, files: Files, tokenizer: TextTokenizer, ids: TokenIds
) -> tuple[dict[str, Rows], Held | None, dict[str, str]]:
    """The sources of rows, held-out rows for scoring, and fingerprints of the data."""
    if recipe.stage == "sft":
        rows, held = sft.conversation_rows(recipe, files, tokenizer, ids)
        paths = [
            *recipe.data.conversations,
            *([recipe.data.functions / "report.json"] if recipe.data.functions else []),
        ]
        return {"conversations": rows}, held, {str(path): digest(path) for path in paths}
    packs = {name: open_pack(path, files) for name, path in recipe.data.packs.items()}
    sources: dict[str, Rows] = {
        name: PackedRows(
            pack, (0, pack.validation_from), recipe.data.length, ids.bos, ids.eos, str(recipe.data.packs[name])
        )
        for name, pack in packs.items()
    }
    validation = open_pack(recipe.data.validation, files) if recipe.data.validation else next(iter(packs.values()))
    held = None
    try:
        first = PackedRows(
            validation, (validation.validation_from, len(validation)), recipe.data.length, ids.bos, ids.eos
        )
        chosen = np.linspace(0, len(first) - 1, min(len(first), recipe.scoring.rows)).astype(int)
        ids_RL = np.stack([first[int(n)].ids_L for n in chosen])
        held = Held(ids_RL, np.broadcast_to(np.arange(ids_RL.shape[1]) >= 1, ids_RL.shape).copy())
    except TrainingError:
        pass  # too little was kept back to measure anything
    return sources, held, {name: digest(path / "report.json") for name, path in recipe.data.packs.items()}


def open_pack(path: Path, files: Files) -> Pack:
    """A pack whose tokens mean what the model's tokenizer says; TrainingError otherwise."""
    if not (path / "report.json").is_file():
        raise TrainingError(f"there is no corpus at {path}: diffill train corpus makes one")
    pack = load_pack(path)
    if pack.validation_from == 0:
        raise TrainingError(f"the corpus {path} is empty")
    known = files.tokenizer.get_vocab(with_added_tokens=True)
    if not read_files(path).tokenizer.get_vocab(with_added_tokens=True).items() <= known.items():
        raise TrainingError(f"the corpus {path} was made with another tokenizer than the model's")
    return pack


def make_objective(recipe: StageRecipe) -> Objective:
    """The loss of a stage."""
    if recipe.stage == "base":
        return Objective("uniform", "token", causal=True)
    steps = recipe.anneal_steps if recipe.stage == "adapt" else 0
    return Objective(recipe.loss.weight, recipe.loss.normalise, anneal_steps=steps, seed=recipe.seed)


def make_scorer(
    recipe: StageRecipe, model: DreamModel, held: Held | None, tokenizer: TextTokenizer, ids: TokenIds
) -> Scorer | None:
    """What is measured on held-out rows; None where there are none."""
    if held is None:
        return None
    sizes_V = bytes_of(tokenizer, model.config.vocab_size)
    causal, newline = recipe.stage == "base", ids.newline if recipe.stage != "sft" else None
    return Scorer(held, sizes_V, causal, ids.mask, newline, recipe.scoring, recipe.batch.micro)


def bytes_of(tokenizer: TextTokenizer, rows: int) -> Tensor:
    """How many bytes of text each id stands for, [V]."""
    sizes_V = torch.zeros(rows)
    sizes_V[: tokenizer.size] = torch.tensor([len(token) for token in tokenizer.token_bytes], dtype=torch.float)
    return sizes_V


def text_tokenizer(files: Files) -> TextTokenizer:
    """The tokenizer as the runtime reads it."""
    folder = Path(tempfile.mkdtemp())
    try:
        write_files(folder, Files(files.tokenizer, {}))
        return TextTokenizer(folder / "tokenizer.json")
    finally:
        shutil.rmtree(folder)


def parameters(model: DreamModel) -> int:
    """How many numbers the model holds."""
    return sum(p.numel() for p in model.parameters())


def digest(path: Path) -> str:
    """Sixteen hexadecimal digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
