"""What of a document the model gets to see: the text around the holes, cut at line ends to the model's window."""

from __future__ import annotations

from model_runtime.models.tokenizer import TextTokenizer

CHARACTERS_A_TOKEN = 8  # more than any code needs: how far to read before encoding
START_STEPS = 4  # the text before a hole begins at steps of a budget's fourth, counted in characters


def line_cut_start(text: str, start: int) -> int:
    """The start of the first whole line at or after `start`; `start` itself if that is a line's start."""
    if start <= 0 or text[start - 1] == "\n":
        return max(0, start)
    newline = text.find("\n", start)
    return len(text) if newline < 0 else newline + 1


def last_tokens(tokenizer: TextTokenizer, text: str, budget: int) -> list[int]:
    """At most `budget` tokens before a hole, from the start of a line where there is one.

    Where more stands there, the first line is the nearest after a multiple of `budget // START_STEPS` characters of the
    text: whoever types at the hole has nearly always the same first line as a key before, and the encoding of what
    follows it may be kept (`kept.py`). The rule looks at the text alone, so an answer does not depend on earlier ones.
    """
    reach = max(0, len(text) - budget * CHARACTERS_A_TOKEN)
    ids = tokenizer.encode(text[reach:])
    if len(ids) <= budget and not reach:
        return ids
    if not budget:
        return []
    earliest = len(text) - len(tokenizer.decode_bytes(ids[-budget:]).decode(errors="ignore"))
    step = max(1, budget // START_STEPS)
    grid = -(-earliest // step) * step
    start = line_cut_start(text, grid)
    if start >= len(text):  # no line starts within reach: its near part
        start = grid
    return tokenizer.encode(text[start:])[-budget:]


def first_tokens(tokenizer: TextTokenizer, text: str, budget: int) -> list[int]:
    """At most `budget` tokens after a hole, to the end of a line where there is one."""
    ids = tokenizer.encode(text[: budget * CHARACTERS_A_TOKEN])
    if len(ids) <= budget and len(text) <= budget * CHARACTERS_A_TOKEN:
        return ids
    ids = ids[:budget]
    whole = next(
        (n for n in range(len(ids), 0, -1) if tokenizer.decode_bytes(ids[n - 1 : n]).endswith(b"\n")), len(ids)
    )
    return ids[:whole]


def between_tokens(tokenizer: TextTokenizer, text: str, after: int, before: int) -> list[int]:
    """The code between two holes: whole if it fits, else the first `after` and the last `before` tokens of it."""
    if len(text) <= (after + before) * CHARACTERS_A_TOKEN:
        ids = tokenizer.encode(text)
        if len(ids) <= after + before:
            return ids
    return first_tokens(tokenizer, text, after) + last_tokens(tokenizer, text, before)
