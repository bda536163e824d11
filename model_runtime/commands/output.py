"""What becomes of an answer: a unified diff, the whole text, JSON or the file itself, and a summary."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple, TextIO

from model_runtime.commands.files import Source, position_of, replace_file, split_lines
from model_runtime.protocol import FillResult, HoleFill, RequestError, apply_fills, to_json

CONTEXT = 3  # lines around a change, as diff and git have it
RESET, BOLD, RED, GREEN, CYAN = "\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[36m"
# Characters that would steer a terminal; a carriage return that ends a line does no harm.
STEERING = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n|$)")
NOTHING_BECAUSE = {
    "deadline": "the time budget ended before anything was written",
    "cancelled": "the fill was cancelled before anything was written",
    "superseded": "another request took the place of this one",
}
STOPPED_BY = {
    "deadline": "stopped by the time budget",
    "cancelled": "stopped early",
    "superseded": "stopped by another request",
    "max_tokens": "stopped at the most tokens a hole may get",
}
MANY = 4  # holes from which on the summary tells their confidences together
SHOWN = 100  # characters of a further candidate


def deliver(args: argparse.Namespace, source: Source, result: FillResult, interrupted: bool = False) -> int:
    """Print or write the answer as the options ask and return the exit code.

    An interrupted fill is shown and never written; one with nothing to offer leaves the text as it is.
    """
    offered = result.end != "empty" and any(hole.text for hole in result.holes)
    text = result.apply(source.text) if offered else source.text
    if args.json:
        emit(json.dumps(to_json(result), ensure_ascii=False) + "\n")
    elif args.stdout:
        emit(text)
    elif args.write and offered and not interrupted:
        replace_file(source, text)
    elif offered:
        emit(render_diff(source, result.holes, args.color))
    if interrupted:
        kept = f"; {source.name} is unchanged" if args.write else ""
        tell(f"interrupted, this is the best so far{kept}" if offered else f"interrupted before any text{kept}")
        return 130
    if not offered:
        tell(f"nothing to offer: {NOTHING_BECAUSE.get(result.end, 'the model left every hole empty')}")
        return 1
    notes = ["no change"] if text == source.text else []
    if args.alternatives > 1:
        notes.append(count(len(result.alternatives), "further candidate"))
    tell(", ".join([summary(source, result), *notes]))
    if not (args.json or args.stdout or args.write):
        for number, holes in enumerate(result.alternatives, start=2):
            tell(f"candidate {number}, {candidate(holes)}")
    return 0


def emit(text: str) -> None:
    """Write `text` to stdout byte for byte; RequestError where stdout cannot take it."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RequestError(f"cannot write to standard output: {error.strerror}") from None


def tell(sentence: str) -> None:
    """Print one line to the user on stderr."""
    print("diffill:", sentence, file=sys.stderr, flush=True)


def summary(source: Source, result: FillResult) -> str:
    """Return one line: model, steps, tokens, milliseconds, each hole's confidence, and an early end."""
    tokens = sum(len(hole.tokens) for hole in result.holes)
    parts = [result.model, count(result.steps, "step"), count(tokens, "token")]
    parts.append(f"{result.timing_ms['total']:.0f} ms")
    if len(result.holes) < MANY:
        for hole, place in zip(result.holes, places(source, [hole.start for hole in result.holes]), strict=True):
            parts.append(f"confidence {hole.confidence:.2f}" + (f" at {place}" if len(result.holes) > 1 else ""))
    else:
        sure = [hole.confidence for hole in result.holes]
        parts.append(f"confidence {min(sure):.2f} to {max(sure):.2f} in {len(sure)} places")
    if result.end in STOPPED_BY:
        parts.append(STOPPED_BY[result.end])
    return ", ".join(parts)


def candidate(holes: list[HoleFill]) -> str:
    """Return another candidate on one short line: its least confidence, and its texts parted by bars."""
    text = one_line("  |  ".join(hole.text for hole in holes))
    short = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
    return f"confidence {min(hole.confidence for hole in holes):.2f}: {short}"


