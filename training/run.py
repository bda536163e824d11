"""One training run: its processes, model, optimizer and place on disk. Every stage stands on this.

    with Run(...) as run:
        run.restore()
        while run.step < run.steps: compute a loss, run.backward(loss, last), run.update()

A run's folder holds recipe.yaml (resolved, with the commit and the data's fingerprints), log.jsonl and checkpoints/.
A checkpoint is a model in the public layout, with recipe.yaml and a folder `trainer` that exact resume needs.
"""

from __future__ import annotations

import errno
import json
import math
import shutil
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from model_runtime.models.dream import DreamModel
from training import parallel, state
from training.checkpoints import begin_folder, commit_folder
from training.errors import TrainingError
from training.logs import forget_after
from training.lora import add_adapters, merged_state
from training.models import Files, special_ids, write_model
from training.recipe import as_plain, read_yaml, save_resolved
from training.stages.recipe import FREE_TO_CHANGE, Optimizer, Schedule, StageRecipe

if TYPE_CHECKING:
    from training.grpo.recipe import GrpoRecipe

Recipe = TypeVar("Recipe", bound="StageRecipe | GrpoRecipe")
STOPPED = 143  # exit code after SIGTERM


class Companion(Protocol):
    """What else a checkpoint holds: it writes into the folder `trainer` and reads from there, on every process."""

    def save(self, folder: Path, accelerator: Accelerator) -> None: ...
    def load(self, folder: Path, accelerator: Accelerator) -> None: ...


@dataclass
class Progress:
    """What a run remembers of itself besides weights and optimizer."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None  # of the figure that may stop the run early
    best_step: int = 0
    worse: int = 0  # measurements since the best
    done: bool = False


def rate_at(step: int, steps: int, schedule: Schedule) -> float:
    """The share of the learning rate at `step` (from 0): linear warm-up, then a cosine down to the floor."""
    warmup = schedule.warmup * steps if schedule.warmup < 1 else schedule.warmup
    if step < warmup:
        return (step + 1) / (warmup + 1)
    horizon = schedule.horizon or steps
    share = min(1.0, (step - warmup) / max(1.0, horizon - warmup))
    return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * share))


def make_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.AdamW:
    """AdamW over what is trained; decay on matrices, none on norms and biases."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
    )


