"""Tasks so small that a tiny model solves some: the expression that a documented function returns is the hole.

Each function does one of eight things to two numbers, under one of two names, told in one of three wordings. Two of
these six ways are held out: their name and their wording are known from other tasks, not together. The tests are
values, computed by the original.

python -m training.corpus.small_tasks --out build/small.jsonl
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.corpus.tasks import Task, write_tasks
from training.rewards.tests import Test

HONEST = 0.4  # of muddled functions
CASES = 4  # tests of a task; their values differ, so that no constant passes


@dataclass(frozen=True)
class Kind:
    """What a function does: its names, its wordings, and its expression of a and b."""

    names: tuple[str, str]
    wordings: tuple[str, str, str]
    expression: str


KINDS = (
    Kind(("add", "plus"), ("the sum of a and b", "a plus b", "a and b added"), "a + b"),
    Kind(("subtract", "minus"), ("the difference of a and b", "a minus b", "a less b"), "a - b"),
    Kind(("multiply", "times"), ("the product of a and b", "a times b", "a multiplied by b"), "a * b"),
    Kind(("remainder", "modulo"), ("the remainder of a by b", "a modulo b", "what is left of a by b"), "a % b"),
    Kind(("divide", "quotient"), ("the quotient of a by b", "a divided by b", "how often b fits in a"), "a // b"),
    Kind(("both", "common"), ("the bits of a and b", "a and b bit by bit", "the bits that a shares with b"), "a & b"),
    Kind(("either", "merge"), ("the bits of a or b", "a or b bit by bit", "the bits of one or both"), "a | b"),
    Kind(("differ", "toggle"), ("the bits of a xor b", "a xor b bit by bit", "the bits of just one"), "a ^ b"),
)


def head_of(kind: Kind, name: str, wording: str) -> str:
    """A function's text up to the space before what it returns: a word's token begins with that."""
    return f'def {name}(a, b):\n    """Return {wording}."""\n    return'


def make_task(kind: Kind, name: str, wording: str, split: str, rng: random.Random) -> Task:
    """A function and its tests."""
    prefix = head_of(kind, name, wording)
    digest = hashlib.sha256((prefix + kind.expression).encode()).hexdigest()[:12]
    return Task(
        id=f"small.{name}-{digest}",
        package="small",
        licence="Apache-2.0",
        module="small",
        path="small.py",
        function=name,
        split=split,
        prefix=prefix,
        body=f" {kind.expression}",
        suffix="\n",
        shown="",
        tests=make_tests(kind, name, rng),
    )


def make_tests(kind: Kind, name: str, rng: random.Random) -> tuple[Test, ...]:
    """Calls with what they return, of at least two different values."""
    tests: dict[str, Test] = {}
    while len(tests) < CASES or len({repr(test.expected) for test in tests.values()}) < 2:
        a, b = rng.randrange(1, 60), rng.randrange(1, 60)
        if rng.random() < 0.25:
            b = a
        called = f"{name}({a}, {b})"
        expected = eval(kind.expression, {}, {"a": a, "b": b})
        tests[called] = Test("value", called, expected)
    return tuple(tests.values())


def make_tasks(seed: int = 0) -> list[Task]:
    """All 48 tasks, 16 of them held out, in an order drawn from the seed."""
    rng = random.Random(seed)
    tasks = []
    for kind in KINDS:
        held = tuple(enumerate(rng.sample(range(len(kind.wordings)), len(kind.names))))
        for n, name in enumerate(kind.names):
            for w, wording in enumerate(kind.wordings):
                tasks.append(make_task(kind, name, wording, "held_out" if (n, w) in held else "train", rng))
    rng.shuffle(tasks)
    return tasks


def muddled(count: int, seed: int = 0) -> list[str]:
    """Such functions, of which two in five return what their words say and the others any of the expressions.

    A model trained on them writes expressions as they are wanted and seldom the right one: something is left to learn.
    """
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        kind = rng.choice(KINDS)
        head = head_of(kind, rng.choice(kind.names), rng.choice(kind.wordings))
        texts.append(f"{head} {(kind if rng.random() < HONEST else rng.choice(KINDS)).expression}\n")
    return texts


def write_muddled(folder: Path, count: int, vocabulary: int = 384, seed: int = 0) -> None:
    """A pack of such functions, with a tokenizer of their own."""
    from training.corpus.clean import Document
    from training.corpus.pack import encode, write_pack
    from training.corpus.sources import SourceFile
    from training.corpus.tokenizer import train_tokenizer

    texts = muddled(count, seed)
    tokenizer = train_tokenizer(texts, vocabulary)
    made = [
        Document(SourceFile("small", f"small/{n}.py", "code", "Apache-2.0", Path("small.py")), text)
        for n, text in enumerate(texts)
    ]
    write_pack(folder, made, count - count // 20, tokenizer, list(encode(made, tokenizer)), {})


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.corpus.small_tasks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the jsonl file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--muddled", type=Path, metavar="DIR", help="also a pack of functions that seldom do what they say"
    )
    parser.add_argument("--documents", type=int, default=4000, help="of that pack (4000)")
    args = parser.parse_args(argv)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tasks = make_tasks(args.seed)
    write_tasks(args.out, tasks)
    held = sum(task.split == "held_out" for task in tasks)
    print(f"{len(tasks)} tasks, {held} of them held out: {args.out}")
    if args.muddled:
        write_muddled(args.muddled, args.documents, seed=args.seed)
        print(f"{args.documents} muddled functions: {args.muddled}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
