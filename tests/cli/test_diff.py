"""The printed diff: what patches by it gets exactly the filled file."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.commands.files import Source
from model_runtime.commands.output import header_name, render_diff, unified_diff, visible, wants_color
from model_runtime.protocol import HoleFill, apply_fills

PIECES = ["a", "b", "\n", "\n", "\n", "x\n", "y\n", "same\n" * 5, "\r\n", "\r", "- b\n"]


def fill(start, end, text):
    return HoleFill(start, end, text, 1.0, "fixed")


def source(text, name="it.py"):
    return Source(Path(name), name, text)


def lines_of(text):
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def patched(text, diff):
    """Apply a unified diff strictly: every number, count and line of context must be right."""
    old, new, position, hunks = lines_of(text), [], 0, []
    for line in lines_of(diff)[2:]:
        if header := re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@\n", line):
            hunks.append(([int(number or 1) for number in header.groups()], []))
        elif line == "\\ No newline at end of file\n":
            hunks[-1][1][-1] = hunks[-1][1][-1][:-1]
        else:
            hunks[-1][1].append(line)
    for (old_start, old_count, new_start, new_count), body in hunks:
        before = [line[1:] for line in body if line[0] in " -"]
        after = [line[1:] for line in body if line[0] in " +"]
        start = old_start - (old_count > 0)
        new += old[position:start]
        assert len(new) == new_start - (new_count > 0)
        assert (len(before), len(after)) == (old_count, new_count)
        assert old[start : start + old_count] == before
        new += after
        position = start + old_count
    return "".join(new + old[position:])


@st.composite
def texts_with_fills(draw):
    text = "".join(draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=30)))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    fills = []
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        new = "".join(draw(st.lists(st.sampled_from(PIECES), max_size=3)))
        fills.append(fill(start, draw(st.sampled_from([start, end])), new))
    return text, fills


@given(texts_with_fills())
def test_patching_by_the_diff_gives_the_filled_text(case):
    text, fills = case
    new = apply_fills(text, fills)
    diff = "".join(unified_diff(source(text), fills))
    assert (diff == "") == (new == text)
    assert patched(text, diff) == new


@pytest.mark.parametrize(
    ("text", "fills"),
    [
        ("a\nb\n", [fill(0, 0, "new\n")]),
        ("a\nb", [fill(3, 3, "c\nd")]),
        ("a\nb", [fill(1, 3, "\n")]),
        ("a\r\nb\r\n", [fill(3, 4, "B\r\nC")]),
        ("\ufeffa\n" + "x\n" * 30 + "end", [fill(1, 2, "é"), fill(65, 65, "!")]),
        ("-- a\n++ b\n", [fill(0, 9, "-- c")]),
        ("a\n", [fill(0, 2, "")]),
    ],
)
@pytest.mark.parametrize("name", ["it.py", "folder/with space.py", 'quo"te.py'])
def test_git_applies_the_diff(tmp_path, text, fills, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    diff = "".join(unified_diff(source(text, name), fills))
    command = ["git", "-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", "-"]
    done = subprocess.run(command, cwd=tmp_path, input=diff.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert (path.read_bytes() if path.exists() else b"") == apply_fills(text, fills).encode()


def test_the_name_in_a_header_is_relative():
    assert header_name("a", source("x", "/tmp/it.py")) == "a/tmp/it.py"
    assert header_name("b", source("x", "./it.py")) == "b/it.py"
    assert header_name("a", Source(None, "standard input", "x")) == "a/stdin"


def test_colours_follow_the_kind_of_a_line():
    diff = render_diff(source("-- old\nsame\r\n"), [fill(3, 6, "new")], "always")
    assert diff == (
        "\x1b[1m--- a/it.py\x1b[0m\n\x1b[1m+++ b/it.py\x1b[0m\n\x1b[36m@@ -1,2 +1,2 @@\x1b[0m\n"
        "\x1b[31m--- old\x1b[0m\n\x1b[32m+-- new\x1b[0m\n same\r\n"
    )


def test_a_terminal_is_never_steered():
    assert visible("\x1b[2J\x07a\x9b\rb\tc\r\n") == "^[[2J^Ga<9b>^Mb\tc\r\n"
    assert "\x1b[2J" not in render_diff(source("a\n"), [fill(0, 1, "\x1b[2J")], "always")
    assert "\x1b[2J" in render_diff(source("a\n"), [fill(0, 1, "\x1b[2J")], "never")


@pytest.mark.parametrize(
    ("choice", "terminal", "environment", "expected"),
    [
        ("auto", True, {}, True),
        ("auto", False, {}, False),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"NO_COLOR": ""}, True),
        ("auto", True, {"TERM": "dumb"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {}, False),
    ],
)
def test_colour_is_for_terminals_unless_told(monkeypatch, choice, terminal, environment, expected):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert wants_color(sys.stdout, choice) is expected
