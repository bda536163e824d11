"""Tasks so small that a model of a million parameters solves some: one expression of a documented function is the hole.

Each function does one of a dozen things to its arguments; names and wording are drawn. Held-out tasks have names of
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
        """ "ab" or "s"."""
        return "s" if "{s}" in self.expression else "ab" if "{b}" in self.expression else "a"


KINDS = (
    Kind("add", ("the sum of {a} and {b}", "{a} plus {b}"), "{a} + {b}"),
    Kind("subtract", ("the difference of {a} and {b}", "{a} minus {b}"), "{a} - {b}"),
    Kind("multiply", ("the product of {a} and {b}", "{a} times {b}"), "{a} * {b}"),
    Kind("larger", ("the larger of {a} and {b}", "the maximum of {a} and {b}"), "max({a}, {b})"),
    Kind("smaller", ("the smaller of {a} and {b}", "the minimum of {a} and {b}"), "min({a}, {b})"),
    Kind("equal", ("whether {a} equals {b}", "True if {a} and {b} are the same"), "{a} == {b}"),
    Kind("less", ("whether {a} is less than {b}", "True if {a} is below {b}"), "{a} < {b}"),
    Kind("negate", ("{a} with its sign changed", "the negative of {a}"), "-{a}"),
    Kind("size_of", ("the number of {s}", "how many {s} there are"), "len({s})"),
    Kind("first_of", ("the first of {s}", "the first element of {s}"), "{s}[0]"),
    Kind("last_of", ("the last of {s}", "the last element of {s}"), "{s}[-1]"),
    Kind("total_of", ("the sum of {s}", "all {s} added together"), "sum({s})"),
)


def split_names(names: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Names for training and names for held-out tasks."""
    held = max(2, round(len(names) * HELD_OUT))
    return names[:-held], names[-held:]


def make_task(kind: Kind, wording: str, names: dict[str, str], split: str, rng: random.Random) -> Task:
    """A function and its tests."""
    expression = kind.expression.format(**names)
    given = [names[letter] for letter in kind.arguments]
    name = f"{kind.stem}_{given[0]}"
    prefix = f'def {name}({", ".join(given)}):\n    """Return {wording.format(**names)}."""\n    return '
    tests, seen = [], set()
    while len(tests) < CASES or len(seen) < 2:
        values = [[rng.randrange(-9, 99) for _ in range(rng.randrange(2, 6))] if kind.arguments == "s" else None]
        values = values if kind.arguments == "s" else [rng.randrange(-9, 99) for _ in given]  # type: ignore[misc]
        if kind.stem == "equal" and rng.random() < 0.5:
            values[1] = values[0]
        called = f"{name}({', '.join(map(repr, values))})"
        expected = eval(
            expression, {"max": max, "min": min, "len": len, "sum": sum}, dict(zip(given, values, strict=True))
        )
        if called not in {test.source for test in tests}:
            tests.append(Test("value", called, expected))
            seen.add(repr(expected))
    digest = hashlib.sha256((prefix + expression).encode()).hexdigest()[:12]
    made = Task(
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
        tests=tuple(tests),
    )
    return made


def make_tasks(train: int, held_out: int, seed: int = 0) -> list[Task]:
    """That many different tasks of each split, as evenly over the kinds as can be."""
    rng = random.Random(seed)
    names, lists = split_names(NAMES), split_names(LISTS)
    tasks: dict[str, Task] = {}
    for part, (split, wanted) in enumerate((("train", train), ("held_out", held_out))):
        kept = tries = 0
        while kept < wanted:
            kind = KINDS[tries % len(KINDS)]
            a, b = rng.sample(list(names[part]), 2)
            chosen = {"a": a, "b": b, "s": rng.choice(list(lists[part]))}
            task = make_task(kind, rng.choice(kind.wording), chosen, split, rng)
            tries += 1
            if task.id not in tasks:
                tasks[task.id] = task
                kept += 1
            if tries > 100 * (train + held_out):
                raise ValueError(f"there are not {wanted} different tasks of the split {split}")
    return list(tasks.values())


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.corpus.small_tasks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the jsonl file to write")
    parser.add_argument("--train", type=int, default=400, help="tasks to train on (400)")
    parser.add_argument("--held-out", type=int, default=60, help="tasks to measure on (60)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tasks = make_tasks(args.train, args.held_out, args.seed)
    write_tasks(args.out, tasks)
    print(f"{len(tasks)} tasks, {args.held_out} of them held out: {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
