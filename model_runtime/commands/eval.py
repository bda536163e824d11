"""`diffill eval …`: finds the part of `training` that a sub-command needs, and loads it when it is asked for."""

from __future__ import annotations

from model_runtime.commands.train import dispatch

# name, help, "module:function"; the function takes the arguments after the name and returns the exit code.
PARTS = (
    ("run", "a benchmark on a model: pass@k and more, resumable", "training.evaluation.eval_run:main"),
    ("compare", "two runs of one benchmark, paired", "training.evaluation.compare:main"),
    ("report", "the paper's figures for any model, in one page", "training.evaluation.report:main"),
    ("list", "the benchmarks, and where their owners keep them", "training.evaluation.eval_list:main"),
)


def main(arguments: list[str]) -> int:
    """Run `diffill eval ARGUMENTS…` and return its exit code."""
    return dispatch("eval", "part", PARTS, arguments)
