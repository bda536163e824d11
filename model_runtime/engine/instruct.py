"""A rewrite by instruction: the model answers a prompt, and the code in its answer takes the place of the range.

All of the answer is masked at once and denoised, as the models were trained; one whose rows see no later block
(Stable-DiffCoder) gets block after block, and LLaDA settles block after block. Tokens that end an answer may be chosen
here, and what follows the first of them is left out.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from model_runtime.backends.interface import Backend
from model_runtime.engine.cache import ContextCache
from model_runtime.engine.canvas import MASK_SHOWN, Canvas, Hole, add_masks, hole_fill, mean_confidence, with_line_ends
from model_runtime.engine.chat import aligned, asked, chat_ids, end_ids, fenced, marked, text_of, unmarked
from model_runtime.engine.context import first_tokens, last_tokens
from model_runtime.engine.denoise import Bans, Cancel, Outcome, Settings, denoise
from model_runtime.engine.syntax import language_of
from model_runtime.models.families import ModelFacts
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import FillResult, Frame, FrameHole, HoleFill, RequestError, RewriteRequest

MARGIN = 32  # tokens that an answer may have beyond twice the range's: fences, more lines
SHORT = 64  # tokens of context that must be left beside an answer


@dataclass
class Answer:
    """An answer under way: the prompt's tokens, the hole with the answer, and how it ended."""

    canvas: Canvas
    outcome: Outcome

    @property
    def hole(self) -> Hole:
        """The answer's cells."""
        return self.canvas.holes[0]


def follow(
    backend: Backend,
    tokenizer: TextTokenizer,
    bans: Bans,
    request: RewriteRequest,
    cancel: Cancel | None,
    load_ms: float,
) -> Iterator[Frame | FillResult]:
    """Yield frames, if wanted, and the result: the range anew, or no hole where the answer holds no code.

    RequestError if the model takes no instructions, or the range and its answer are too long for it.
    """
    start = time.perf_counter()
    facts = backend.facts
    if facts.chat is None:
        raise RequestError(f"{facts.name} takes no instruction: it was trained to fill holes, not to follow any")
    text = request.text.replace("\r\n", "\n")
    crlf = request.text.count("\r\n") * 2 > request.text.count("\n")
    first, last = (at - request.text.count("\r\n", 0, at) for at in request.range)
    before, part, after = text[:first], text[first:last], text[last:]
    length = min(request.max_tokens, 2 * len(tokenizer.encode(part))) + MARGIN
    prompt = prompt_ids(tokenizer, facts.context_length - length, facts.chat, request, before, part, after)
    ends = end_ids(tokenizer, facts.chat)
    permitted = copy.copy(bans)
    permitted.lines = bans.lines.copy()
    permitted.lines[:, ends] = 0.0
    answer = Answer(Canvas([prompt, []], [Hole(*request.range)]), Outcome())
    deadline = None if request.deadline_ms is None else start + request.deadline_ms / 1000
    rng = np.random.default_rng(request.seed)
    settings = Settings(
        request, f"fixed:{length}", request.temperature, deadline, cancel, rng, block=facts.reveal_block
    )
    encoded = time.perf_counter()
    line_ends = tokenizer.line_ends
    # of an answer in blocks all but the prompt is computed anew, which is exact: its settled tokens see no later block
    keep_settled = request.cache == "on" and facts.block_length is None
    cache: ContextCache | None = None
    while True:
        add_masks(answer.hole, next_masks(answer, length, facts.block_length))
        cache = cache or ContextCache(backend, answer.canvas, request.cache != "off", keep_settled=keep_settled)
        for _ in denoise(backend, cache, answer.canvas, permitted, settings, answer.outcome, line_ends):
            if request.frames:
                step, left = answer.outcome.steps, answer.canvas.masked()
                yield Frame(step, step + left, [shown(answer, tokenizer, ends, request)])
            if settled_to_end(answer.hole, ends):
                break
        written = len(answer.hole.cells)
        if answer.outcome.end != "complete" or ended(answer.hole, ends) is not None or written >= length:
            break
    fill = code_of(answer, tokenizer, facts, ends, request, (before, part, after), "\r\n" if crlf else "\n")
    changed = fill is not None and fill.text != request.text[slice(*request.range)]
    end = answer.outcome.end
    if end == "complete" and not changed:
        end = "empty"
    elif end == "complete" and ended(answer.hole, ends) is None and "```" not in raw(answer, tokenizer, ends):
        end = "max_tokens"  # it would have gone on
    done = time.perf_counter()
    timing = {"load": load_ms, "encode": (encoded - start) * 1000, "denoise": (done - encoded) * 1000}
    timing["total"] = (done - start) * 1000
    rounded = {name: round(ms, 2) for name, ms in timing.items()}
    holes = [fill] if fill is not None and changed else []
    yield FillResult(holes, [], end, answer.outcome.steps, facts.name, request.seed, rounded, len(prompt))


