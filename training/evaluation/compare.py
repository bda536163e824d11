"""`diffill eval compare A B`: what two runs of the same benchmark differ in, by a paired bootstrap over problems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from model_runtime.commands.options import Parser, real_number, whole_number
from model_runtime.protocol import RequestError
from training.evaluation.passk import Difference, bootstrap, paired_bootstrap
from training.evaluation.reporting import print_json, print_table, say
from training.evaluation.runs import Row, read_json
from training.evaluation.summary import by_problem, by_temperature, check_ks, problem_pass
from training.jsonl import read_jsonl

EXAMPLES = """\
examples:
  diffill eval compare build/eval/before build/eval/after
  diffill eval compare a b --temperature 0.2 --k 10
"""


def make_parser() -> Parser:
    """The parser of `diffill eval compare`."""
    parser = Parser(prog="diffill eval compare", epilog=EXAMPLES)
    parser.add_argument("a", type=Path, metavar="A", help="the folder of a run")
    parser.add_argument("b", type=Path, metavar="B", help="the folder of the run that is compared with it")
    parser.add_argument("--temperature", type=real_number, metavar="T", help="of both (default: the only one of each)")
    parser.add_argument("--k", type=whole_number, default=1, help="of pass@k (default: 1)")
    return parser


def main(argv: list[str]) -> int:
    """Run `diffill eval compare ARGV…` and return the exit code."""
    args = make_parser().parse_args(argv)
    plans = [read_plan(args.a), read_plan(args.b)]
    for name, what in (("benchmark", "different benchmarks"), ("data", "different data of one benchmark")):
        a, b = (plan.get(name) for plan in plans)
        if a != b:
            shown = f" ({a} and {b})" if name == "benchmark" else ""
            raise RequestError(f"{args.a} and {args.b} are runs of {what}{shown}: they cannot be compared")
    values = [values_of(folder, args.temperature, args.k) for folder in (args.a, args.b)]
    compared = compare(values[0], values[1], str(args.a), str(args.b))
    console = Console()
    lines = []
    for folder, plan, found in zip((args.a, args.b), plans, values, strict=True):
        share = bootstrap(list(found.values()))
        shown = f"{100 * share.mean:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"
        lines.append((folder.name, Path(str(plan["model"])).name, str(len(found)), shown))
    print_table(("run", "model", "problems", f"pass@{args.k} %, 95 %"), lines, console)
    say(told(compared), console)
    print_json({"k": args.k, "a": str(args.a), "b": str(args.b), **compared.__dict__})
    return 0


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan of a run's folder; RequestError where there is none."""
    plan = read_json(folder / "run.json").get("plan")
    if not isinstance(plan, dict) or "benchmark" not in plan:
        raise RequestError(f"{folder / 'run.json'} says nothing about a run")
    return plan


def read_rows(folder: Path) -> list[Row]:
    """The samples of a finished run; RequestError where it is not finished or not whole."""
    path = folder / "samples.jsonl"
    if not (folder / "summary.json").is_file():
        raise RequestError(f"the run {folder} is not finished: give its command again, it goes on from there")
    try:
        return read_jsonl(path)
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def values_of(folder: Path, temperature: float | None, k: int) -> dict[str, float]:
    """pass@k of each problem of a run at one temperature."""
    groups = by_temperature(read_rows(folder))
    known = ", ".join(map(str, groups))
    if temperature is None and len(groups) != 1:
        raise RequestError(f"{folder} has the temperatures {known}: say which with --temperature")
    if temperature is not None and temperature not in groups:
        raise RequestError(f"{folder} has no temperature {temperature}; it has {known}")
    rows = groups[next(iter(groups)) if temperature is None else temperature]
    problems = by_problem(rows)
    check_ks([k], min(map(len, problems.values())))
    return {name: problem_pass(group, k) for name, group in problems.items()}


def compare(a: dict[str, float], b: dict[str, float], a_name: str = "A", b_name: str = "B") -> Difference:
    """The difference over the problems that both have; RequestError where they have different ones."""
    if set(a) != set(b):
        only_a, only_b = len(set(a) - set(b)), len(set(b) - set(a))
        raise RequestError(
            f"{a_name} and {b_name} have different problems ({only_a} only in the first, {only_b} only in the second): "
            "run both with the same --limit"
        )
    return paired_bootstrap([a[name] for name in a], [b[name] for name in a])


def told(found: Difference) -> str:
    """A difference as a sentence."""
    points = f"{100 * found.mean:+.1f} points ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    if found.low > 0 or found.high < 0:
        verdict = "B is better" if found.mean > 0 else "A is better"
    else:
        verdict = "no difference is shown"
    return (
        f"B - A: {points}, p = {found.p:.3f}: {verdict}; "
        f"A better on {found.a_better} problems, B on {found.b_better}, equal on {found.same}"
    )
