"""`diffill train …`: finds the part of `training` that a stage needs, and loads it by name when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from model_runtime.protocol import RequestError

# name, help, "module:function"; the function takes the arguments after the name and returns the exit code.
STAGES = (
    ("corpus", "collect, clean and pack a corpus", "training.corpus.command:corpus"),
    ("tokenizer", "train a tokenizer, or add tokens to a checkpoint's", "training.corpus.command:tokenizer"),
    ("tasks", "mine tasks with tests from doctests", "training.corpus.command:tasks"),
    ("base", "a small autoregressive model from nothing", "training.stages.command:base"),
    ("adapt", "make an autoregressive model a masked diffusion model", "training.stages.command:adapt"),
    ("midtrain", "go on with it on annealing data", "training.stages.command:midtrain"),
    ("sft", "tune it to instructions", "training.stages.command:sft"),
    ("grpo", "reinforce it by tests that its code passes", "training.grpo.command:main"),
    ("score", "measure checkpoints as training does, on more rows", "training.stages.score:main"),
    ("export", "write a checkpoint as a model folder, with ONNX if wanted", "training.stages.export:main"),
    ("plan", "what a recipe takes: memory, steps, hours on a cluster", "training.plan:main"),
    ("bench", "tokens a second against a plain Hugging Face Trainer", "training.throughput:main"),
)


def main(arguments: list[str]) -> int:
    """Run `diffill train ARGUMENTS…` and return its exit code."""
    return dispatch("train", "stage", STAGES, arguments)


def dispatch(command: str, what: str, parts: Sequence[tuple[str, str, str]], arguments: list[str]) -> int:
    """Run the part of `diffill COMMAND` that the first argument names; RequestError where there is none."""
    targets = {name: target for name, _, target in parts}
    if arguments and arguments[0] in ("-h", "--help"):
        print(usage(command, what, parts))
        return 0
    if not arguments or arguments[0] not in targets:
        given = f"there is no {what} {arguments[0]!r}" if arguments else f"give a {what}"
        raise RequestError(f"{given}; the {what}s are {', '.join(targets)}; diffill {command} --help describes them")
    module, function = targets[arguments[0]].split(":")
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "training":
            raise
        doing = "training" if command == "train" else "evaluation"
        raise RequestError(f"{doing} needs {error.name}: pip install 'diffill[train]'") from error
    return getattr(loaded, function)(arguments[1:])


def usage(command: str, what: str, parts: Sequence[tuple[str, str, str]]) -> str:
    """What `diffill COMMAND --help` prints."""
    width = max(len(name) for name, _, _ in parts) + 2
    listed = "\n".join(f"  {name:<{width}}{text}" for name, text, _ in parts)
    told = f"diffill {command} {what.upper()}"
    return f"usage: {told} ...\n\n{what}s:\n{listed}\n\n{told} --help describes one."
