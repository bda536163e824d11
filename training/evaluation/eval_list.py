"""`diffill eval list`: the benchmarks, the fields of their records, and where their owners keep them."""

from __future__ import annotations

from rich.console import Console

from model_runtime.commands.options import Parser
from training.evaluation.benchmarks import BENCHMARKS
from training.evaluation.reporting import print_table


def main(argv: list[str]) -> int:
    """Run `diffill eval list ARGV…` and return the exit code."""
    Parser(prog="diffill eval list").parse_args(argv)
    lines = [
        (benchmark.name, benchmark.hub[0] if benchmark.hub else "diffill train tasks", ", ".join(benchmark.fields))
        for benchmark in BENCHMARKS.values()
    ]
    print_table(("benchmark", "from", "fields"), lines, Console())
    return 0
