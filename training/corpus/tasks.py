"""Mines tasks from doctests: a function's body is the hole, one example stays in its docstring, the others are tests.

Needs no download: installed packages with a licence that permits it, CPython's library, or the user's own folder, where
pytest's test functions count as well. Each task is verified in the sandbox: with the original body every test passes,
twice, and with a stub every test fails.
"""

from __future__ import annotations

import ast
import doctest
import hashlib
import json
import random
import re
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console
from rich.progress import track

from model_runtime.protocol import RequestError
from training.corpus import clean, sources
from training.corpus.store import replacing
from training.rewards.pool import RewardPool
from training.rewards.sandbox import Limits
from training.rewards.tests import Reward, Test, infill_reward, run_tests

PARSER = doctest.DocTestParser()
MIN_LINES, MAX_LINES = 2, 40  # of a body
MAX_TESTS = 8  # hidden ones of a task
LIMITS = Limits(seconds=10.0, memory_mb=2048)  # a package's imports are part of every test
STUB = "raise NotImplementedError"
UNSTEADY = ("0x", "random", "time.", "tempfile", "os.getcwd", "socket", "urlopen", "input(")


@dataclass(frozen=True)
class Task:
    """A hole in a file and what must fill it. `prefix` + `body` + `suffix` is the file; split: train or held_out."""

    id: str
    package: str
    licence: str
    module: str
    path: str
    function: str
    split: str
    prefix: str
    body: str
    suffix: str
    shown: str  # the example that stays in the docstring
    tests: tuple[Test, ...]


@dataclass(frozen=True)
class Place:
    """A file to mine: its text, and the folders that it and what it needs are imported from."""

    package: str
    licence: str
    module: str
    path: str
    text: str
    roots: tuple[Path, ...] = ()
    test_files: tuple[str, ...] = ()  # texts of pytest files that may test it


