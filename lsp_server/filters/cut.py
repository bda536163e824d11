"""Change the text of a fill and take its tokens along.

A token keeps its confidence and step; its range follows the text. A token that loses all of its text is gone. The
fill's confidence is that of the tokens that are left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from model_runtime.protocol import HoleFill, Span, TokenInfo, apply_fills

LEAST_CONFIDENCE = 1e-12  # stands for a confidence of 0, whose logarithm does not exist
Edit = tuple[int, int, str]  # [start, end) of the fill's text, and what replaces it


def cut(fill: HoleFill, start: int = 0, end: int | None = None) -> HoleFill:
    """The fill with only [start, end) of its text; the same object where that is all of it."""
    end = len(fill.text) if end is None else end
    assert 0 <= start <= end <= len(fill.text)
    return edit(fill, [(0, start, ""), (end, len(fill.text), "")])


def cut_tail(fill: HoleFill, end: int) -> HoleFill:
    """The fill up to `end`, and without the white space before it."""
    return cut(fill, 0, len(fill.text[:end].rstrip()))


def edit(fill: HoleFill, edits: Iterable[Edit]) -> HoleFill:
    """The fill with each range replaced; `edits` are disjoint and in order. The same object where nothing changes."""
    edits = [(start, end, text) for start, end, text in edits if fill.text[start:end] != text]
    if not edits:
        return fill
    parts, position = [], 0
    for start, end, text in edits:
        parts += [fill.text[position:start], text]
        position = end
    text = "".join([*parts, fill.text[position:]])
    tokens = carry(fill.tokens, edits)
    return replace(fill, text=text, tokens=tokens, confidence=mean_confidence(tokens, fill.confidence))


def carry(tokens: Sequence[TokenInfo], edits: Sequence[Edit]) -> list[TokenInfo]:
    """Tokens with their ranges after the edits; those without text are left out."""
    carried, index, shift = [], 0, 0
    for token in tokens:
        while index < len(edits) and edits[index][1] <= token.start:
            shift += len(edits[index][2]) - (edits[index][1] - edits[index][0])
            index += 1
        start = move(token.start, edits[index:], shift)
        end = move(token.end, edits[index:], shift)
        if start < end:
            carried.append(replace(token, start=start, end=end))
    return carried


def move(offset: int, edits: Sequence[Edit], shift: int) -> int:
    """Where an offset lies after the edits from here on; inside a replaced range, at the replacement's end."""
    for start, end, text in edits:
        if offset <= start:
            break
        if offset < end:
            return start + shift + len(text)
        shift += len(text) - (end - start)
    return offset + shift


def mean_confidence(tokens: Sequence[TokenInfo], otherwise: float) -> float:
    """Geometric mean of the tokens' confidences; `otherwise` without tokens."""
    if not tokens:
        return otherwise
    return math.exp(math.fsum(math.log(max(token.confidence, LEAST_CONFIDENCE)) for token in tokens) / len(tokens))


def join(text: str, span: Span, fills: Sequence[HoleFill]) -> HoleFill:
    """One fill of `span` that says what `fills`, disjoint and in order within it, make of it.

    Text between the fills is in it as it was, without tokens.
    """
    start, end = span
    moved = [replace(fill, start=fill.start - start, end=fill.end - start) for fill in fills]
    tokens, shift = [], 0
    for fill in moved:
        offset = fill.start + shift
        tokens += [replace(t, start=t.start + offset, end=t.end + offset) for t in fill.tokens]
        shift += len(fill.text) - (fill.end - fill.start)
    policy = fills[0].length_policy if fills else "none"
    joined = apply_fills(text[start:end], moved)
    return HoleFill(start, end, joined, mean_confidence(tokens, 1.0), policy, tokens)
