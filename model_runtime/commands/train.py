"""`diffill train …`: finds the part of `training` that a stage needs, and loads it by name when it is asked for."""

from __future__ import annotations

import importlib

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
    ("score", "measure checkpoints as training does, on more rows", "training.stages.score:main"),
    ("export", "write a checkpoint as a model folder, with ONNX if wanted", "training.stages.export:main"),
    ("plan", "what a recipe takes: memory, steps, hours on a cluster", "training.plan:main"),
    ("bench", "tokens a second against a plain Hugging Face Trainer", "training.throughput:main"),
)


def main(arguments: list[str]) -> int:
    """Run `diffill train ARGUMENTS…` and return its exit code."""
    targets = {name: target for name, _, target in STAGES}
    if arguments and arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if not arguments or arguments[0] not in targets:
        given = f"there is no stage {arguments[0]!r}" if arguments else "give a stage"
        raise RequestError(f"{given}; the stages are {', '.join(targets)}; diffill train --help describes them")
    module, function = targets[arguments[0]].split(":")
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "training":
            raise
        raise RequestError(f"training needs {error.name}: pip install 'diffill[train]'") from error
    return getattr(loaded, function)(arguments[1:])


def usage() -> str:
    """What `diffill train --help` prints."""
    width = max(len(name) for name, _, _ in STAGES) + 2
    listed = "\n".join(f"  {name:<{width}}{text}" for name, text, _ in STAGES)
    return f"usage: diffill train STAGE ...\n\nstages:\n{listed}\n\ndiffill train STAGE --help describes one."