def module_name(path: str) -> str:
    """The dotted name of a file below its import root."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def read(location: Path) -> str | None:
    """The text of a file as it can be mined: decoded, and no longer than a corpus takes."""
    try:
        raw = location.read_bytes()
    except OSError:
        return None
    return clean.decode(raw) if len(raw) <= clean.LIMITS.max_kb * 1000 else None


def installed_places(only: Sequence[str] = ()) -> Iterator[Place]:
    """Files with doctests of the standard library and of allowed installed packages, held-out or not."""
    wanted = {sources.canonical(name) for name in only}
    found, refused = sources.installed()
    found = [*found, *held_out_files()]
    known = {file.source for file in found} | {sources.STANDARD_LIBRARY}
    for name in sorted(wanted - known):
        raise RequestError(f"the package {name} is {refused.get(name, 'not installed')}")
    for file in (*sources.standard_library(), *found):
        if (wanted and file.source not in wanted) or file.kind == "tests":
            continue
        text = read(file.location)
        if text is None or ">>>" not in text:
            continue
        roots: tuple[Path, ...] = ()
        if file.source != sources.STANDARD_LIBRARY:
            roots = (Path(str(file.location)[: -len(file.path) - 1]),)
        yield Place(file.source, file.licence, module_name(file.path), file.path, text, roots)


def held_out_files() -> list[sources.SourceFile]:
    """The sources of the packages that evaluation keeps for itself, where they are installed and licensed."""
    files = []
    for distribution in metadata.distributions():
        name = sources.canonical(distribution.metadata["Name"] or "")
        licence, allowed = sources.licence_of(distribution)
        if name in sources.HELD_OUT and allowed:
            for path in sorted({str(file) for file in distribution.files or () if file.suffix == ".py"}):
                location = Path(str(distribution.locate_file(path)))
                files.append(sources.SourceFile(name, path, sources.kind_of(path), licence, location))
    return files


def folder_places(root: Path) -> Iterator[Place]:
    """Files of the user's own folder, imported from it or from its src, with the folder's pytest files.

    What is installed in this environment can be imported as well.
    """
    from training.corpus.inputs import fits, folder_files

    if not root.is_dir():
        raise RequestError(f"there is no folder {root}")
    base = root / "src" if (root / "src").is_dir() else root
    found = [path for path in folder_files(root) if fits(path, ("*.py",))]
    texts = [read(root / path) for path in found if PurePosixPath(path).name.startswith("test_")]
    test_files = tuple(text for text in texts if text is not None)
    roots = (base.resolve(), Path(sysconfig.get_path("purelib")))
    for path in folder_files(base):
        text = read(base / path) if fits(path, ("*.py",)) and sources.kind_of(path) == "code" else None
        if text is not None and (">>>" in text or test_files):
            yield Place(root.resolve().name, "own", module_name(path), path, text, roots, test_files)


def candidates(place: Place) -> Iterator[Task]:
    """The functions of a file that could be tasks: nothing is verified yet."""
    tree = clean.parse(place.text)
    if tree is None:
        return
    lines = place.text.split("\n")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.decorator_list:
            task = of_function(place, node, lines) or of_tested(place, node, lines)
            if task is not None:
                yield task


def of_tested(place: Place, node: ast.FunctionDef, lines: Sequence[str]) -> Task | None:
    """A task from a function that test functions name: those without arguments, which need no pytest to run."""
    has_docstring = ast.get_docstring(node) is not None
    statements = node.body[1:] if has_docstring else node.body
    tests = tested_by(node.name, place.test_files)
    if not statements or not tests or node.end_lineno is None:
        return None
    head_end = (node.body[0].end_lineno or 0) if has_docstring else statements[0].lineno - 1
    return cut_out(place, node, lines, list(lines[:head_end]), head_end, "", tests)


def tested_by(name: str, test_files: Sequence[str]) -> tuple[Test, ...]:
    """The test functions that say `name`, each as code that runs its file and calls it."""
    tests = []
    word = re.compile(rf"\b{re.escape(name)}\b")
    for text in test_files:
        tree = clean.parse(text) if word.search(text) else None
        for node in tree.body if tree else ():
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test") and not node.decorator_list:
                plain = not (node.args.args or node.args.posonlyargs or node.args.kwonlyargs)
                if plain and word.search(ast.get_source_segment(text, node) or ""):
                    tests.append(Test("run", f"{text}\n{node.name}()\n"))
    return tuple(tests[:MAX_TESTS])


def of_function(place: Place, node: ast.FunctionDef, lines: Sequence[str]) -> Task | None:
    """A task from a function with at least two examples that show something; None where its text cannot be cut."""
    docstring = ast.get_docstring(node, clean=False)
    head = node.body[0]
    if docstring is None or len(node.body) < 2 or node.end_lineno is None or head.end_lineno is None:
        return None
    try:
        examples = PARSER.get_examples(docstring)
    except ValueError:
        return None
    checks = [number for number, example in enumerate(examples) if example.want]
    first = head.end_lineno
    if len(checks) < 2:
        return None
    if docstring.count("\n") != head.end_lineno - head.lineno:
        return None  # an escaped line end: examples cannot be found in the source
    if any(word in docstring for word in UNSTEADY):
        return None
    shown, hidden = checks[0], checks[1 : MAX_TESTS + 1]
    kept = list(lines[:first])
    for example in reversed(examples[shown + 1 :]):
        start = head.lineno - 1 + example.lineno
        count = example.source.count("\n") + example.want.count("\n")
        if not lines[start].lstrip().removeprefix('r"""').removeprefix('"""').startswith(">>>"):
            return None
        if start + count >= first:
            return None  # the closing quotes stand on its last line
        del kept[start : start + count]
    sources_before = [example.source for example in examples]
    tests = tuple(
        Test("display", examples[n].source, examples[n].want, "==", tuple(sources_before[:n]), flags(examples[n]))
        for n in hidden
    )
    return cut_out(place, node, lines, kept, first, f">>> {examples[shown].source}{examples[shown].want}", tests)


def cut_out(
    place: Place,
    node: ast.FunctionDef,
    lines: Sequence[str],
    kept: Sequence[str],
    first: int,
    shown: str,
    tests: tuple[Test, ...],
) -> Task | None:
    """The task whose hole is `lines[first:]` up to the function's end, after the lines `kept`; None for a bad size."""
    statement = node.body[1] if first and first == node.body[0].end_lineno and len(node.body) > 1 else node.body[0]
    follows = min((d.lineno for d in getattr(statement, "decorator_list", ())), default=statement.lineno)
    last = node.end_lineno or 0
    length = sum(bool(line.strip()) for line in lines[first:last])
    if follows <= first or not MIN_LINES <= length <= MAX_LINES or node.lineno > first:
        return None
    digest = hashlib.sha256("\n".join(lines[node.lineno - 1 : last]).encode()).hexdigest()[:12]
    return Task(
        id=f"{place.module}.{node.name}-{digest}",
        package=place.package,
        licence=place.licence,
        module=place.module,
        path=place.path,
        function=node.name,
        split="held_out" if place.package in sources.HELD_OUT else "train",
        prefix="\n".join(kept) + "\n",
        body="\n".join(lines[first:last]),
        suffix="\n" + "\n".join(lines[last:]),
        shown=shown,
        tests=tests,
    )


