"""Text and holes become a canvas of tokens, and a canvas becomes text again.

A canvas is context and holes by turns: context 0, hole 0, context 1, … Context never changes; a hole is a list of
cells, masked or settled, and may grow and shrink.

The line ends of the document are read as "\\n" and written as the document has them.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field

from model_runtime.engine.context import between_tokens, first_tokens, last_tokens
from model_runtime.engine.healing import head_to_heal, tail_to_heal
from model_runtime.models.families import ModelFacts
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import Frame, FrameHole, HoleFill, Span, TokenInfo

MASK_SHOWN = "░"
PREFIX_SHARE = 0.75  # of the model's window that goes to the text before a hole


@dataclass
class Cell:
    """A place in a hole: masked (token None), or settled with the probability and the step of its revealing.

    `guess` is the best token of the last step, used for what a deadline leaves masked. `only` are the token ids
    allowed here, where a known piece of text must be kept. `draft` is the token that an earlier fill had here.
    """

    token: int | None = None
    confidence: float = 0.0
    step: int = -1
    guess: int | None = None
    guess_confidence: float = 0.0
    only: tuple[int, ...] | None = None
    draft: int | None = None


@dataclass
class Hole:
    """A hole of the request and its cells; `head` and `tail` are known bytes that the first and last cell repeat."""

    start: int
    end: int
    cells: list[Cell] = field(default_factory=list)
    head: bytes = b""
    tail: bytes = b""
    expansions: int = 0  # how often it grew
    wanted_more: bool = False  # it would have grown beyond its limit

    def free_cells(self) -> int:
        """Cells that are neither head nor tail."""
        return len(self.cells) - bool(self.head) - bool(self.tail)


@dataclass
class Canvas:
    """Context token runs and the holes between them; `len(contexts) == len(holes) + 1`."""

    contexts: list[list[int]]
    holes: list[Hole]
    line_end: str = "\n"

    def masked(self) -> int:
        """How many cells are still masked."""
        return sum(cell.token is None for hole in self.holes for cell in hole.cells)


def build_canvas(
    tokenizer: TextTokenizer,
    facts: ModelFacts,
    text: str,
    ranges: list[Span],
    heal: bool = True,
    open_ends: bool = False,
) -> Canvas:
    """The canvas of `text` with empty holes at `ranges` (sorted, disjoint), cut to the model's window.

    Cells are added by the length policy; healed edges have theirs already. With `open_ends`, a hole's end is healed in
    the midst of a word only: a bracket that the editor closed need not share a token with what will stand before it.
    """
    line_end = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    if line_end == "\r\n":
        plain_ranges = [tuple(at - text.count("\r\n", 0, at) for at in span) for span in ranges]
        text = text.replace("\r\n", "\n")
    else:
        plain_ranges = list(ranges)
    holes: list[Hole] = []
    cuts: list[Span] = []  # the ranges of text that context leaves out: holes and healed pieces
    earliest = 0
    for n, ((start, end), given) in enumerate(zip(plain_ranges, ranges, strict=True)):
        latest = plain_ranges[n + 1][0] if n + 1 < len(ranges) else len(text)
        head = head_to_heal(tokenizer, text, start, end, earliest) if heal else 0
        tail = tail_to_heal(tokenizer, text, end, latest, words=open_ends) if heal else 0
        hole = Hole(*given)
        if head:
            add_known(tokenizer, hole, text[start - head : start], first=True)
        if tail:
            add_known(tokenizer, hole, text[end : end + tail], first=False)
        head, tail = len(hole.head.decode()), len(hole.tail.decode())
        holes.append(hole)
        cuts.append((start - head, end + tail))
        earliest = end + tail
    share = max(64, facts.context_length // len(ranges))
    before, after = int(share * PREFIX_SHARE), share - int(share * PREFIX_SHARE)
    contexts = [last_tokens(tokenizer, text[: cuts[0][0]], before)]
    if facts.bos_id is not None:
        contexts[0].insert(0, facts.bos_id)
    for left, right in itertools.pairwise(cuts):
        contexts.append(between_tokens(tokenizer, text[left[1] : right[0]], after, before))
    contexts.append(first_tokens(tokenizer, text[cuts[-1][1] :], after))
    if not contexts[0] and facts.shift:  # the first mask needs a row before it to be predicted from
        contexts[0] = tokenizer.encode("\n")
    return Canvas(contexts, holes, line_end)


def add_known(tokenizer: TextTokenizer, hole: Hole, piece: str, first: bool) -> None:
    """Add the cell that must begin (or end) with a known piece, unless no token does."""
    data = piece.encode()
    allowed = tokenizer.starting_with(data) if first else tokenizer.ending_with(data)
    if not allowed:
        return
    cell = Cell(only=tuple(allowed))
    if first:
        hole.head = data
        hole.cells.insert(0, cell)
    else:
        hole.tail = data
        hole.cells.append(cell)


def add_masks(hole: Hole, count: int) -> None:
    """Put `count` masks between the head and the tail of an unfilled hole."""
    at = len(hole.cells) - bool(hole.tail)
    hole.cells[at:at] = [Cell() for _ in range(count)]


def settled_tokens(hole: Hole, facts: ModelFacts, guess: bool) -> list[tuple[int, float, int]]:
    """(token, confidence, step) of the cells; with `guess`, masked cells give their best guess if that is text."""
    out = []
    for cell in hole.cells:
        if cell.token is not None:
            out.append((cell.token, cell.confidence, cell.step))
        elif guess and cell.guess is not None and cell.guess not in (facts.expand_id, facts.delete_id):
            out.append((cell.guess, cell.guess_confidence, cell.step))
    return out


def known_lengths(hole: Hole, first: bytes, last: bytes) -> tuple[int, int]:
    """How many bytes of the hole's bytes repeat what stands before and after it."""
    head = len(hole.head) if first.startswith(hole.head) else 0
    tail = len(hole.tail) if last.endswith(hole.tail) else 0
    return head, tail


