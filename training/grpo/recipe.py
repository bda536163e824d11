"""What a recipe of the stage grpo may say. Unknown keys are errors (training/recipe.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from training.objectives.estimators import LEVELS, Fixes, Kind
from training.stages.recipe import Batch, Checkpoints, Logging, Lora, Optimizer, Schedule


@dataclass(frozen=True)
class Tasks:
    """What is asked of the model. `path` is given by --tasks as well."""

    path: Path | None = None  # mined tasks (jsonl), MBPP (jsonl), AceCode (parquet, jsonl), or a folder to be mined
    selection: Literal["repo", "paper"] = "repo"  # of AceCode
    packages: list[Path] = field(default_factory=list)  # what mined tasks import from, beside installed packages
    held_out: float = 0.1  # the share measured and not trained on, of files whose tasks do not say it themselves
    prompt_tokens: int = 200  # of a problem in words; longer ones are left out
    context_tokens: int = 512  # around a hole; cut, more of it before the hole
    hole: Literal["body", "lines"] = (
        "body"  # of a mined task: the whole body, or a run of its lines drawn from the seed
    )
    hole_tokens: int | None = None  # masks of a hole; none: as the original took, and `slack` of it more
    slack: float = 0.0
    system: str = "You are a helpful assistant."

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is at least 0 and below 1, not {self.held_out}")
        if min(self.prompt_tokens, self.context_tokens) < 8 or self.slack < 0 or (self.hole_tokens or 1) < 1:
            raise ValueError("prompt_tokens and context_tokens are at least 8, hole_tokens 1, slack 0")


@dataclass(frozen=True)
class Rollouts:
    """How completions are made. `batch.rows` of them are a generation, in groups that share a problem."""

    group: int = 10
    tokens: int = 256  # of an answer in words and code
    steps: int = 256  # of denoising; 0: one a token
    decoding: Literal["steps", "threshold"] = "steps"  # threshold: window-cached, as many tokens a step as are sure
    algorithm: Literal["origin", "maskgit_plus", "topk_margin", "entropy"] = "entropy"
    temperature: float = 1.2
    top_p: float | None = 0.95
    top_k: int | None = None
    threshold: float = 0.9
    refresh: int = 8  # steps after which cached keys and values are computed anew
    micro: int = 0  # rows decoded together; 0: batch.micro

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(
                f"group is at least 2, not {self.group}: a completion is judged against others of its group"
            )
        if self.tokens < 1 or self.steps < 0 or self.temperature < 0 or self.refresh < 1 or self.micro < 0:
            raise ValueError("tokens and refresh are at least 1; steps, temperature and micro at least 0")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold lies between 0 and 1, not {self.threshold}")


@dataclass(frozen=True)
class Objective:
    """The estimator, the loss, and what it repeats of the DiffuCoder repository."""

    estimator: Kind = "coupled"
    pairs: int = 1
    iterations: int = 2  # optimizer steps on a generation, each with masks of its own
    levels: tuple[float, float] = LEVELS  # of t
    clip_low: float = 0.5
    clip_high: float = 0.5
    beta: float = 0.01
    advantage: Literal["leave_one_out", "mean"] = "leave_one_out"
    scale: bool = False  # divide by the group's standard deviation
    compat: Literal["none", "apple"] = "none"
    fixes: Fixes = field(default_factory=Fixes)

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.pairs < 1 or self.beta < 0 or min(self.clip_low, self.clip_high) < 0:
            raise ValueError("iterations and pairs are at least 1; beta, clip_low and clip_high at least 0")
        if not 0 < self.levels[0] <= self.levels[1] < 1:
            raise ValueError(f"levels rise within 0 and 1, not {self.levels}")
        fixed = self.fixes.resolved(self.compat)
        if self.iterations == 1 and self.beta > 0 and not fixed.single_iteration:
            raise ValueError(
                "one iteration with beta above 0 does not work in the DiffuCoder repository: "
                "set fixes.single_iteration, or beta to 0"
            )
        if not fixed.own_masks and (self.estimator != "coupled" or self.pairs != 1 or tuple(self.levels) != LEVELS):
            raise ValueError("one draw for all rows, fixes.own_masks off, is of the coupled estimator with one pair")


@dataclass(frozen=True)
class Reference:
    """Every `sync` optimizer steps the reference becomes `mix` of the policy and 1 - mix of itself; 0: never."""

    sync: int = 64
    mix: float = 0.6

    def __post_init__(self) -> None:
        if self.sync < 0 or not 0 < self.mix <= 1:
            raise ValueError("sync is at least 0, mix above 0 and at most 1")


@dataclass(frozen=True)
class Rewards:
    """What a completion is worth: form and tests, weighed (tests of weight 0 are not run); and who runs the tests."""

    form: float = 0.5
    tests: float = 2.0
    workers: int = 0  # sandboxes at once of each process; 0: one a core
    seconds: float | None = None  # a test may take; none: as its kind of task has it
    patience: int = 50  # generations without any group whose rewards differ, after which the run gives up


@dataclass(frozen=True)
class Measure:
    """What is measured on held-out tasks: at the beginning, every so many steps, and at the end."""

    every: int = 0  # steps; 0: at the beginning and the end alone
    tasks: int = 64  # of them at most; 0: nothing is measured
    samples: int = 4  # of a task
    temperature: float = 0.2


@dataclass(frozen=True)
class GrpoRecipe:
    """One run of the stage grpo."""

    optimizer: Optimizer
    schedule: Schedule
    batch: Batch
    stage: Literal["grpo"] = "grpo"
    seed: int = 0
    init: Path | None = None
    tasks: Tasks = field(default_factory=Tasks)
    rollouts: Rollouts = field(default_factory=Rollouts)
    objective: Objective = field(default_factory=Objective)
    reference: Reference = field(default_factory=Reference)
    rewards: Rewards = field(default_factory=Rewards)
    measure: Measure = field(default_factory=Measure)
    precision: Literal["auto", "bf16", "float32"] = "auto"
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    gradient_checkpointing: bool = False
    compile: bool = False
    lora: Lora | None = None
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    logging: Logging = field(default_factory=Logging)

    def __post_init__(self) -> None:
        if self.batch.rows % self.rollouts.group:
            raise ValueError(f"batch.rows {self.batch.rows} are no whole number of groups of {self.rollouts.group}")
        varies = self.rollouts.decoding == "threshold" or self.rollouts.steps == 0
        if self.parallel == "fsdp2" and varies:
            raise ValueError("fsdp2 needs the same number of steps on each process: rollouts.steps above 0")
        if self.objective.compat == "apple" and self.rollouts.decoding == "threshold":
            raise ValueError("compat apple decodes in steps")

    @property
    def prompts(self) -> int:
        """Problems of a generation."""
        return self.batch.rows // self.rollouts.group