class Run(Generic[Recipe]):
    """A model in training on all processes; close it, or use it in a `with`."""

    def __init__(
        self,
        recipe: Recipe,
        accelerator: Accelerator,
        model: DreamModel,
        files: Files,
        folder: Path,
        steps: int,
        facts: dict[str, Any],
    ):
        """`facts`: what recipe.yaml says under "made": commit, fingerprints of data and first weights."""
        self.recipe, self.accelerator, self.files, self.folder = recipe, accelerator, files, folder
        self.steps, self.facts, self.progress = steps, facts, Progress()
        self.causal = recipe.stage == "base"
        self.config, self.plain = model.config, model
        if recipe.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if recipe.compile:
            for block in model.model.layers:
                block.compile()
        wrapped: nn.Module = model
        if recipe.lora is not None:
            half = accelerator.mixed_precision == "bf16"
            wrapped = add_adapters(model, recipe.lora, special_ids(files), accelerator.device, half)
        self.model = parallel.distribute(wrapped, accelerator, recipe.parallel).train()
        self.optimizer = make_optimizer(self.model, recipe.optimizer)
        self.companions: list[Companion] = []
        self.stopping = False
        self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}

    def __enter__(self) -> Run[Recipe]:
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.accelerator.is_main_process

    # One optimizer step.

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradient of this process's part of the loss; `last` of the step's micro-batches.

        Parts are sums already divided by the divisor of the whole step: gradients are averaged over processes, so the
        part is multiplied by their number.
        """
        with parallel.accumulating(self.model, self.accelerator, last):
            self.accelerator.backward(loss * self.accelerator.num_processes)

    def update(self) -> tuple[float, float]:
        """Clip, step, and count the step; return the gradient's norm and the learning rate."""
        rate = rate_at(self.progress.step, self.steps, self.recipe.schedule) * self.recipe.optimizer.learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = parallel.clip(self.model, self.recipe.optimizer.clip)
        if not math.isfinite(norm):
            raise TrainingError(self.lost(f"the gradient's norm is {norm}"))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        return norm, rate

    def lost(self, what: str) -> str:
        """The sentence for a run that cannot go on."""
        kept = self.checkpoints()
        intact = f"the last checkpoint, {kept[-1].name}, is intact" if kept else "there is no checkpoint yet"
        return f"{what} at step {self.progress.step + 1}; {intact}; lower optimizer.learning_rate or look at the data"

    # On disk.

    def checkpoints(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        return sorted((self.folder / "checkpoints").glob("step-????????"))

    def save(self) -> Path:
        """Write a checkpoint in one step, drop those beyond the last `keep`; every process must call."""
        place = self.folder / "checkpoints" / f"step-{self.progress.step:08d}"
        if place.exists():
            return place
        fresh = place.with_name(place.name + ".new")
        error: BaseException | None = None
        try:
            if self.main:
                (begin_folder(place) / "trainer").mkdir()
        except OSError as failed:
            error = failed
        self._agree(error, place)
        try:
            self._write(fresh)
        except (Exception, CheckpointException) as failed:  # the latter is none of Exception's
            error = failed
        self._agree(error, place)
        if self.main:
            commit_folder(fresh, place)
            self._prune()
        self.accelerator.wait_for_everyone()
        return place

    def _write(self, fresh: Path) -> None:
        lora = self.recipe.lora is not None
        state.save_training(fresh / "trainer", self.model, self.optimizer, self.accelerator)
        for companion in self.companions:
            companion.save(fresh / "trainer", self.accelerator)
        weights = {} if lora else state.whole_weights(self.model, self.accelerator)
        if self.main:
            if lora:
                weights = merged_state(self.accelerator.unwrap_model(self.model))
            dtype = getattr(torch, self.recipe.checkpoints.dtype)
            write_model(fresh, self.plain, weights, self.files, self.causal, dtype)
            (fresh / "trainer" / "progress.json").write_text(json.dumps(asdict(self.progress)) + "\n")
            save_resolved(fresh / "recipe.yaml", self.recipe, self.facts)

    def _agree(self, error: BaseException | None, place: Path) -> None:
        """Raise on every process when saving failed on one."""
        failed = parallel.total(
            torch.tensor(float(error is not None), device=self.accelerator.device), self.accelerator
        )
        if not failed:
            return
        if self.main:
            shutil.rmtree(place.with_name(place.name + ".new"), ignore_errors=True)
        raise TrainingError(f"{place.name} cannot be saved: {reason(error)}; {self.last_kept()}") from error

    def last_kept(self) -> str:
        """Which checkpoint there is still."""
        kept = self.checkpoints()
        return f"the last checkpoint, {kept[-1].name}, is intact" if kept else "there is no earlier checkpoint"

    def _prune(self) -> None:
        best = f"step-{self.progress.best_step:08d}" if self.progress.best is not None else ""
        for old in self.checkpoints()[: -self.recipe.checkpoints.keep]:
            if old.name != best:
                shutil.rmtree(old)

    def restore(self) -> bool:
        """Go on from the last complete checkpoint, exactly; False if there is none. Others' recipes are an error."""
        found = [path for path in self.checkpoints() if (path / "trainer" / "progress.json").is_file()]
        if self.main:
            for broken in (self.folder / "checkpoints").glob("*.new"):
                shutil.rmtree(broken)
        if not found:
            return False
        folder = found[-1]
        self._check_recipe(folder)
        state.load_training(folder / "trainer", self.model, self.optimizer, self.accelerator)
        for companion in self.companions:
            companion.load(folder / "trainer", self.accelerator)
        self.progress = Progress(**json.loads((folder / "trainer" / "progress.json").read_text()))
        if self.main:
            forget_after(self.folder / "log.jsonl", self.progress.step)
        self.accelerator.wait_for_everyone()
        return True

    def _check_recipe(self, folder: Path) -> None:
        saved = read_yaml(folder / "recipe.yaml")
        made = saved.pop("made", {})
        differing = [key for key in differences(saved, as_plain(self.recipe)) if not may_change(key)]
        if differing:
            raise TrainingError(
                f"{folder} was made by another recipe: {', '.join(differing[:4])} differ; give another --out, "
                "or --weights-from to begin anew with its weights"
            )
        for name, now in self.facts.get("data", {}).items():
            before = made.get("data", {}).get(name)
            if before != now:
                raise TrainingError(f"{folder} was trained on other data: {name} has changed since")


def reason(error: BaseException | None) -> str:
    """Why saving failed, in few words."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    cause = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            full = cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            return "the disk is full" if full else str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(error or "another process failed").split())
    # the last: torch's archive writer met a write that was cut short
    full = any(word in text for word in ("No space left", "File too large", "quota", "inline_container"))
    return "the disk is full" if full else text[:200]


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """The dotted keys at which two plain values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [found for key in keys for found in differences(old.get(key), new.get(key), f"{place}{key}.")]
    return [] if old == new else [place[:-1]]


def may_change(key: str) -> bool:
    """Whether a dotted key, or a key it lies under, is free to change between a run and its continuation."""
    parts = key.split(".")
    return any(".".join(parts[: n + 1]) in FREE_TO_CHANGE for n in range(len(parts)))
