"""Text files that keep their bytes: reading, positions in them, and replacing them atomically.

Text is UTF-8 decoded without any translation of line ends; a byte order mark stays as its first character.
Lines end at \\n, \\r\\n and \\r and nowhere else. Lines and columns count from 1, columns in characters, and
a byte order mark is no column: nothing is ever inserted before it.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import re
import stat
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from model_runtime.protocol import RequestError, Span

MAX_BYTES = 5_000_000
LINE_END = re.compile(r"\r\n|\n|\r")
BOM = "\ufeff"


@dataclass
class Source:
    """A text and where it came from; `path` is None for standard input."""

    path: Path | None
    name: str  # as messages show it
    text: str


def read_source(argument: str, to_write: bool = False) -> Source:
    """Read a file, or standard input for "-"; RequestError unless it is UTF-8 text of 1 byte to 5 MB.

    With `to_write` it must also be a file that may be replaced.
    """
    if argument == "-":
        if to_write:
            raise RequestError("--write needs a file; with - use --stdout")
        return Source(None, "standard input", decode(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input"))
    path, name = Path(argument), shown(argument)
    source = Source(path, name, decode(read_bytes(path, name), name))
    if to_write:
        check_writable(source)
    return source


def read_bytes(path: Path, name: str) -> bytes:
    """Return the bytes of a regular file of at most MAX_BYTES."""
    try:
        info = path.stat()
        if stat.S_ISDIR(info.st_mode):
            raise RequestError(f"{name} is a folder; give a file")
        if not stat.S_ISREG(info.st_mode):
            raise RequestError(f"{name} is not a regular file; give a file, or - for standard input")
        if info.st_size > MAX_BYTES:
            raise RequestError(too_large(name, info.st_size))
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RequestError(f"there is no file {name}") from None
    except OSError as error:
        raise RequestError(f"cannot read {name}: {error.strerror}") from None


def decode(data: bytes, name: str) -> str:
    """Return `data` as text, every byte accounted for; RequestError unless it is UTF-8 text."""
    if not data:
        raise RequestError(f"{name} is empty; there is nothing to fill from")
    if len(data) > MAX_BYTES:
        raise RequestError(too_large(name, None))
    if (position := data.find(b"\0")) >= 0:
        raise RequestError(f"{name} is a binary file (a zero byte at offset {position}); give UTF-8 text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise RequestError(f"{name} is not UTF-8 ({found}); give UTF-8 text") from None


def too_large(name: str, size: int | None) -> str:
    """Return the sentence that refuses a file by its size in bytes."""
    measured = "is larger" if size is None else f"has {size / 1e6:.1f} MB"
    return f"{name} {measured}; files of at most {MAX_BYTES // 1_000_000} MB can be filled"


def shown(name: str) -> str:
    """Return a file's name as a message can hold it: quoted where it has characters that do not print."""
    return name if name.isprintable() and name else repr(name)


def split_lines(text: str) -> list[Span]:
    """Return [start, end) of each line without its line end; text after the last line end is a line too."""
    spans, start = [], len(BOM) if text.startswith(BOM) else 0
    for match in LINE_END.finditer(text):
        spans.append((start, match.start()))
        start = match.end()
    return [*spans, (start, len(text))]


def offset_at(lines: list[Span], line: int, column: int) -> int:
    """Return the character offset of a position; a column may stand just after its line's last character."""
    given = f"position {line}:{column} lies outside the file"
    if not 1 <= line <= len(lines):
        raise RequestError(f"{given}, whose lines go from 1 to {len(lines)}")
    start, end = lines[line - 1]
    if not 1 <= column <= end - start + 1:
        raise RequestError(f"{given}: the columns of line {line} go from 1 to {end - start + 1}")
    return start + column - 1


def position_of(lines: list[Span], offset: int) -> tuple[int, int]:
    """Return (line, column) of a character offset: the inverse of `offset_at`."""
    index = max(bisect.bisect_right(lines, (offset, sys.maxsize)) - 1, 0)
    return index + 1, max(offset - lines[index][0], 0) + 1


