"""`diffill train base|adapt|midtrain|sft`: a recipe, a folder to run in, overrides."""

from __future__ import annotations

from pathlib import Path

from model_runtime.commands.options import Parser
from model_runtime.protocol import RequestError
from training.recipe import nearest, read_recipe
from training.stages.recipe import StageRecipe

RECIPES = Path(__file__).parent.parent / "recipes"
EXAMPLES = """\
examples:
  diffill train {stage} --recipe tiny/{stage} --out build/{stage}
  diffill train {stage} --recipe mine.yaml --out build/{stage} --set optimizer.learning_rate=1e-4
  torchrun --nproc-per-node 8 --no-python diffill train {stage} --recipe small-1gpu/{stage} --out runs/{stage}

A command given again goes on from the last checkpoint in --out, exactly.
"""


def find_recipe(name: str) -> Path:
    """A recipe by its path, or by its name among those that come with diffill."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    found = RECIPES / f"{name}.yaml"
    if found.is_file():
        return found
    known = [str(p.relative_to(RECIPES).with_suffix("")) for p in RECIPES.rglob("*.yaml")]
    raise RequestError(f"there is no recipe {name!r}{nearest(name, known)}")


def read_stage(name: str, stage: str | None, assignments: list[str]) -> StageRecipe:
    """The recipe `name` after overrides; RequestError if it is for another stage."""
    recipe = read_recipe(find_recipe(name), StageRecipe, assignments)
    if stage is not None and recipe.stage != stage:
        raise RequestError(f"{name} is a recipe of the stage {recipe.stage}, not {stage}")
    return recipe


def make_parser(stage: str) -> Parser:
    """The parser of `diffill train STAGE`."""
    parser = Parser(prog=f"diffill train {stage}", epilog=EXAMPLES.format(stage=stage))
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE", help="a recipe of diffill, or a YAML file")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the run lives")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a.b=value")
    parser.add_argument(
        "--weights-from", type=Path, metavar="DIR", help="begin a new run with a checkpoint's weights alone"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU if there is one)")
    return parser


def main(stage: str, argv: list[str]) -> int:
    """Run `diffill train STAGE ARGV…` and return the exit code."""
    args = make_parser(stage).parse_args(argv)
    recipe = read_stage(args.recipe, stage, args.set)
    from training.stages.stage import run_stage

    return run_stage(recipe, args.out, args.device, args.weights_from)


def base(argv: list[str]) -> int:
    """`diffill train base`."""
    return main("base", argv)


def adapt(argv: list[str]) -> int:
    """`diffill train adapt`."""
    return main("adapt", argv)


def midtrain(argv: list[str]) -> int:
    """`diffill train midtrain`."""
    return main("midtrain", argv)


def sft(argv: list[str]) -> int:
    """`diffill train sft`."""
    return main("sft", argv)