def hole_fill(
    hole: Hole, tokenizer: TextTokenizer, facts: ModelFacts, policy: str, line_end: str, max_lines: int | None
) -> HoleFill:
    """The text of a hole and its tokens, with the known pieces at its edges taken off again."""
    tokens = settled_tokens(hole, facts, guess=True)
    pieces = [tokenizer.token_bytes[token] for token, _, _ in tokens]
    head, tail = known_lengths(hole, pieces[0], pieces[-1]) if pieces else (0, 0)
    data = b"".join(pieces)
    text, spans = decode_tokens(data, pieces, head, len(data) - tail)
    infos = token_infos(tokens, spans)
    if max_lines is not None:
        text, infos = cut_lines(text, infos, max_lines)
    if line_end != "\n":
        text, infos = with_line_ends(text, infos, line_end)
    return HoleFill(hole.start, hole.end, text, mean_confidence(infos), policy, infos)


def mean_confidence(infos: list[TokenInfo]) -> float:
    """The geometric mean over tokens; 0 without any."""
    logs = [math.log(max(info.confidence, 1e-12)) for info in infos]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0


def token_infos(tokens: list[tuple[int, float, int]], spans: list[Span]) -> list[TokenInfo]:
    """(token, confidence, step) and the characters of each; tokens that share a character become one."""
    infos: list[TokenInfo] = []
    for (_, confidence, step), (start, end) in zip(tokens, spans, strict=True):
        if start == end:
            continue
        if infos and infos[-1].end > start:
            infos[-1].end = max(infos[-1].end, end)
            infos[-1].confidence = min(infos[-1].confidence, confidence)
            infos[-1].step = max(infos[-1].step, step)
        else:
            infos.append(TokenInfo(start, end, confidence, step))
    return infos


def decode_tokens(data: bytes, pieces: list[bytes], start: int, end: int) -> tuple[str, list[Span]]:
    """The characters of `data[start:end]`, bytes that form none left out, and each piece's range of characters.

    A character belongs to every piece that has a byte of it.
    """
    text = ""
    owner: list[Span] = []  # byte range of each character, counted in `data`
    position = start
    while position < end:
        for width in (1, 2, 3, 4):
            try:
                character = data[position : min(position + width, end)].decode()
            except UnicodeDecodeError:
                continue
            text += character
            owner.append((position, position + width))
            position += width
            break
        else:
            position += 1
    spans = []
    byte = 0
    for piece in pieces:
        inside = [n for n, (a, b) in enumerate(owner) if a < byte + len(piece) and b > byte]
        spans.append((inside[0], inside[-1] + 1) if inside else (0, 0))
        byte += len(piece)
    return text, spans


def cut_lines(text: str, infos: list[TokenInfo], max_lines: int) -> tuple[str, list[TokenInfo]]:
    """The first `max_lines` lines of a text, without the last one's line end."""
    lines = text.split("\n")
    if len(lines) <= max_lines:
        return text, infos
    cut = len("\n".join(lines[:max_lines]))
    kept = [info for info in infos if info.start < cut]
    for info in kept:
        info.end = min(info.end, cut)
    return text[:cut], kept


def with_line_ends(text: str, infos: list[TokenInfo], line_end: str) -> tuple[str, list[TokenInfo]]:
    """The text with its newlines written as `line_end`, and the tokens' offsets moved along."""

    def move(offset: int) -> int:
        return len(written(text[:offset], line_end))

    moved = [TokenInfo(move(i.start), move(i.end), i.confidence, i.step) for i in infos]
    return written(text, line_end), moved


def written(text: str, line_end: str) -> str:
    """The text with its line ends written as `line_end`; CRLF that the model wrote itself stays one."""
    return re.sub(r"(?<!\r)\n", line_end, text) if line_end != "\n" else text


def frame(canvas: Canvas, tokenizer: TextTokenizer, facts: ModelFacts, step: int, steps: int) -> Frame:
    """How the holes look now: settled text, and one light block a masked cell."""
    holes = []
    for hole in canvas.holes:
        shown = FrameHole("", [], hole.start, hole.end)
        for masked, cells in itertools.groupby(enumerate(hole.cells), lambda numbered: numbered[1].token is None):
            run = list(cells)
            if masked:
                shown.text += MASK_SHOWN * len(run)
                continue
            tokens = [(cell.token, cell.confidence, cell.step) for _, cell in run if cell.token is not None]
            pieces = [tokenizer.token_bytes[token] for token, _, _ in tokens]
            data = b"".join(pieces)
            # the known pieces at the hole's edges are text that stands there already
            head, tail = known_lengths(hole, pieces[0], pieces[-1])
            start = head if run[0][0] == 0 else 0
            end = len(data) - (tail if run[-1][0] == len(hole.cells) - 1 else 0)
            text, spans = decode_tokens(data, pieces, start, end)
            text, infos = with_line_ends(text, token_infos(tokens, spans), canvas.line_end)
            at = len(shown.text)
            if text:
                shown.settled.append((at, at + len(text)))
            shown.tokens += [TokenInfo(at + one.start, at + one.end, one.confidence, one.step) for one in infos]
            shown.text += text
        holes.append(shown)
    return Frame(step, steps, holes)
