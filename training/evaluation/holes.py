"""Holes in held-out code: pieces of installed packages that the training corpus never contains.

The packages are read from where they are installed, tests left out; the documents that a corpus keeps for
validation are a second source. A hole is a half-open range of
characters of a file; what stood there is the truth that a predictor is measured against.

- `line`: the content of one code line, without its indentation and its newline.
- `block`: two to five consecutive lines that are whole statements or clauses of one indentation block.
- `span`: two to forty characters within a line, from the start of a lexical token to the end of one.

Comments, docstrings and lines that touch a string over several lines are never part of a hole: what stands
there is prose or data.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import io
import json
import random
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.corpus.pack import load_pack
from training.corpus.tokenizer import load_tokenizer

HELD_OUT = ("more_itertools", "toolz", "boltons")
KINDS = ("line", "block", "span")
LINE_KINDS = ("return", "call", "assignment", "condition", "import", "definition", "other")
MIN_LINE = 4  # characters of a line's content
BLOCK_LINES = (2, 5)
SPAN_CHARACTERS = (2, 40)

_LAYOUT = (
    tokenize.NEWLINE,
    tokenize.NL,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.COMMENT,
)


@dataclass(frozen=True)
class HoldoutHole:
    """`text[start:end]` is the truth; `path` is relative to where the package is installed."""

    package: str
    path: str
    text: str = field(repr=False)
    start: int
    end: int
    kind: str  # one of KINDS
    subkind: str  # one of LINE_KINDS, of the (first) line

    @property
    def prefix(self) -> str:
        """Everything of the file before the hole."""
        return self.text[: self.start]

    @property
    def suffix(self) -> str:
        """Everything of the file after the hole."""
        return self.text[self.end :]

    @property
    def truth(self) -> str:
        """What stood in the hole."""
        return self.text[self.start : self.end]


@dataclass(frozen=True)
class CodeLine:
    """A line of code; `start`, `end` and the tokens' borders are offsets of characters in the file."""

    number: int  # from 0
    indent: int
    start: int
    end: int
    subkind: str
    starts_statement: bool
    ends_statement: bool
    tokens: tuple[tuple[int, int], ...]


def sample_holes(
    packages: Sequence[str] = HELD_OUT, count: int = 1000, seed: int = 0, kinds: Sequence[str] = ("line",)
) -> list[HoldoutHole]:
    """Return holes of the installed `packages`, drawn as `deal_holes` says.

    The same arguments and versions of the packages give the same holes. Raises ValueError for an unknown
    kind, a package that is not installed, or more holes than there are.
    """
    sources = [source for package in packages for source in read_package(package)]
    return deal_holes(sources, count, seed, kinds)


def sample_validation_holes(
    pack: Path, count: int = 1000, seed: int = 0, kinds: Sequence[str] = ("line",)
) -> list[HoldoutHole]:
    """Return holes of the documents that the packed corpus in `pack` keeps from training.

    Constants are chosen on these, so that the held-out packages stay untouched. Errors as in `sample_holes`.
    """
    return deal_holes(read_validation(pack), count, seed, kinds)


def deal_holes(
    sources: Sequence[tuple[str, str, str]], count: int, seed: int, kinds: Sequence[str]
) -> list[HoldoutHole]:
    """Return `count` holes of (package, path, text), dealt evenly over `kinds`, each drawn without replacement."""
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"a kind of hole is one of {', '.join(KINDS)}, not {kind!r}")
    holes: list[HoldoutHole] = []
    for index, kind in enumerate(kinds):
        share = count // len(kinds) + (index < count % len(kinds))
        rng = random.Random(f"{seed}/{kind}")
        pool = [(source, candidate) for source in sources for candidate in candidate_ranges(source[2], kind, rng)]
        if share > len(pool):
            names = ", ".join(dict.fromkeys(package for package, _, _ in sources))
            raise ValueError(f"there are {len(pool)} holes of kind {kind} in {names}, not {share}")
        for (package, path, text), (start, end, subkind) in rng.sample(pool, share):
            holes.append(HoldoutHole(package, path, text, start, end, kind, subkind))
    return holes


def read_package(package: str) -> list[tuple[str, str, str]]:
    """Return (package, path, text) of an installed package's modules, tests left out, sorted by path."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"the held-out package {package} is not installed (pip install 'diffill[train]')")
    root = Path(next(iter(spec.submodule_search_locations)))
    modules = []
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root.parent).parts
        if not any(part.startswith("test") or part == "conftest.py" for part in parts[1:]):
            modules.append((package, "/".join(parts), file.read_text(encoding="utf-8")))
    return modules


def read_validation(pack: Path) -> list[tuple[str, str, str]]:
    """Return (source, path, text) of a packed corpus's validation documents that are modules and no tests."""
    if not (pack / "report.json").exists():
        raise ValueError(f"{pack} holds no packed corpus (python -m training.corpus.build)")
    corpus, tokenizer = load_pack(pack), load_tokenizer(pack / "tokenizer.json")
    listing = json.loads((pack / "documents.json").read_text("utf-8"))
    modules = []
    for index in range(corpus.validation_from, len(corpus)):
        about = listing[index]
        text = tokenizer.decode(corpus.document(index).tolist(), skip_special_tokens=False)
        if about["kind"] == "tests" or not about["path"].endswith(".py"):
            continue
        with contextlib.suppress(SyntaxError, ValueError, tokenize.TokenError):  # written for another Python
            code_lines(text)
            modules.append((about["source"], about["path"], text))
    return modules


