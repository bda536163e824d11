"""What a rewrite may not break: code that parsed before it parses after it."""

from __future__ import annotations

from model_runtime.engine.syntax import parses_no_worse
from model_runtime.protocol import HoleFill, apply_fills


def is_sound(text: str, holes: list[HoleFill], language: str | None) -> bool:
    """Whether the text parses no worse with these fills (sorted, disjoint) than it does now."""
    return language is None or parses_no_worse(text, apply_fills(text, holes), language)


def sound_parts(text: str, holes: list[HoleFill], language: str | None) -> list[HoleFill]:
    """As many of the fills as go together without breaking the syntax; the surest have the first say."""
    if is_sound(text, holes, language):
        return holes
    kept: list[HoleFill] = []
    for hole in sorted(holes, key=lambda hole: (-hole.confidence, hole.start)):
        wider = sorted([*kept, hole], key=lambda hole: hole.start)
        if is_sound(text, wider, language):
            kept = wider
    return kept
