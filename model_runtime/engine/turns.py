"""Several holes by search: one after the other, each with the texts of those before it in place.

A search asks for the next token of one hole. While it runs, the holes behind it are empty: what stands in them later
tells it little (docs/decoding.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from model_runtime.engine.canvas import MASK_SHOWN
from model_runtime.protocol import End, FillRequest, FillResult, Frame, FrameHole, HoleFill, TokenInfo

Stream = Callable[[FillRequest], Iterator[Frame | FillResult]]


def in_turn(request: FillRequest, stream_one: Stream) -> Iterator[Frame | FillResult]:
    """The frames and the result of a request with several holes, from streams of requests with one."""
    began, steps = time.perf_counter(), 0
    done: list[HoleFill] = []
    results: list[FillResult] = []
    for start, end in request.holes:
        if results and results[-1].end in ("cancelled", "deadline"):
            done.append(HoleFill(start, end, "", 0.0, "search"))
            continue
        for message in stream_one(alone(request, done, began)):
            if isinstance(message, FillResult):
                results.append(message)
                continue
            hole = message.holes[0]
            now = replace(hole, start=start, end=end, tokens=later(hole.tokens, steps))
            waiting = [FrameHole(MASK_SHOWN, [], *other) for other in request.holes[len(done) + 1 :]]
            shown = [*map(settled, done), now, *waiting]
            yield Frame(steps + message.step, steps + message.steps, shown)
        fill = results[-1].holes[0]
        done.append(replace(fill, start=start, end=end, tokens=later(fill.tokens, steps)))
        steps += results[-1].steps
    timing = {name: round(sum(one.timing_ms[name] for one in results), 2) for name in results[0].timing_ms}
    timing["load"] = results[0].timing_ms["load"]
    seen = max(one.prompt_tokens for one in results)
    yield FillResult(done, [], end_of(results), steps, results[0].model, request.seed, timing, seen)


def alone(request: FillRequest, done: list[HoleFill], began: float) -> FillRequest:
    """The request for the hole after those that are done; `began` is when the first one was."""
    text, position = "", 0
    holes = []
    for n, (start, end) in enumerate(request.holes):
        text += request.text[position:start]
        if n < len(done):
            text += done[n].text
        elif n == len(done):
            holes.append((len(text), len(text) + end - start))
            text += request.text[start:end]
        position = end
    left = request.deadline_ms
    if left is not None:
        left = max(1.0, left - (time.perf_counter() - began) * 1000)
    return replace(request, text=text + request.text[position:], holes=holes, deadline_ms=left)


def later(tokens: list[TokenInfo], steps: int) -> list[TokenInfo]:
    """The tokens, revealed so many steps later."""
    return [replace(token, step=token.step + steps) for token in tokens]


def settled(fill: HoleFill) -> FrameHole:
    """A hole that is done, as frames show it."""
    return FrameHole(fill.text, [(0, len(fill.text))] if fill.text else [], fill.start, fill.end, fill.tokens)


def end_of(results: list[FillResult]) -> End:
    """How several fills ended: as the first that was stopped or cut, empty if all are."""
    ends = [one.end for one in results]
    for end in ("cancelled", "deadline", "max_tokens", "complete"):
        if end in ends:
            return end
    return ends[0]
