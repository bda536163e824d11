"""Whether Python would parse with a fill in its hole, judged quickly: on the smallest stretch of code that tells.

A file that is being written seldom parses as a whole. So the block around the hole is tried first, under a header of
its own, then the blocks around that, then the statement at the margin. A stretch tells if something can stand in the
hole such that it parses. Some things that are commonly left out are tried beforehand; where none of them fits, the
first fill that does fit anywhere shows which stretch tells, and until then nothing is known for certain.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

# what may stand in a hole, the most frequent first: a piece of an expression, a statement, a header, the end of one, …
PROBES = (
    *("pass", "x", "x,", "x(", "if x:", "x:", "@x", "for x in x", "x)", "x(x, x", "if", "x):", "x =", "try", "x = ["),
    *("def x(", "else:", "if x in (", "x.", "=x,", "try:", "except x:", ")", "]", "}", "x=x,", "x: x,", "def x():"),
    *("class x:", "def", "in x", ") -> x:", "for x in", "finally", "else", "import x", "x import", ", x", "= x"),
)
# how a header may end that has been begun; its block may still be missing
ENDS = (":", "():", "x():", "x:", "x in x:", " in x:", " as x:", "x):", ") as x:")
# what a line begins with that has a block under it, and a whole one
HEADERS = {
    **{word: f"{word} x:" for word in ("if", "while", "with", "except", "elif", "class", "match", "case")},
    **{"else": "else:", "try": "try:", "finally": "finally:", "for": "for x in x:", "def": "def x():"},
    "async": "async def x():",
}
HEADER = re.compile(r":\s*(#.*)?$")
WORD = re.compile(rf"(?:{'|'.join(HEADERS)})\b")
ALONE = re.compile(r"(if|while|for|with|def|class|async|match)\b")  # headers that need nothing before them
OUTERMOST = re.compile(r"(?!else\b|elif\b|except\b|finally\b)[\w@]")  # a line at the margin that begins a statement
MOST_LINES = 400  # of a stretch that is parsed again and again
PROBED_LINES = 3000  # of all probes of a stretch: the longer it is, the fewer are tried
OPEN_LINES = 150  # of all stretches together that fills are tried in while none is known to tell


def parses(text: str) -> bool:
    """Whether a text is a Python module; `return` and `await` may stand anywhere."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


class Judge:
    """Tells for a hole between two texts whether a fill parses."""

    def __init__(self, prefix: str, suffix: str):
        self._line = prefix.rpartition("\n")[2]
        self._margin = self._line[: indentation(self._line)]
        self._begun = WORD.match(self._line.strip()) is not None  # the hole is in a header
        rest, _, after = suffix.partition("\n")
        following = next((line for line in after.split("\n") if line.strip()), "")
        # how deep the code goes on below; nothing may stand behind the hole in its line
        self._below = None if rest.strip() else indentation(following)
        probes = (*(f"{end}\n{self._margin} pass" for end in ENDS if self._begun and self._below is not None), *PROBES)
        around = list(stretches(prefix, suffix))
        self._stretch = next((pair for pair in around if tells(*pair, probes)), None)
        self._untried = short(around) if self._stretch is None else []
        self._known: dict[str, bool] = {}
        self._headers = tuple(word for word, whole in HEADERS.items() if self._fits(whole))
        if self._line.strip() or self._fits("pass") or self._fits("x") or self._fits("x,"):
            self._headers = ()  # something else may stand here, too

    @property
    def certain(self) -> bool:
        """Whether what is not accepted cannot be right."""
        return self._stretch is not None

    def accepts(self, fill: str, whole: bool = False) -> bool:
        """Whether Python parses with `fill` in the hole, a lone `#` aside; once true, the judge is certain.

        Unless the fill must be `whole`, a header may lack its block where that is still to be written.
        """
        return fill.strip() != "#" and (self._fits(fill) or (not whole and self._opens(fill)))

    def _opens(self, fill: str) -> bool:
        """Whether a fill ends with a header to which nothing is missing but its block, and the block may be missing."""
        line = f"{self._line}{fill}".rpartition("\n")[2]
        begun = self._begun and "\n" not in fill
        if self._below is None or not HEADER.search(line):
            return False
        own = indentation(line)
        if self._below > own or (self._below == own and not begun):
            return False
        return self._fits(f"{fill}\n{line[:own]} pass")

    def may_begin(self, text: str) -> bool:
        """Whether a fill that parses may begin with `text`: where a block follows, only what heads one."""
        return not self._headers or any(word.startswith(text) or text.startswith(word) for word in self._headers)

    def _fits(self, fill: str) -> bool:
        if fill not in self._known:
            tried = [self._stretch] if self._stretch is not None else self._untried
            found = next((pair for pair in tried if parses(fill.join(pair))), None)
            self._known[fill] = found is not None
            self._stretch = self._stretch or found
        return self._known[fill]


def short(around: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those stretches, from the first, that have no more than OPEN_LINES together."""
    kept, left = [], OPEN_LINES
    for before, after in around:
        lines = before.count("\n") + after.count("\n")
        if lines <= left:
            kept.append((before, after))
            left -= lines
    return kept


def tells(before: str, after: str, probes: tuple[str, ...] = PROBES) -> bool:
    """Whether anything could stand between two texts."""
    lines = before.count("\n") + after.count("\n") + 1
    if lines > MOST_LINES:
        return False
    return any(parses(f"{before}{probe}{after}") for probe in probes[: PROBED_LINES // lines])


def indentation(line: str) -> int:
    """The width of a line's margin."""
    return len(line) - len(line.lstrip(" \t"))


def stretches(prefix: str, suffix: str) -> Iterator[tuple[str, str]]:
    """What stands before and after the hole: in its block, in the blocks around it, in the outermost statement, all."""
    *before, line = prefix.split("\n")
    rest, *after = suffix.split("\n")
    own = indentation(line) if line.strip() else len(line)
    margin, start, end = own, len(before), 0
    while margin:
        while start and within(before[start - 1], margin):
            start -= 1
        while end < len(after) and within(after[end], margin):
            end += 1
        if start and HEADER.search(before[start - 1]):  # else it is no block, but lines within brackets
            yield "\n".join(["if x:", *before[start:], line]), "\n".join([rest, *after[:end], ""])
        margin = indentation(before[start - 1]) if start else 0
    starts = [0, *(n for n, it in enumerate(before) if OUTERMOST.match(it))]
    ends = [n for n, it in enumerate(after) if OUTERMOST.match(it)]
    # where the hole may begin an outermost statement itself, it may also be a decorator of the next
    nth = 0 if own else 1
    end = ends[nth] if len(ends) > nth else len(after)
    yield "\n".join([*before[starts[-1] :], line]), "\n".join([rest, *after[:end], ""])
    yield prefix, suffix
    if ALONE.match(line.strip()) and rest.rstrip().endswith(":"):  # a header, whatever is under it
        yield f"if x:\n{line}" if own else line, f"{rest}\n{line[:own]} pass"


def within(line: str, own: int) -> bool:
    """Whether a line belongs to a block with a margin of `own`."""
    return not line.strip() or indentation(line) >= own