def one_line(text: str) -> str:
    """Return `text` on one line: line ends and tabs as their escapes, other control characters visible."""
    return visible(text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t"))


def places(source: Source, offsets: list[int]) -> list[str]:
    """Return each offset as LINE:COL."""
    lines = split_lines(source.text)
    return ["{}:{}".format(*position_of(lines, offset)) for offset in offsets]


def count(number: int, noun: str) -> str:
    """Return "1 step", "2 steps"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def wants_color(stream: TextIO, choice: str) -> bool:
    """Whether to colour what goes to `stream`: as told, else on a terminal unless NO_COLOR is set."""
    if choice != "auto":
        return choice == "always"
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def visible(text: str) -> str:
    """Return `text` with control characters as ^X or <hex>: a terminal shows and does not obey them."""
    return STEERING.sub(lambda m: f"^{chr(ord(m[0]) ^ 64)}" if m[0] < "\x80" else f"<{ord(m[0]):02x}>", text)


def render_diff(source: Source, fills: list[HoleFill], choice: str) -> str:
    """Return the diff that the fills make: exact for a program, coloured and safe for a person."""
    lines = list(unified_diff(source, fills))
    if wants_color(sys.stdout, choice):
        return "".join(colored(visible(line), header=i < 2) for i, line in enumerate(lines))
    return "".join(visible(line) if sys.stdout.isatty() else line for line in lines)


def colored(line: str, header: bool) -> str:
    """Return one line of a diff in the colour of its kind."""
    color = BOLD if header else {"+": GREEN, "-": RED, "@": CYAN}.get(line[0])
    body = line.rstrip("\r\n")
    return f"{color}{body}{RESET}{line[len(body) :]}" if color else line


def unified_diff(source: Source, fills: list[HoleFill]) -> Iterator[str]:
    """Yield what the fills change, line by line, as `patch` and `git apply` read it; nothing if they do not.

    Lines end at \\n alone, as those programs have it.
    """
    old = with_ends(source.text)
    hunks: list[list[Change]] = []
    for change in changes(source.text, old, fills):
        if hunks and change.start - hunks[-1][-1].end <= 2 * CONTEXT:
            hunks[-1].append(change)
        else:
            hunks.append([change])
    if hunks:
        yield f"--- {header_name('a', source)}\n"
        yield f"+++ {header_name('b', source)}\n"
    for hunk in hunks:
        start, end = max(hunk[0].start - CONTEXT, 0), min(hunk[-1].end + CONTEXT, len(old))
        length = end - start + sum(len(change.lines) - (change.end - change.start) for change in hunk)
        new_start = hunk[0].new_start - (hunk[0].start - start)
        yield f"@@ -{line_span(start, end - start)} +{line_span(new_start, length)} @@\n"
        for change in hunk:
            yield from (whole(" " + line) for line in old[start : change.start])
            yield from (whole("-" + line) for line in old[change.start : change.end])
            yield from (whole("+" + line) for line in change.lines)
            start = change.end
        yield from (whole(" " + line) for line in old[start:end])


class Change(NamedTuple):
    """Lines [start, end) of the old text give way to `lines`, which begin at line `new_start` of the new."""

    start: int
    end: int
    new_start: int
    lines: list[str]


def changes(text: str, old: list[str], fills: list[HoleFill]) -> Iterator[Change]:
    """Yield the changes in order; only the lines that a hole touches are compared, however long the text."""
    starts = [0, *accumulate(len(line) for line in old)]
    final = len(old) if text.endswith("\n") else len(old) - 1  # the line of the very last position
    blocks: list[tuple[int, int, list[HoleFill]]] = []  # first and last line, the fills in them
    for fill in fills:
        first, last = (min(bisect_right(starts, at) - 1, final) for at in (fill.start, fill.end))
        if blocks and first <= blocks[-1][1]:
            blocks[-1] = (blocks[-1][0], max(last, blocks[-1][1]), [*blocks[-1][2], fill])
        else:
            blocks.append((first, last, [fill]))
    shift = 0  # lines that the blocks so far have added
    for first, last, inside in blocks:
        begin, end = starts[first], starts[min(last + 1, len(old))]
        moved = [replace(fill, start=fill.start - begin, end=fill.end - begin) for fill in inside]
        before, after = old[first : last + 1], with_ends(apply_fills(text[begin:end], moved))
        for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after).get_opcodes():
            if kind != "equal":
                yield Change(first + i1, first + i2, first + shift + j1, after[j1:j2])
        shift += len(after) - len(before)


def with_ends(text: str) -> list[str]:
    """Return the lines of `text` with their \\n; the last may lack it."""
    pieces = text.split("\n")
    return [piece + "\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def whole(line: str) -> str:
    """Return a line of a diff with the note that a line without a line end needs."""
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def line_span(start: int, length: int) -> str:
    """Return a range of a hunk's header: from line 1, and the line before for an empty one."""
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"


def header_name(side: str, source: Source) -> str:
    """Return a file's name in a diff's header: relative, quoted as git does, a tab after one with spaces."""
    name = "stdin" if source.path is None else source.path.as_posix().lstrip("/")
    name = f"{side}/{name}"
    if re.search(r'[\x00-\x1f\x7f"\\]', name):
        return '"' + re.sub(r'[\x00-\x1f\x7f"\\]', lambda m: f"\\{ord(m[0]):03o}", name) + '"'
    return name + "\t" if " " in name else name
