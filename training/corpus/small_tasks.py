"""Tasks so small that a tiny model solves some: the expression that a documented function returns is the hole.

Each function does one of eighteen things to its arguments. Every thing, name and wording is seen in training; held-out
tasks combine them as no other task does. The tests are values, computed by the original.

python -m training.corpus.small_tasks --out build/small.jsonl
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.corpus.tasks import Task, write_tasks
from training.rewards.tests import Test

CASES = 4  # tests of a task; their values differ, so that no constant passes
PAIRS = (("a", "b"), ("left", "right"), ("x", "y"), ("first", "second"), ("low", "high"), ("old", "new"))
LISTS = ("items", "values", "names", "parts", "words", "rows")


@dataclass(frozen=True)
class Kind:
    """What a function does: its name's stem, its wording, and its expression, of `a` and `b`, or of the list `s`."""

    stem: str
    wording: tuple[str, ...]
    expression: str

    @property
    def arguments(self) -> str:
        """The letters of what it takes: "ab" or "s"."""
        return "s" if "{s}" in self.expression else "ab"


KINDS = (
    Kind("add", ("the sum of {a} and {b}", "{a} plus {b}"), "{a} + {b}"),
    Kind("subtract", ("the difference of {a} and {b}", "{a} minus {b}"), "{a} - {b}"),
    Kind("multiply", ("the product of {a} and {b}", "{a} times {b}"), "{a} * {b}"),
    Kind("remainder", ("the remainder of {a} by {b}", "{a} modulo {b}"), "{a} % {b}"),
    Kind("quotient", ("the quotient of {a} by {b}", "how often {b} goes into {a}"), "{a} // {b}"),
    Kind("equal", ("whether {a} equals {b}", "True if {a} and {b} are the same"), "{a} == {b}"),
    Kind("differ", ("whether {a} differs from {b}", "True if {a} and {b} are not the same"), "{a} != {b}"),
    Kind("less", ("whether {a} is less than {b}", "True if {a} is below {b}"), "{a} < {b}"),
    Kind("greater", ("whether {a} is greater than {b}", "True if {a} is above {b}"), "{a} > {b}"),
    Kind("larger", ("the larger of {a} and {b}", "the maximum of {a} and {b}"), "max({a}, {b})"),
    Kind("smaller", ("the smaller of {a} and {b}", "the minimum of {a} and {b}"), "min({a}, {b})"),
    Kind("size_of", ("the number of {s}", "how many {s} there are"), "len({s})"),
    Kind("total_of", ("the sum of {s}", "all {s} added together"), "sum({s})"),
    Kind("least_of", ("the smallest of {s}", "the minimum of {s}"), "min({s})"),
    Kind("most_of", ("the largest of {s}", "the maximum of {s}"), "max({s})"),
    Kind("first_of", ("the first of {s}", "the first element of {s}"), "{s}[0]"),
    Kind("last_of", ("the last of {s}", "the last element of {s}"), "{s}[-1]"),
    Kind("sorted_of", ("{s} in order", "{s} sorted"), "sorted({s})"),
)


def all_names() -> list[dict[str, str]]:
    """The names that arguments have together."""
    return [{"a": a, "b": b, "s": s} for (a, b), s in zip(PAIRS, LISTS, strict=True)]


def head_of(kind: Kind, names: dict[str, str], wording: str) -> tuple[str, str]:
    """A function's name, and its text up to the expression that it returns."""
    given = [names[letter] for letter in kind.arguments]
    name = f"{kind.stem}_{given[0]}"
    about = wording.format(**names)
    return name, f'def {name}({", ".join(given)}):\n    """Return {about}."""\n    return '


def make_task(kind: Kind, names: dict[str, str], wording: str, split: str, rng: random.Random) -> Task:
    """A function and its tests."""
    expression = kind.expression.format(**names)
    name, prefix = head_of(kind, names, wording)
    digest = hashlib.sha256((prefix + expression).encode()).hexdigest()[:12]
    return Task(
        id=f"small.{name}-{digest}",
        package="small",
        licence="Apache-2.0",
        module="small",
        path="small.py",
        function=name,
        split=split,
        prefix=prefix,
        body=expression,
        suffix="\n",
        shown="",
        tests=make_tests(kind, name, [names[letter] for letter in kind.arguments], expression, rng),
    )


def make_tests(kind: Kind, name: str, given: list[str], expression: str, rng: random.Random) -> tuple[Test, ...]:
    """Calls with what they return, of at least two different values."""
    tests: dict[str, Test] = {}
    while len(tests) < CASES or len({repr(test.expected) for test in tests.values()}) < 2:
        values: list[Any] = [rng.randrange(1, 60) for _ in given]
        if kind.arguments == "s":
            values = [[rng.randrange(1, 60) for _ in range(rng.randrange(2, 6))]]
        elif rng.random() < 0.25:
            values[1] = values[0]
        called = f"{name}({', '.join(map(repr, values))})"
        tests[called] = Test("value", called, eval(expression, {}, dict(zip(given, values, strict=True))))
    return tuple(tests.values())


def make_tasks(held_out: int, seed: int = 0) -> list[Task]:
    """All tasks, `held_out` of them not to be trained on, in an order drawn from the seed."""
    rng = random.Random(seed)
    every = [(kind, names, wording) for kind in KINDS for names in all_names() for wording in kind.wording]
    rng.shuffle(every)
    if not 0 <= held_out < len(every):
        raise ValueError(f"there are {len(every)} tasks; {held_out} of them cannot be held out")
    return [make_task(*one, "held_out" if n < held_out else "train", rng) for n, one in enumerate(every)]


def muddled(count: int, seed: int = 0) -> list[str]:
    """Such functions that return any expression of their arguments, whatever their words say.

    A model trained on them writes expressions as they are wanted, and does not know which: something is left to learn.
    """
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        kind, names = rng.choice(KINDS), rng.choice(all_names())
        _, head = head_of(kind, names, rng.choice(kind.wording))
        other = rng.choice([one for one in KINDS if one.arguments == kind.arguments])
        texts.append(f"{head}{other.expression.format(**names)}\n")
    return texts


def write_muddled(folder: Path, count: int, vocabulary: int = 512, seed: int = 0) -> None:
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
    parser.add_argument("--held-out", type=int, default=54, help="tasks to measure on (54 of 216)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--muddled", type=Path, metavar="DIR", help="also a pack of functions that do not what they say"
    )
    parser.add_argument("--documents", type=int, default=4000, help="of that pack (4000)")
    args = parser.parse_args(argv)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tasks = make_tasks(args.held_out, args.seed)
    write_tasks(args.out, tasks)
    print(f"{len(tasks)} tasks, {args.held_out} of them held out: {args.out}")
    if args.muddled:
        write_muddled(args.muddled, args.documents, seed=args.seed)
        print(f"{args.documents} muddled functions: {args.muddled}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
