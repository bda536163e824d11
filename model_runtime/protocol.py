"""The words that every part of Diffill shares: requests, results, frames, and how a fill ends.

Offsets count Unicode code points of the decoded text, a byte order mark as one and CRLF as two. Tokens never
leave `model_runtime`; positions of an editor never enter it. The wire uses the same names in JSON.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Literal

End = Literal["complete", "deadline", "cancelled", "superseded", "max_tokens", "empty"]
SAMPLERS = ("threshold", "maskgit_plus", "topk_margin", "entropy", "origin")
TOO_LARGE = 2**63
Span = tuple[int, int]


class DiffillError(Exception):
    """Base of every error that a user is told; its text is one clear sentence."""


class RequestError(DiffillError):
    """A request that cannot be served as written: an option, a position, a hole."""


class ModelError(DiffillError):
    """A model that cannot be found, read or run."""


class OutOfMemory(ModelError):
    """A model that needed more memory than there is."""


@dataclass
class Options:
    """What a fill and a rewrite have in common; the defaults are the product's."""

    length: str = "auto"  # "auto" | "expand" | "search" | "probe" | "fixed:N"
    max_tokens: int = 128  # a hole
    max_lines: int | None = None
    steps: int | None = None  # none: as the sampler needs
    sampler: str = "threshold"
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    alternatives: int = 1
    seed: int = 0
    deadline_ms: float | None = None
    # whose keys and values stay within a fill: those of context and settled tokens, of context, of none
    cache: Literal["on", "context", "off"] = "on"
    expert: Literal["on", "off"] = "on"  # counted n-grams mixed into the candidates, where the model has them
    language: str | None = None  # none: from the path
    path: str | None = None
    related: list[str] | None = None  # other files' texts, for local counts
    frames: bool = False

    def check_options(self) -> None:
        """Raise RequestError with one sentence for the first option out of its range."""
        if not re.fullmatch(r"auto|expand|search|probe|fixed:[1-9][0-9]{0,5}", self.length):
            raise RequestError(f"length is auto, expand, search, probe or fixed:N (N from 1), not {self.length!r}")
        if self.sampler not in SAMPLERS:
            raise RequestError(f"sampler is one of {', '.join(SAMPLERS)}, not {self.sampler!r}")
        if self.cache not in ("on", "context", "off"):
            raise RequestError(f"cache is on, context or off, not {self.cache!r}")
        if self.expert not in ("on", "off"):
            raise RequestError(f"expert is on or off, not {self.expert!r}")
        for name in ("max_tokens", "max_lines", "steps", "alternatives", "top_k", "seed", "deadline_ms"):
            if (getattr(self, name) or 0) >= TOO_LARGE:  # infinity is, too, which JSON cannot say
                raise RequestError(f"{name} is far too large a number")
        for name, low in (
            ("max_tokens", 1),
            ("max_lines", 1),
            ("steps", 1),
            ("alternatives", 1),
            ("top_k", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < low:
                raise RequestError(f"{name} is at least {low}, not {value}")
        if self.seed < 0:
            raise RequestError(f"seed is at least 0, not {self.seed}")
        if not 0 <= self.temperature <= 10:
            raise RequestError(f"temperature lies between 0 and 10, not at {self.temperature}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise RequestError(f"top_p lies above 0 and not above 1, not at {self.top_p}")
        if self.deadline_ms is not None and not self.deadline_ms > 0:
            raise RequestError(f"the time budget is above 0 ms, not {self.deadline_ms}")


@dataclass
class FillRequest(Options):
    """Fill `holes`, half-open character ranges of `text`; an empty range inserts."""

    text: str = ""
    holes: list[Span] = field(default_factory=list)

    def check(self) -> None:
        """Raise RequestError unless the options are in range and the holes sorted, disjoint and inside."""
        self.check_options()
        check_text(self.text)
        if not self.holes:
            raise RequestError("there is no hole to fill")
        previous_end = -1
        for start, end in self.holes:
            check_range(start, end, len(self.text), "a hole")
            if start < previous_end or (start == previous_end and start == end):
                raise RequestError(f"holes overlap or are not in order at character {start}")
            previous_end = end


@dataclass
class RewriteRequest(Options):
    """Write `range` of `text` anew; `strength` is the share of its tokens that may change."""

    text: str = ""
    range: Span = (0, 0)
    strength: float = 1.0
    instruction: str | None = None

    def check(self) -> None:
        """Raise RequestError unless the options, the range and the strength can be served."""
        self.check_options()
        check_text(self.text)
        check_range(*self.range, len(self.text), "the range")
        if self.range[0] == self.range[1]:
            raise RequestError("the range to rewrite is empty")
        if not 0 < self.strength <= 1:
            raise RequestError(f"strength lies above 0 and not above 1, not at {self.strength}")


def check_text(text: str) -> None:
    """Raise RequestError where a text has half a surrogate pair, which no file and no tokenizer can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"the text has half a surrogate pair at character {error.start}") from None


def check_range(start: int, end: int, length: int, what: str) -> None:
    """Raise RequestError unless 0 <= start <= end <= length."""
    if start > end:
        raise RequestError(f"{what} ends before it starts ({start}:{end})")
    if start < 0 or end > length:
        raise RequestError(f"{what} ({start}:{end}) lies outside the text of {length} characters")


@dataclass
class TokenInfo:
    """A token of a hole: offsets into the hole's text, its probability, and the step (from 1) that revealed it.

    What a deadline or a cancel leaves masked shows the last step's best guess, with that step.
    """

    start: int
    end: int
    confidence: float
    step: int


@dataclass
class HoleFill:
    """What came of one hole; `start` and `end` are the hole's range in the request's text."""

    start: int
    end: int
    text: str
    confidence: float  # geometric mean over the tokens
    length_policy: str
    tokens: list[TokenInfo] = field(default_factory=list)


@dataclass
class FrameHole:
    """A hole while it settles: masks show as U+2591, `settled` are the ranges of `text` that are revealed.

    `start` and `end` are the hole's range in the request's text; a rewrite opens parts that only the engine knows.
    `tokens` are what is revealed, token by token; their offsets count in this `text`.
    """

    text: str
    settled: list[Span]
    start: int = 0
    end: int = 0
    tokens: list[TokenInfo] = field(default_factory=list)


@dataclass
class Frame:
    """The canvas after denoising step `step` of about `steps`."""

    step: int
    steps: int
    holes: list[FrameHole]


@dataclass
class FillResult:
    """The best answer, and further ones in `alternatives` (each a list of the same holes)."""

    holes: list[HoleFill]
    alternatives: list[list[HoleFill]]
    end: End
    steps: int
    model: str
    seed: int
    timing_ms: dict[str, float]  # load, encode, denoise, total
    prompt_tokens: int = 0  # of the text around the holes, as far as the model saw it

    def apply(self, text: str) -> str:
        """Return `text` with every hole replaced by its fill."""
        return apply_fills(text, self.holes)


def apply_fills(text: str, holes: list[HoleFill]) -> str:
    """Return `text` with the range of every fill replaced by the fill's text."""
    parts, position = [], 0
    for hole in holes:
        parts += [text[position : hole.start], hole.text]
        position = hole.end
    return "".join([*parts, text[position:]])


def to_json(message: Any) -> dict[str, Any]:
    """Return a dataclass of this module as plain JSON values (tuples become lists)."""
    return dataclasses.asdict(message)