def flags(example: doctest.Example) -> int:
    """The doctest flags that an example sets; skipped ones cannot be tests and fail their verification."""
    return sum(flag for flag, on in example.options.items() if on)


def stub(task: Task) -> str:
    """A body that does nothing, indented as the original."""
    line = next(line for line in task.body.split("\n") if line.strip())
    return line[: len(line) - len(line.lstrip())] + STUB


def verify(
    task: Task, packages: Sequence[Path], limits: Limits = LIMITS, slot: int = 0, unsafe: bool = False
) -> tuple[Task | None, str]:
    """The task with the tests that the original passes, twice, and the stub fails; or None and why none is left."""
    options: dict[str, Any] = {"limits": limits, "name": task.module, "packages": packages}
    options |= {"slot": slot, "unsafe": unsafe}
    original = task.prefix + task.body + task.suffix
    if clean.parse(original) is None:
        return None, "cannot be cut out"
    tests = list(task.tests)
    stubbed = task.prefix + stub(task) + task.suffix
    for code, wanted, why in (
        (original, True, "original fails"),
        (original, True, "original is not steady"),
        (stubbed, False, "stub passes"),
    ):
        outcomes = run_tests(code, tests, **options)
        tests = [test for test, outcome in zip(tests, outcomes, strict=True) if outcome.passed is wanted]
        if not tests:
            return None, why
    return replace(task, tests=tuple(tests)), ""


def mine(
    places: Iterable[Place],
    limit: int | None = None,
    per_package: int = 50,
    seed: int = 0,
    workers: int = 0,
    unsafe: bool = False,
    limits: Limits = LIMITS,
) -> tuple[list[Task], Counter[str]]:
    """(verified tasks in the order of their ids, counts of candidates, kept and dropped). A seed gives one choice."""
    counts: Counter[str] = Counter()
    groups: defaultdict[str, list[tuple[Task, tuple[Path, ...]]]] = defaultdict(list)
    bodies: set[str] = set()
    for place in places:
        for task in candidates(place):
            counts["candidates"] += 1
            key = " ".join(task.body.split())
            if key in bodies:
                counts["dropped: copy"] += 1
                continue
            bodies.add(key)
            groups[task.package].append((task, place.roots))
    chosen: list[tuple[Task, tuple[Path, ...]]] = []
    for name in sorted(groups):
        group = sorted(groups[name], key=lambda item: item[0].id)
        random.Random(f"{seed}/{name}").shuffle(group)
        counts["dropped: over the package's cap"] += max(0, len(group) - per_package)
        chosen += group[:per_package]
    random.Random(seed).shuffle(chosen)
    if limit is not None:
        counts["dropped: over the limit"] += max(0, len(chosen) - limit)
        chosen = chosen[:limit]
    with RewardPool(workers, unsafe) as pool:
        done = pool.map(verify, [(*item, limits) for item in chosen])
        out = Console(stderr=True)
        shown = track(done, "verify", len(chosen), console=out, transient=True, disable=not out.is_terminal)
        verified = list(shown)
    tasks = sorted((task for task, _ in verified if task is not None), key=lambda task: task.id)
    counts.update(f"dropped: {why}" for _, why in verified if why)
    counts["kept"] = len(tasks)
    return tasks, +counts


def write_tasks(path: Path, tasks: Sequence[Task]) -> None:
    """Writes tasks as jsonl, in one step."""
    with replacing(path) as file:
        for task in tasks:
            file.write((json.dumps(asdict(task), ensure_ascii=False) + "\n").encode())


def read_tasks(path: Path) -> list[Task]:
    """The tasks of a jsonl file; RequestError names the line that is none."""
    tasks = []
    try:
        lines = path.read_text("utf-8").split("\n")  # a task may hold other line ends
    except OSError as error:
        raise RequestError(f"the tasks {path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            tests = tuple(Test(**test | {"before": tuple(test["before"])}) for test in values.pop("tests"))
            tasks.append(Task(**values, tests=tests))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RequestError(f"{path}, line {number} is no task: {error}") from error
    return tasks


def task_reward(
    task: Task, fill: str, packages: Sequence[Path] = (), limits: Limits = LIMITS, **options: Any
) -> Reward:
    """The reward of a filling of a task's hole: its form, and the share of hidden tests passed."""
    return infill_reward(
        task.prefix, fill, task.suffix, task.tests, limits=limits, name=task.module, packages=packages, **options
    )
