"""Tasks so small that a model of a million parameters solves some: one expression of a documented function is the hole.

Each function does one of eighteen things to its arguments; names and wording are drawn. Held-out tasks have names of
functions and arguments that no other task has. The tests are values, computed by the original.

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

HELD_OUT = 0.2  # the share of the names that only held-out tasks have
CASES = 4  # tests of a task; their values differ, so that no constant passes
NAMES = (
    *("value", "other", "count", "total", "start", "stop", "left", "right", "width", "height", "size", "offset"),
    *("index", "limit", "length", "number", "step", "base", "first", "second", "low", "high", "old", "new"),
)
LISTS = ("items", "values", "names", "lines", "parts", "args", "keys", "words", "rows", "data", "nodes", "fields")


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


def split_names(names: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Names for training and names for held-out tasks."""
    held = max(2, round(len(names) * HELD_OUT))
    return names[:-held], names[-held:]


def draw_names(names: Sequence[str], lists: Sequence[str], rng: random.Random) -> dict[str, str]:
    """Names for a function's arguments."""
    a, b = rng.sample(list(names), 2)
    return {"a": a, "b": b, "s": rng.choice(list(lists))}


def head_of(kind: Kind, names: dict[str, str], rng: random.Random) -> tuple[str, str]:
    """A function's name, and its text up to the expression that it returns."""
    given = [names[letter] for letter in kind.arguments]
    name = f"{kind.stem}_{given[0]}"
    about = rng.choice(kind.wording).format(**names)
    return name, f'def {name}({", ".join(given)}):\n    """Return {about}."""\n    return '


def make_task(kind: Kind, names: dict[str, str], split: str, rng: random.Random) -> Task:
    """A function and its tests."""
    expression = kind.expression.format(**names)
    name, prefix = head_of(kind, names, rng)
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


def make_tasks(train: int, held_out: int, seed: int = 0) -> list[Task]:
    """That many different tasks of each split, as evenly over the kinds as can be."""
    rng = random.Random(seed)
    names, lists = split_names(NAMES), split_names(LISTS)
    tasks: dict[str, Task] = {}
    for part, (split, wanted) in enumerate((("train", train), ("held_out", held_out))):
        kept = tries = 0
        while kept < wanted:
            kind = KINDS[tries % len(KINDS)]
            task = make_task(kind, draw_names(names[part], lists[part], rng), split, rng)
            tries += 1
            if task.id not in tasks:
                tasks[task.id] = task
                kept += 1
            if tries > 100 * (train + held_out):
                raise ValueError(f"there are not {wanted} different tasks of the split {split}")
    return list(tasks.values())


def write_muddled(folder: Path, tokenizer: Path, count: int, seed: int = 0) -> None:
    """A pack of such functions that return any expression of their arguments, whatever their words say.

    A model trained on it writes expressions as they are wanted, and does not know which: something is left to learn.
    """
    from tokenizers import Tokenizer

    from training.corpus.clean import Document
    from training.corpus.pack import encode, write_pack
    from training.corpus.sources import SourceFile

    rng = random.Random(seed)
    made = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        names = draw_names(NAMES, LISTS, rng)
        _, head = head_of(kind, names, rng)
        other = rng.choice([one for one in KINDS if one.arguments == kind.arguments])
        text = f"{head}{other.expression.format(**names)}\n"
        made.append(Document(SourceFile("small", f"small/{number}.py", "code", "Apache-2.0", Path("small.py")), text))
    known = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    write_pack(folder, made, count - count // 20, known, list(encode(made, known)), {})


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.corpus.small_tasks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the jsonl file to write")
    parser.add_argument("--train", type=int, default=400, help="tasks to train on (400)")
    parser.add_argument("--held-out", type=int, default=60, help="tasks to measure on (60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--muddled", type=Path, metavar="DIR", help="also a pack of functions that do not what they say"
    )
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="of that pack")
    parser.add_argument("--documents", type=int, default=4000, help="of that pack (4000)")
    args = parser.parse_args(argv)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tasks = make_tasks(args.train, args.held_out, args.seed)
    write_tasks(args.out, tasks)
    print(f"{len(tasks)} tasks, {args.held_out} of them held out: {args.out}")
    if args.muddled:
        if args.tokenizer is None:
            parser.error("--muddled needs --tokenizer")
        write_muddled(args.muddled, args.tokenizer, args.documents, args.seed)
        print(f"{args.documents} muddled functions: {args.muddled}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