def prompt_ids(
    tokenizer: TextTokenizer, budget: int, chat: str, request: RewriteRequest, before: str, part: str, after: str
) -> list[int]:
    """The prompt with as much of the file around the range as fits into `budget` tokens; RequestError for none."""
    language = language_of(request.path, request.language) or request.language or ""
    begun = f"```{language}\n"
    bare = len(chat_ids(tokenizer, chat, asked(request.instruction or "", language, "", part, ""), begun))
    left = budget - bare - SHORT
    if left < 0:
        raise RequestError(
            f"the range is too long for the model: {bare} tokens with the instruction, and it takes {budget}"
        )
    near = last_tokens(tokenizer, before, left * 3 // 4)
    far = first_tokens(tokenizer, after, left - len(near))
    around = [tokenizer.decode_bytes(ids).decode(errors="ignore") for ids in (near, far)]
    user = asked(request.instruction or "", language, around[0], part, around[1])
    return chat_ids(tokenizer, chat, user, begun)


def next_masks(answer: Answer, length: int, block: int | None) -> int:
    """How many masks come next: all, or up to the end of a block of positions."""
    if block is None:
        return length
    at = len(answer.canvas.contexts[0]) + len(answer.hole.cells)
    return block - at % block


def ended(hole: Hole, ends: list[int]) -> int | None:
    """The number of the first cell that ends the answer."""
    return next((n for n, cell in enumerate(hole.cells) if cell.token in ends), None)


def settled_to_end(hole: Hole, ends: list[int]) -> bool:
    """Whether the answer has ended and nothing before its end is masked: what is masked behind it does not count."""
    end = ended(hole, ends)
    return end is not None and all(cell.token is not None for cell in hole.cells[:end])


def until_end(answer: Answer, ends: list[int]) -> Hole:
    """The answer's cells before its end; masked ones show a guess, which may be the end too."""
    cells = answer.hole.cells
    stop = next((n for n, cell in enumerate(cells) if (cell.guess if cell.token is None else cell.token) in ends), None)
    return Hole(answer.hole.start, answer.hole.end, cells[:stop])


def raw(answer: Answer, tokenizer: TextTokenizer, ends: list[int]) -> str:
    """The answer as written."""
    cells = until_end(answer, ends).cells
    return tokenizer.decode_bytes([cell.token for cell in cells if cell.token is not None]).decode(errors="ignore")


def shown(answer: Answer, tokenizer: TextTokenizer, ends: list[int], request: RewriteRequest) -> FrameHole:
    """How the answer looks now: what is settled, and a light block for each mask before its end."""
    hole = until_end(answer, ends)
    tokens = [cell.token for cell in hole.cells]
    pieces = [MASK_SHOWN if one is None else tokenizer.decode_bytes([one]).decode(errors="ignore") for one in tokens]
    spans, at = [], 0
    for token, piece in zip(tokens, pieces, strict=True):
        if token is not None and piece:
            spans.append((at, at + len(piece)))
        at += len(piece)
    return FrameHole("".join(pieces), spans, *request.range)


def code_of(
    answer: Answer,
    tokenizer: TextTokenizer,
    facts: ModelFacts,
    ends: list[int],
    request: RewriteRequest,
    around: tuple[str, str, str],
    line_end: str,
) -> HoleFill | None:
    """The range anew from the answer's code; None where it holds none."""
    fill = hole_fill(until_end(answer, ends), tokenizer, facts, "chat", "\n", None)
    characters = aligned(fenced(marked(fill.text, fill.tokens)), *around)
    if not text_of(characters).strip():
        return None
    text, infos = unmarked(characters, fill.tokens)
    if line_end != "\n":
        text, infos = with_line_ends(text, infos, line_end)
    return HoleFill(*request.range, text, mean_confidence(infos), "chat", infos)
