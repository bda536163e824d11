"""`diffill train grpo`: a recipe, tasks, a folder to run in."""

from __future__ import annotations

from pathlib import Path

from model_runtime.commands.options import Parser
from model_runtime.protocol import RequestError
from training.grpo.recipe import GrpoRecipe
from training.recipe import read_recipe, read_yaml
from training.rewards.sandbox import require
from training.stages.command import find_recipe

EXAMPLES = """\
examples:
  diffill train grpo --recipe tiny/grpo --tasks build/tasks.jsonl --out build/grpo
  diffill train grpo --recipe small-1gpu/grpo --tasks . --out runs/ours    your own code and its tests
  torchrun --nproc-per-node 8 --no-python diffill train grpo --recipe diffucoder-7b/paper/grpo --out runs/grpo

A command given again goes on from the last checkpoint in --out, exactly.
"""


def make_parser() -> Parser:
    """The parser of `diffill train grpo`."""
    parser = Parser(
        prog="diffill train grpo",
        description="Reinforce a model by the tests that its own completions pass (coupled-GRPO).",
        epilog=EXAMPLES,
    )
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE", help="a recipe of diffill, or a YAML file")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the run lives")
    parser.add_argument(
        "--tasks", type=Path, metavar="PATH", help="mined tasks, MBPP or AceCode, or a folder of code to be mined"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a.b=value")
    parser.add_argument("--init", type=Path, metavar="DIR", help="the model to begin with, instead of the recipe's")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU if there is one)")
    parser.add_argument(
        "--unsafe-exec", action="store_true", help="run the model's code without a sandbox, with your own rights"
    )
    return parser


def read_grpo(name: str, assignments: list[str]) -> GrpoRecipe:
    """The recipe `name` after overrides; RequestError if it is for another stage."""
    path = find_recipe(name)
    stage = read_yaml(path).get("stage", "grpo")
    if stage != "grpo":
        raise RequestError(f"{name} is a recipe of the stage {stage}, not grpo")
    return read_recipe(path, GrpoRecipe, assignments)


def main(argv: list[str]) -> int:
    """Run `diffill train grpo ARGV…` and return the exit code."""
    args = make_parser().parse_args(argv)
    given = [f"tasks.path={args.tasks}"] if args.tasks else []
    given += [f"init={args.init}"] if args.init else []
    recipe = read_grpo(args.recipe, [*args.set, *given])
    require(args.unsafe_exec)
    from training.stages.grpo import run_grpo

    return run_grpo(recipe, args.out, args.device, args.unsafe_exec)
