"""What a recipe of the stages base, adapt, midtrain and sft may say. Unknown keys are errors (training/recipe.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from training.objectives.dreamon import Resizing
from training.objectives.masked import Normalise, Weight
from training.objectives.noise import Noise

StageName = Literal["base", "adapt", "midtrain", "sft"]


@dataclass(frozen=True)
class Shape:
    """A new model's shape; the vocabulary is the tokenizer's, rounded up to a multiple of 64."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    max_position_embeddings: int = 4096
    rope_theta: float = 10_000.0
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02


@dataclass(frozen=True)
class Phase:
    """From `from_step` on, the share of rows of each pack, by its name in `data.packs`."""

    from_step: int
    weights: dict[str, float]


@dataclass(frozen=True)
class Data:
    """Where rows come from, and how long they are (tokens)."""

    length: int
    packs: dict[str, Path] = field(default_factory=dict)
    mixture: list[Phase] = field(default_factory=list)  # empty: by size, every row once an epoch
    validation: Path | None = None  # the pack whose validation documents are scored; the first pack if not given
    conversations: list[Path] = field(default_factory=list)  # sft: jsonl or parquet
    functions: Path | None = None  # sft: a pack whose documented functions become conversations
    system: str = "You are a helpful assistant."
    workers: int = 1  # processes that prepare batches; 0: none

    def __post_init__(self) -> None:
        if self.length < 8:
            raise ValueError(f"length is at least 8, not {self.length}")
        for phase in self.mixture:
            if not phase.weights or min(phase.weights.values()) < 0 or sum(phase.weights.values()) <= 0:
                raise ValueError("a mixture's weights are at least 0 and not all 0")
            for name in phase.weights:
                if name not in self.packs:
                    raise ValueError(f"the mixture names {name}, which is not in packs: {', '.join(self.packs)}")
        steps = [phase.from_step for phase in self.mixture]
        if steps and (steps[0] != 0 or sorted(set(steps)) != steps):
            raise ValueError("a mixture's phases begin at step 0 and follow each other")


@dataclass(frozen=True)
class Loss:
    """Options of `masked_diffusion_loss`."""

    weight: Weight = "1/t"
    normalise: Normalise = "masked"


@dataclass(frozen=True)
class Optimizer:
    """AdamW; weight decay on matrices only."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0  # of the gradient's norm; 0: none


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a cosine down to `floor` times the rate. One of `steps` and `epochs`."""

    steps: int | None = None
    epochs: float | None = None
    warmup: float = 0.1  # steps; below 1, a share of them
    floor: float = 0.1
    horizon: int | None = None  # where the cosine ends, if not at the last step

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("a schedule has either steps or epochs")
        if (self.steps or 1) < 1 or (self.epochs or 1) <= 0 or self.warmup < 0 or not 0 <= self.floor <= 1:
            raise ValueError("steps and epochs are above 0, warmup is at least 0, floor lies between 0 and 1")


@dataclass(frozen=True)
class Batch:
    """Rows of an optimizer step over all processes, and rows of one forward on one process."""

    rows: int
    micro: int

    def __post_init__(self) -> None:
        if self.micro < 1 or self.rows < 1:
            raise ValueError("rows and micro are at least 1")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (arXiv 2106.09685); `bits` 4 keeps all other weights in nf4 (arXiv 2305.14314)."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    bits: Literal[4, 16] = 16


@dataclass(frozen=True)
class Scoring:
    """What is measured while training, on validation documents."""

    every: int = 500  # steps; 0: only at the end
    rows: int = 32
    ratios: list[float] = field(default_factory=lambda: [0.15, 0.5, 0.85])
    holes: int = 32  # lines given back exactly, true length known; 0: none


@dataclass(frozen=True)
class EarlyStop:
    """Stop when `figure` was not better by `margin` in `patience` measurements; the best checkpoint is kept."""

    figure: str = "infill_exact"
    goal: Literal["max", "min"] = "max"
    patience: int = 3
    margin: float = 0.0


@dataclass(frozen=True)
class Checkpoints:
    """When a run is saved, and how many savings are kept. Weights in the public layout have `dtype`."""

    every: int = 500
    keep: int = 2
    dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 1:
            raise ValueError("every and keep are at least 1")


@dataclass(frozen=True)
class Logging:
    """log.jsonl is always written."""

    every: int = 10
    tensorboard: bool = False
    wandb: str | None = None  # the project's name


@dataclass(frozen=True)
class StageRecipe:
    """One run of one stage."""

    stage: StageName
    data: Data
    optimizer: Optimizer
    schedule: Schedule
    batch: Batch
    seed: int = 0
    init: Path | None = None  # weights to begin with: a checkpoint's folder, or a run's
    tokenizer: Path | None = None  # of a new model
    shape: Shape | None = None  # of a new model
    noise: Noise = field(default_factory=Noise)
    resizing: Resizing = field(default_factory=Resizing)
    loss: Loss = field(default_factory=Loss)
    anneal_steps: int = 0  # adapt: steps until attention is full
    ramp_epochs: float = 1.0  # sft: epochs over which the condition is added
    precision: Literal["auto", "bf16", "float32"] = "auto"
    parallel: Literal["ddp", "fsdp2"] = "ddp"  # of several processes
    gradient_checkpointing: bool = False
    compile: bool = False
    lora: Lora | None = None
    scoring: Scoring = field(default_factory=Scoring)
    early_stop: EarlyStop | None = None
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    logging: Logging = field(default_factory=Logging)

    def __post_init__(self) -> None:
        if (self.shape is None) == (self.init is None):
            raise ValueError("a run begins either with init, weights that exist, or with shape, a new model")
        if self.shape is not None and self.tokenizer is None:
            raise ValueError("a new model needs a tokenizer")
        if self.stage == "sft":
            if not self.data.conversations and self.data.functions is None:
                raise ValueError("sft needs data.conversations or data.functions")
        elif not self.data.packs:
            raise ValueError(f"{self.stage} needs data.packs")


# What may change between a run and its continuation without making it another run.
FREE_TO_CHANGE = frozenset(
    {"parallel", "gradient_checkpointing", "compile", "scoring", "checkpoints", "logging", "precision"}
    | {"data.workers", "batch.micro", "rewards.workers"}
)
