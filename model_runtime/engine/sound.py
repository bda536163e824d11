"""What a rewrite may not break: code that parsed before it parses after it.

Python judges Python, if the file parses as it is; tree-sitter judges the rest, and lets more pass.
"""

from __future__ import annotations

from collections.abc import Callable

from model_runtime.engine.python_syntax import parses
from model_runtime.engine.syntax import parses_no_worse
from model_runtime.protocol import HoleFill, apply_fills

Holes = list[HoleFill]  # sorted, disjoint
LONG = 100_000  # characters: every part is a parse, and of such a file one takes tens of milliseconds


def sound_parts(text: str, holes: Holes, language: str | None) -> Holes:
    """As many of the fills as go together without breaking the syntax; the surest have the first say."""
    sound = judge(text, language)
    if sound(holes):
        return holes
    kept: Holes = []
    for hole in sorted(holes, key=lambda hole: (-hole.confidence, hole.start)):
        wider = sorted([*kept, hole], key=lambda hole: hole.start)
        if sound(wider):
            kept = wider
    return kept


def judge(text: str, language: str | None) -> Callable[[Holes], bool]:
    """A function that tells whether a text parses no worse with fills than without; where nobody can tell, it does."""
    if language is None:
        return lambda holes: True
    if language == "python" and len(text) <= LONG and parses(text):
        return lambda holes: parses(apply_fills(text, holes))
    return lambda holes: parses_no_worse(text, apply_fills(text, holes), language)