def candidate_ranges(text: str, kind: str, rng: random.Random) -> list[tuple[int, int, str]]:
    """Return (start, end, subkind) of every possible hole of `kind`; of spans, one drawn by `rng` a line."""
    lines = code_lines(text)
    if kind == "block":
        return list(_blocks(text, lines))
    long_enough = [line for line in lines if line.end - line.start >= MIN_LINE]
    if kind == "line":
        return [(line.start, line.end, line.subkind) for line in long_enough]
    low, high = SPAN_CHARACTERS
    spans = []
    for line in long_enough:
        pairs = [
            (start, end)
            for start, _ in line.tokens
            for _, end in line.tokens
            if low <= end - start <= high and (start, end) != (line.start, line.end)
        ]
        if pairs:
            spans.append((*rng.choice(pairs), line.subkind))
    return spans


@functools.lru_cache(maxsize=256)
def code_lines(text: str) -> tuple[CodeLine, ...]:
    """Return the lines that hold code alone: no comment, docstring or part of a string over lines."""
    excluded, first, last = set(_prose_rows(text)), set(), set()
    tokens: dict[int, list[tuple[int, int]]] = {}
    nested_strings: list[int] = []  # rows where f-strings that are open began (3.12 splits them into tokens)
    at_start = True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        row, end_row, name = token.start[0] - 1, token.end[0] - 1, tokenize.tok_name[token.type]
        if name.endswith("STRING_START"):
            nested_strings.append(row)
        begin = nested_strings.pop() if name.endswith("STRING_END") else row
        if token.type == tokenize.COMMENT:
            excluded.add(row)
        elif token.type == tokenize.NEWLINE:
            last.add(row)
            at_start = True
        if token.type in _LAYOUT:
            continue
        if at_start:
            first.add(row)
            at_start = False
        if end_row > begin:
            excluded.update(range(begin, end_row + 1))
        elif token.string:
            tokens.setdefault(row, []).append((token.start[1], token.end[1]))

    subkinds = _subkinds(text)
    lines, offset = [], 0
    for number, content in enumerate(text.split("\n")):
        if content.strip() and number not in excluded and number in tokens:
            lines.append(
                CodeLine(
                    number,
                    indent=len(content) - len(content.lstrip()),
                    start=offset + len(content) - len(content.lstrip()),
                    end=offset + len(content.rstrip()),
                    subkind=subkinds.get(number, "other"),
                    starts_statement=number in first,
                    ends_statement=number in last,
                    tokens=tuple((offset + start, offset + end) for start, end in tokens[number]),
                )
            )
        offset += len(content) + 1
    return tuple(lines)


def _blocks(text: str, lines: Sequence[CodeLine]) -> Iterator[tuple[int, int, str]]:
    """Yield runs of whole statements or clauses: none less indented inside, none more right after."""
    indents = {
        number: len(content) - len(content.lstrip())
        for number, content in enumerate(text.split("\n"))
        if content.strip()
    }
    following, after = {}, 0
    for number in sorted(indents, reverse=True):
        following[number] = after  # the indentation of the next line that is not blank
        after = indents[number]
    for index, head in enumerate(lines):
        if not head.starts_statement:
            continue
        for size in range(BLOCK_LINES[0], BLOCK_LINES[1] + 1):
            run = lines[index : index + size]
            if len(run) < size or run[-1].number != head.number + size - 1:
                break
            if any(line.indent < head.indent for line in run):
                break
            if run[-1].ends_statement and following[run[-1].number] <= head.indent:
                yield head.start, run[-1].end, head.subkind


def _prose_rows(text: str) -> Iterator[int]:
    """Yield the rows (from 0) of docstrings and of every other string that is a statement by itself."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from range(node.lineno - 1, (node.end_lineno or node.lineno))


def _subkinds(text: str) -> dict[int, str]:
    """Return the sub-kind of each row (from 0) on which a statement begins: of the outermost one there."""
    found: dict[int, str] = {}
    for node in ast.walk(ast.parse(text)):  # breadth first: the outermost statement of a row comes first
        if isinstance(node, ast.stmt):
            found.setdefault(node.lineno - 1, _subkind(node))
    return found


def _subkind(node: ast.stmt) -> str:
    match node:
        case ast.Return():
            return "return"
        case ast.Expr(value=ast.Call()) | ast.Expr(value=ast.Await(value=ast.Call())):
            return "call"
        case ast.Assign() | ast.AugAssign() | ast.AnnAssign():
            return "assignment"
        case ast.If() | ast.While():
            return "condition"
        case ast.Import() | ast.ImportFrom():
            return "import"
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return "definition"
    return "other"
