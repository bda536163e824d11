"""`diffill train plan`: what a recipe takes on a cluster, by arithmetic alone.

Memory of one GPU: 16 bytes a trained parameter (float32 master, gradient, two moments), divided by the processes when
sharded; what is gathered for computing; what the backward pass keeps of a micro-batch; the logits of masked rows.
Time: floating-point operations of the model (6 a parameter and token, head on masked rows only, attention over the
whole row; recomputation does not count) over what the cluster delivers.

`--mfu`, the share of the peak that is delivered, is 0.26 unless given: DiffuCoder's stage 1, 65.5 G tokens in about 40
hours on 80 H100, is that by this very formula.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from model_runtime.commands.options import Parser, real_number, whole_number
from model_runtime.protocol import RequestError
from training.recipe import nearest
from training.stages.command import read_stage
from training.stages.recipe import StageRecipe

# bf16 peak of dense matrix products (operations a second), memory (GB): the makers' data sheets
GPUS = {
    "A100": (312e12, 80),
    "A100-40": (312e12, 40),
    "H100": (989e12, 80),
    "H200": (989e12, 141),
    "B200": (2250e12, 192),
    "L40S": (362e12, 48),
    "RTX4090": (165e12, 24),
    "RTX5090": (210e12, 32),
}
MFU = 0.26
LOGIT_BYTES = 12  # bf16 and float32 of a logit, and their gradients
EXAMPLES = """\
examples:
  diffill train plan --recipe diffucoder-7b/paper/adapt --cluster 10x8xH100
  diffill train plan --recipe small-1gpu/adapt --cluster 1xRTX4090 --mfu 0.35
  diffill train plan --recipe diffucoder-7b/paper/sft --cluster 8x8xH100 --rows 436000
