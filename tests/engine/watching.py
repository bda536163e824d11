"""Fills looked at after every step, and what holds for each of them."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import strategies as st

from model_runtime.engine import fills
from model_runtime.engine.canvas import MASK_SHOWN, Canvas
from model_runtime.protocol import SAMPLERS, FillRequest, FillResult

PIECES = (
    "def f(x):",
    "    return area",
    "print_area",
    " self.value += amount",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "        ",
    "\ufeff",
    "e\u0301",
    "größer",
    "🙂",
    "👩‍👩‍👧",
    "<|mask|>",
    "░",
    "\x00",
    "= 100",
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.lists(st.sampled_from([*PIECES[:5], "\r\n"]), max_size=14).map(lambda lines: "\r\n".join(lines)),
)


@st.composite
def requests(draw, **fixed):
    """A FillRequest that can be served: some holes in some text, and options over their whole range."""
    text = draw(TEXTS)
    edges = sorted(draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=8)))
    holes: list[tuple[int, int]] = []
    for start, end in zip(edges[::2], edges[1::2], strict=False):
        if not holes or start > holes[-1][1] or (start == holes[-1][1] and end > start):
            holes.append((start, end))
    options = {
        "length": draw(st.sampled_from(["auto", "expand", "fixed:1", "fixed:5", "fixed:12"])),
        "max_tokens": draw(st.sampled_from([1, 2, 7, 10])),
        "max_lines": draw(st.sampled_from([None, None, 1, 2])),
        "steps": draw(st.sampled_from([None, 1, 2, 5])),
        "sampler": draw(st.sampled_from(SAMPLERS)),
        "temperature": draw(st.sampled_from([0.0, 0.0, 0.3, 1.0, 10.0])),
        "top_p": draw(st.sampled_from([None, 0.1, 0.9, 1.0])),
        "top_k": draw(st.sampled_from([None, 1, 3, 500])),
        "seed": draw(st.integers(0, 3)),
        "cache": draw(st.sampled_from(["on", "off"])),
        "frames": True,
    }
    return FillRequest(text=text, holes=holes, **options | fixed)


class Watched:
    """A fill that is looked at after every step: its canvases, frames and result."""

    def __init__(self, engine, request, cancel=None):
        self.frames, self.result, self.canvas = [], None, None
        self.settled: dict[int, int] = {}
        denoise = fills.denoise

        def watched(*arguments, **named):
            canvas = next(a for a in arguments if isinstance(a, Canvas))
            self.canvas, self.settled = canvas, {}
            for step in denoise(*arguments, **named):
                self.look(request, engine)
                yield step

        with mock.patch.object(fills, "denoise", watched):
            for message in engine.stream(request, cancel):
                if isinstance(message, FillResult):
                    assert self.result is None
                    self.result = message
                else:
                    self.frames.append(message)

    def cells(self):
        return [cell for hole in self.canvas.holes for cell in hole.cells]

    def look(self, request, engine):
        """What holds between two steps."""
        cells = {id(cell): cell for cell in self.cells()}
        for known, token in self.settled.items():
            if known in cells:
                assert cells[known].token == token, "a settled token changed"
            else:
                assert request.max_lines is not None, "a settled token went away"
        self.settled = {known: cell.token for known, cell in cells.items() if cell.token is not None}
        text_ids = set(engine.tokenizer.text_ids)
        for cell in cells.values():
            assert cell.token is None or cell.token in text_ids
            assert cell.only is None or cell.token is None or cell.token in cell.only
        for hole in self.canvas.holes:
            assert hole.free_cells() <= request.max_tokens


def check_result(request, result):
    """What a result owes its request."""
    text = request.text
    assert [(hole.start, hole.end) for hole in result.holes] == list(map(tuple, request.holes))
    applied, position, shift = result.apply(text), 0, 0
    for hole in result.holes:  # outside, character by character
        assert applied[position + shift : hole.start + shift] == text[position : hole.start]
        assert applied[hole.start + shift : hole.start + shift + len(hole.text)] == hole.text
        position, shift = hole.end, shift + len(hole.text) - (hole.end - hole.start)
    assert applied[position + shift :] == text[position:]
    for hole in result.holes:
        end = 0
        for token in hole.tokens:
            assert end <= token.start < token.end
            assert token.start == end, "tokens leave no gap"
            assert 0 < token.confidence <= 1
            assert -1 <= token.step <= result.steps
            end = token.end
        assert end == len(hole.text)
        assert 0 <= hole.confidence <= 1
        if hole.tokens:
            logs = [np.log(token.confidence) for token in hole.tokens]
            assert hole.confidence == pytest.approx(float(np.exp(np.mean(logs))))
        if request.max_lines is not None:
            assert hole.text.count("\n") < request.max_lines
        hole.text.encode()
    assert result.alternatives == []
    assert result.seed == request.seed
    assert set(result.timing_ms) == {"load", "encode", "denoise", "total"}
    if request.steps is not None:
        assert result.steps <= request.steps


def check_frames(request, frames, result):
    """Frames follow one another and lead to the result."""
    assert [frame.step for frame in frames] == list(range(1, result.steps + 1))
    for frame in frames:
        assert frame.steps >= frame.step
        assert len(frame.holes) == len(request.holes)
        for hole in frame.holes:
            end = 0
            for start, stop in hole.settled:
                assert end <= start < stop <= len(hole.text)
                assert set(hole.text[end:start]) <= {MASK_SHOWN}
                end = stop
            assert set(hole.text[end:]) <= {MASK_SHOWN}
            covered = [n for token in hole.tokens for n in range(token.start, token.end)]
            assert covered == [n for start, stop in hole.settled for n in range(start, stop)]
            assert all(0 <= token.confidence <= 1 and 1 <= token.step <= frame.step for token in hole.tokens)
    if not frames or request.max_lines is not None:
        return
    for shown, hole in zip(frames[-1].holes, result.holes, strict=True):
        if result.end in ("complete", "max_tokens", "empty"):
            assert shown.text == hole.text
        position = 0
        for start, stop in shown.settled:
            position = hole.text.index(shown.text[start:stop], position) + stop - start


class CancelAfter:
    """Set from the given check on."""

    def __init__(self, checks):
        self.checks = checks

    def is_set(self):
        self.checks -= 1
        return self.checks < 0


class Clock:
    """time.perf_counter that goes on by a millisecond a look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.001
        return self.now