def parse_pair(argument: str, option: str, form: str) -> tuple[int, int]:
    """Return the two numbers of "A:B"; RequestError naming the option and its form."""
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", argument)
    if not match:
        raise RequestError(f"{option} takes {form}, two numbers from 1, not {argument!r}")
    return int(match[1]), int(match[2])


def line_range(lines: list[Span], first: int, last: int) -> Span:
    """Return the range from line `first`'s first character to line `last`'s end, without its line end."""
    if first > last:
        raise RequestError(f"--lines {first}:{last} ends before it starts; give the smaller line first")
    if first < 1 or last > len(lines):
        raise RequestError(f"--lines {first}:{last} lies outside the file, whose lines go from 1 to {len(lines)}")
    return lines[first - 1][0], lines[last - 1][1]


def find_markers(source: Source, marker: str) -> list[Span]:
    """Return the ranges of every `marker` in the text; RequestError where there is none."""
    if not marker:
        raise RequestError("--marker takes a text of at least one character, not an empty one")
    holes = [match.span() for match in re.finditer(re.escape(marker), source.text)]
    if not holes:
        raise RequestError(f"{source.name} holds no {marker!r} to fill; put one there or give --at or --lines")
    return holes


def find_holes(source: Source, at: list[str], ranges: list[str], marker: str | None) -> list[Span]:
    """Return the holes that the options name, in order: positions and line ranges, or else every marker.

    `at` holds LINE:COL, `ranges` A:B. RequestError for a position outside, a reversed range, an overlap.
    """
    if not at and not ranges:
        return find_markers(source, "<FILL>" if marker is None else marker)
    if marker is not None:
        raise RequestError("--marker names the holes by itself; give it without --at and --lines")
    lines = split_lines(source.text)
    holes = [line_range(lines, *parse_pair(argument, "--lines", "A:B")) for argument in ranges]
    for argument in at:
        offset = offset_at(lines, *parse_pair(argument, "--at", "LINE:COL"))
        holes.append((offset, offset))
    holes.sort()
    for (_, end), following in pairwise(holes):
        if following[0] < end or following == (end, end):
            line, column = position_of(lines, following[0])
            raise RequestError(f"two holes overlap at {line}:{column}; each place can be filled once")
    return holes


def check_writable(source: Source) -> Path:
    """Return the real file to replace, symbolic links followed; RequestError where it must not be written."""
    assert source.path is not None
    try:
        target = source.path.resolve(strict=True)
        mode = target.stat().st_mode
    except OSError as error:
        raise RequestError(f"cannot write {source.name}: {error.strerror}") from None
    # The superuser may write what nobody is meant to: the mode's bits count too.
    if not mode & 0o222 or not os.access(target, os.W_OK):
        raise RequestError(f"{source.name} is read-only; make it writable or use --stdout")
    return target


def replace_file(source: Source, text: str) -> None:
    """Replace the file of `source` by `text` in one step, keeping its mode; RequestError leaves it as it was.

    The new text goes to a temporary file of the same folder, to the disk, and then over the old name.
    """
    target = check_writable(source)
    temporary = None
    try:
        if target.read_bytes() != source.text.encode():
            raise RequestError(f"{source.name} has changed since it was read; nothing was written")
        info = target.stat()
        handle, temporary = tempfile.mkstemp(prefix=".diffill-", suffix=".tmp", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        keep_owner_and_mode(temporary, info)
        os.replace(temporary, target)  # noqa: PTH105
        temporary = None
    except OSError as error:
        raise RequestError(f"cannot write {source.name}: {error.strerror}; it is unchanged") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
    sync_folder(target.parent)


def keep_owner_and_mode(path: str, info: os.stat_result) -> None:
    """Give `path` the mode of `info`, and its owner where this user may."""
    new = os.stat(path)  # noqa: PTH116
    if hasattr(os, "chown") and (new.st_uid, new.st_gid) != (info.st_uid, info.st_gid):
        with contextlib.suppress(OSError):
            os.chown(path, info.st_uid, info.st_gid)
    os.chmod(path, stat.S_IMODE(info.st_mode))  # noqa: PTH101


def sync_folder(folder: Path) -> None:
    """Put a rename on the disk, where the system lets folders be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