"""


@dataclass(frozen=True)
class Size:
    """What a model's arithmetic depends on."""

    vocabulary: int
    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    tied: bool

    @property
    def block(self) -> int:
        """Parameters of one layer."""
        narrow = self.kv_heads * (self.width // self.heads)
        attention = 2 * self.width**2 + self.width + 2 * (self.width * narrow + narrow)
        return attention + 3 * self.width * self.inner + 2 * self.width

    @property
    def table(self) -> int:
        """Parameters of the embedding, and of the head."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All of them, shared ones once."""
        return self.layers * self.block + self.width + self.table * (1 if self.tied else 2)


# Checkpoints that recipes begin with, by the name of their folder, where the folder is not there.
KNOWN = {
    "Qwen2.5-Coder-0.5B": Size(151936, 896, 4864, 24, 14, 2, True),
    "Qwen2.5-Coder-1.5B": Size(151936, 1536, 8960, 28, 12, 2, True),
    "Qwen2.5-Coder-3B": Size(151936, 2048, 11008, 36, 16, 2, True),
    "Qwen2.5-Coder-7B": Size(152064, 3584, 18944, 28, 28, 4, False),
    "Qwen2.5-Coder-14B": Size(152064, 5120, 13824, 48, 40, 8, False),
}


@dataclass(frozen=True)
class Plan:
    """What a recipe takes; memory in GB a GPU."""

    parameters: int
    trained: int
    gpus: int
    steps: int
    tokens_per_step: int
    tokens: int
    flops_per_token: float
    memory_state: float
    memory_gathered: float
    memory_activations: float
    memory_logits: float
    memory: float
    memory_has: float
    tokens_per_s: float
    tokens_per_s_gpu: float
    hours: float
    gpu_hours: float


def flops_per_token(size: Size, length: int, asked: float = 0.5) -> float:
    """Operations of forward and backward a token; `asked` is the share of rows that reach the head."""
    return 6 * (size.layers * size.block + asked * size.table) + 12 * size.layers * size.width * length


def size_of(recipe: StageRecipe, vocabulary: int | None = None) -> Size:
    """The size of the recipe's model; RequestError where it is not known."""
    if recipe.shape is not None:
        s = recipe.shape
        kv_heads = s.num_key_value_heads or s.num_attention_heads
        rows = vocabulary or vocabulary_of(recipe)
        return Size(
            rows, s.hidden_size, s.intermediate_size, s.num_hidden_layers, s.num_attention_heads, kv_heads,
            s.tie_word_embeddings,
        )  # fmt: skip
    assert recipe.init is not None
    from training.models import model_folder

    config = model_folder(recipe.init) / "config.json"
    if config.is_file():
        c = json.loads(config.read_text())
        heads = c["num_attention_heads"]
        return Size(
            c["vocab_size"], c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"], heads,
            c.get("num_key_value_heads") or heads, c.get("tie_word_embeddings", False),
        )  # fmt: skip
    for part in reversed(recipe.init.parts):
        if part in KNOWN:
            return KNOWN[part]
    raise RequestError(
        f"the size of {recipe.init} is not known: the folder is not there, and its name is none of {', '.join(KNOWN)}; "
        "--set init=NAME plans with one of them"
    )


def vocabulary_of(recipe: StageRecipe) -> int:
    """Rows of a new model's embedding; 8,192 where the tokenizer is still to be trained."""
    if recipe.tokenizer is not None and recipe.tokenizer.exists():
        from training.models import read_files, rounded

        return rounded(read_files(recipe.tokenizer).size)
    return 8192


def read_cluster(text: str) -> tuple[int, str]:
    """ "10x8xH100" as 80 and "H100"; RequestError for anything else."""
    match = re.fullmatch(r"(?:(\d+)x)?(\d+)x([\w.-]+)", text)
    if match is None:
        raise RequestError(f"a cluster is NODESxGPUSxKIND or GPUSxKIND, as 10x8xH100, not {text!r}")
    if match[3] not in GPUS:
        raise RequestError(f"there are no figures of the GPU {match[3]!r}{nearest(match[3], GPUS)}")
    return int(match[1] or 1) * int(match[2]), match[3]


def make_plan(recipe: StageRecipe, gpus: int, kind: str, mfu: float, rows: int | None = None) -> Plan:
    """What `recipe` takes on `gpus` of a kind; `rows` of an epoch where the schedule counts epochs."""
    size, length, micro = size_of(recipe), recipe.data.length, recipe.batch.micro
    steps = recipe.schedule.steps
    if steps is None:
        if rows is None:
            raise RequestError("the schedule counts epochs: --rows says how many rows one has")
        steps = max(1, round((recipe.schedule.epochs or 1) * rows / recipe.batch.rows))
    peak, has = GPUS[kind]
    trained, frozen = size.parameters, 0.0
    if recipe.lora is not None:
        trained = lora_parameters(size, recipe)
        blocks = size.layers * size.block
        frozen = blocks * (0.56 if recipe.lora.bits == 4 else 2) + 2 * (size.parameters - blocks)
    sharded = gpus if recipe.parallel == "fsdp2" else 1
    state = (16 * trained + frozen) / sharded
    gathered = 2 * trained  # bf16 copies that autocast keeps
    if recipe.parallel == "fsdp2" and gpus > 1:
        gathered = 2 * (2 * size.block + size.table * (1 if size.tied else 2)) + 4 * size.block
    tokens = micro * length
    inside = 2 * (10 * size.width + 4 * size.inner)  # what one block keeps of a token for its backward, bf16
    kept = 2 * size.width * size.layers + inside if recipe.gradient_checkpointing else inside * size.layers
    logits = tokens * size.vocabulary * LOGIT_BYTES  # all rows masked: the worst step
    activations = tokens * kept
    memory = (state + gathered + activations + logits) / 1e9
    per_token = flops_per_token(size, length)
    per_gpu = peak * mfu / per_token
    total = steps * recipe.batch.rows * length
    seconds = total / (per_gpu * gpus)
    return Plan(
        size.parameters, trained, gpus, steps, recipe.batch.rows * length, total, per_token,
        state / 1e9, gathered / 1e9, activations / 1e9, logits / 1e9, memory, has,
        per_gpu * gpus, per_gpu, seconds / 3600, seconds / 3600 * gpus,
    )  # fmt: skip


def lora_parameters(size: Size, recipe: StageRecipe) -> int:
    """Numbers that the adapters hold."""
    assert recipe.lora is not None
    narrow = size.kv_heads * (size.width // size.heads)
    shapes = {
        "q_proj": 2 * size.width,
        "k_proj": size.width + narrow,
        "v_proj": size.width + narrow,
        "o_proj": 2 * size.width,
        "gate_proj": size.width + size.inner,
        "up_proj": size.width + size.inner,
        "down_proj": size.width + size.inner,
    }
    return recipe.lora.rank * size.layers * sum(shapes.get(name, 0) for name in recipe.lora.modules)


def make_parser() -> Parser:
    """The parser of `diffill train plan`."""
    parser = Parser(prog="diffill train plan", epilog=EXAMPLES)
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE", help="a recipe of diffill, or a YAML file")
    parser.add_argument("--cluster", required=True, metavar="NxMxGPU", help=f"nodes, GPUs, kind: {', '.join(GPUS)}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a.b=value")
    parser.add_argument("--mfu", type=real_number, default=MFU, help=f"share of the peak delivered (default: {MFU})")
    parser.add_argument("--rows", type=whole_number, metavar="N", help="rows of an epoch, for schedules in epochs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main(argv: list[str]) -> int:
    """Run `diffill train plan ARGV…` and return the exit code."""
    args = make_parser().parse_args(argv)
    if not 0 < args.mfu <= 1:
        raise RequestError(f"--mfu lies above 0 and not above 1, not at {args.mfu}")
    recipe = read_stage(args.recipe, None, args.set)
    gpus, kind = read_cluster(args.cluster)
    plan = make_plan(recipe, gpus, kind, args.mfu, args.rows)
    if args.json:
        print(json.dumps(asdict(plan)))
        return 0
    show(plan, recipe, args.recipe, args.cluster, kind, args.mfu)
    return 0


def show(plan: Plan, recipe: StageRecipe, name: str, cluster: str, kind: str, mfu: float) -> None:
    """Print a plan as a table."""
    table = Table(title=f"{name} on {cluster}", title_justify="left", show_header=False)
    accumulate = recipe.batch.rows / (recipe.batch.micro * plan.gpus)
    fits = "" if plan.memory < plan.memory_has else ": too much"
    speed = f"{plan.tokens_per_s:,.0f}, a GPU {plan.tokens_per_s_gpu:,.0f} ({mfu:.0%} of {kind}'s peak)"
    lines = [
        ("parameters", f"{plan.parameters / 1e9:.3f} G, trained {plan.trained / 1e9:.3f} G"),
        ("steps", f"{plan.steps:,}"),
        ("tokens a step", f"{plan.tokens_per_step:,} = {recipe.batch.rows} rows of {recipe.data.length}"),
        ("micro-batches a step and GPU", f"{accumulate:g} of {recipe.batch.micro} rows"),
        ("tokens", f"{plan.tokens / 1e9:.2f} G"),
        ("operations a token", f"{plan.flops_per_token / 1e9:.2f} G"),
        ("memory a GPU", f"{plan.memory:.1f} GB of {plan.memory_has:g} GB{fits}"),
        ("  weights, gradients, moments", f"{plan.memory_state:.1f} GB"),
        ("  gathered for computing", f"{plan.memory_gathered:.1f} GB"),
        ("  kept for the backward pass", f"{plan.memory_activations:.1f} GB"),
        ("  logits, every row masked", f"{plan.memory_logits:.1f} GB"),
        ("tokens a second", speed),
        ("hours", f"{plan.hours:,.1f} ({plan.gpu_hours:,.0f} GPU hours)"),
    ]  # fmt: skip
    for line in lines:
        table.add_row(*line)
    Console(highlight=False).print(table)
    if accumulate != int(accumulate) or accumulate < 1:
        print(f"batch.rows {recipe.batch.rows} does not divide by batch.micro {recipe.batch.micro} x {plan.gpus} GPUs")
