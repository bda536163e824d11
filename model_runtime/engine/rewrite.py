"""Which parts of a range a rewrite may change.

At strength 1 the whole range becomes one hole. Below it, every token of the range is scored given all others: two
passes with complementary random masks (each token is masked in exactly one), as coupled-GRPO estimates likelihoods
(arXiv 2506.20639). The least likely share of the tokens is opened; neighbours form one hole.
"""

from __future__ import annotations

import math

import numpy as np

from model_runtime.backends.interface import Backend
from model_runtime.engine.cache import ContextCache, lay_out
from model_runtime.engine.canvas import Cell, build_canvas, decode_tokens
from model_runtime.engine.denoise import Bans
from model_runtime.engine.kept import KeptContext
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import RewriteRequest, Span


def parts_to_rewrite(
    backend: Backend, tokenizer: TextTokenizer, bans: Bans, request: RewriteRequest, kept: KeptContext | None = None
) -> tuple[list[Span], list[int]]:
    """The holes (character ranges, sorted and disjoint) that a rewrite opens, and how many tokens stand in each."""
    start, end = request.range
    plain, origin = plain_text(request.text[start:end], start)
    tokens = tokenizer.encode(plain)
    if request.strength == 1:
        return [(start, end)], [len(tokens)]
    scores = token_scores(backend, tokenizer, bans, request, tokens, kept)
    count = math.ceil(request.strength * len(tokens))
    opened = set(np.argsort(scores, kind="stable")[:count].tolist())
    pieces = [tokenizer.token_bytes[token] for token in tokens]
    _, spans = decode_tokens(b"".join(pieces), pieces, 0, sum(map(len, pieces)))
    open_spans = runs([spans[n] for n in sorted(opened)])
    counts = [sum(a <= spans[n][0] < b for n in opened) for a, b in open_spans]
    return [(origin[a], origin[b]) for a, b in open_spans], counts


def plain_text(text: str, start: int) -> tuple[str, list[int]]:
    """The text with CRLF as one newline, and where each of its characters (and its end) stands in the document."""
    plain, origin = "", []
    for offset, character in enumerate(text):
        if character == "\r" and text[offset + 1 : offset + 2] == "\n":
            continue
        before = character == "\n" and text[offset - 1 : offset] == "\r" and offset > 0
        plain += character
        origin.append(start + offset - before)
    return plain, [*origin, start + len(text)]


def runs(spans: list[Span]) -> list[Span]:
    """Sorted spans with neighbours joined and empty ones (pieces of characters) left out."""
    out: list[Span] = []
    for a, b in spans:
        if a == b:
            continue
        if out and a <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], b))
        else:
            out.append((a, b))
    return out


def token_scores(
    backend: Backend,
    tokenizer: TextTokenizer,
    bans: Bans,
    request: RewriteRequest,
    tokens: list[int],
    kept: KeptContext | None,
) -> np.ndarray:
    """Log-probability of each token of the range given the others, from two complementary masked passes."""
    first = np.random.default_rng(request.seed).random(len(tokens)) < 0.5
    scores = np.zeros(len(tokens))
    canvas = build_canvas(tokenizer, backend.facts, request.text, [request.range], heal=False)
    for masked in (first, ~first):
        where = np.flatnonzero(masked)
        if len(where) == 0:
            continue
        canvas.holes[0].cells = [Cell(None if hide else token) for token, hide in zip(tokens, masked, strict=True)]
        layout = lay_out(canvas, backend.facts)
        cache = ContextCache(backend, canvas, enabled=True, kept=kept)
        targets = np.array([[tokens[n] for n in where]], np.int64)
        candidates = cache.step([layout], bans.lines, [[bans.fixed] * len(where)], targets_BR=targets)
        assert candidates.target_log_probs_BR is not None
        scores[where] = candidates.target_log_probs_BR[0]
    return scores
