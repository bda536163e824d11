"""Running a request from the command line: a keyboard interrupt cancels it, --trace shows it settle."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from model_runtime.backends.loading import Loading, loading_of
from model_runtime.commands.files import Source
from model_runtime.commands.output import one_line, places, visible, wants_color
from model_runtime.protocol import FillRequest, FillResult, Frame, FrameHole, HoleFill, RewriteRequest, Span

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

# The least confidence of a colour, from the sure to the doubtful.
SHADES = ((0.9, "green"), (0.6, "yellow"), (0.0, "red"))


class FillEngine(Protocol):
    """What a command needs of an engine."""

    def fill(self, request: FillRequest | RewriteRequest, cancel: threading.Event | None = None) -> FillResult:
        """Return the answer."""

    def stream(
        self, request: FillRequest | RewriteRequest, cancel: threading.Event | None = None
    ) -> Iterator[Frame | FillResult]:
        """Yield frames, and the answer last."""


def load_engine(model: str, backend: str, loading: Loading | None = None) -> FillEngine:
    """Return the engine for a model's name or folder; what it needs is imported now and not before."""
    from model_runtime.engine.engine import Engine

    return Engine.load(model, backend, loading=loading)


def loaded(args: argparse.Namespace, load: Callable[..., FillEngine]) -> FillEngine:
    """The engine that a command's options ask for."""
    loading = loading_of(args)
    return load(args.model, args.backend) if loading is None else load(args.model, args.backend, loading)


def run_request(
    engine: FillEngine, request: FillRequest | RewriteRequest, source: Source, trace: bool, color: str
) -> tuple[FillResult, bool]:
    """Return the answer to `request`, and whether the user interrupted it; with `trace` show every step."""
    cancel = threading.Event()
    with cancel_on_interrupt(cancel):
        if not trace:
            result = engine.fill(request, cancel)
        elif sys.stderr.isatty():
            result = trace_live(engine.stream(request, cancel), request, source, color)
        else:
            result = trace_lines(engine.stream(request, cancel))
    for holes in (result.holes, *result.alternatives):
        assert_within(request, [(hole.start, hole.end) for hole in holes])
    return result, cancel.is_set()


def assert_within(request: FillRequest | RewriteRequest, holes: list[Span]) -> None:
    """Assert that an answer changes what was asked for: the very holes of a fill, parts of the range of a rewrite."""
    if isinstance(request, FillRequest):
        assert holes == request.holes
    else:
        offsets = [request.range[0], *(offset for hole in holes for offset in hole), request.range[1]]
        assert offsets == sorted(offsets)


@contextlib.contextmanager
def cancel_on_interrupt(cancel: threading.Event) -> Iterator[None]:
    """Make the first interrupt set `cancel`; a second one raises KeyboardInterrupt, as it would have."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield  # signals belong to the main thread, and who ignores interrupts goes on ignoring them
        return

    def handle(_number: int, _frame: Any) -> None:
        cancel.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def trace_lines(messages: Iterator[Frame | FillResult]) -> FillResult:
    """Print one line a step on stderr: "step 2/9  return ░░", holes parted by bars; return the result."""
    for message in messages:
        if isinstance(message, FillResult):
            return message
        texts = "  |  ".join(one_line(hole.text) for hole in message.holes)
        print(f"step {message.step}/{message.steps}  {texts}", file=sys.stderr, flush=True)
    raise AssertionError("a stream ends with its result")


def trace_live(
    messages: Iterator[Frame | FillResult], request: FillRequest | RewriteRequest, source: Source, color: str
) -> FillResult:
    """Redraw the holes at every step on the terminal of stderr, masks dim, tokens in the colour of their confidence;
    return the result."""
    from rich.console import Console
    from rich.live import Live

    console: Console = Console(
        stderr=True, no_color=not wants_color(sys.stderr, color), highlight=False, markup=False, emoji=False
    )
    known = [place for place, _ in request.holes] if isinstance(request, FillRequest) else []
    titles = hole_titles(source, known)
    live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    with live:
        for message in messages:
            if isinstance(message, FillResult):
                titles = hole_titles(source, [hole.start for hole in message.holes])
                live.update(picture("done", titles, [shaded(hole, "") for hole in message.holes]), refresh=True)
                return message
            bodies = [shaded(hole, "dim") for hole in message.holes]
            titles = titles or [f"part {n}" for n in range(1, len(bodies) + 1)]
            live.update(picture(f"step {message.step}/{message.steps}", titles, bodies), refresh=True)
    raise AssertionError("a stream ends with its result")


def hole_titles(source: Source, offsets: list[int]) -> list[str]:
    """Return what the picture calls the holes; where a rewrite opens its range is known only at its end."""
    return [f"hole at {place}" for place in places(source, offsets)]


def picture(title: str, titles: list[str], bodies: list[Text]) -> RenderableType:
    """Return the step's title and under it every hole with its own."""
    from rich.console import Group
    from rich.text import Text

    parts = [Text(title, style="bold")]
    for name, body in zip(titles, bodies, strict=True):
        parts += [Text(name, style="cyan"), body]
    return Group(*parts)


def shaded(hole: FrameHole | HoleFill, rest: str) -> Text:
    """Return a hole, every settled token in the colour of its confidence and what is no token in the style `rest`."""
    pieces, position = [], 0
    for token in hole.tokens:
        shade = next(color for least, color in SHADES if token.confidence >= least)
        pieces += [(hole.text[position : token.start], rest), (hole.text[token.start : token.end], shade)]
        position = token.end
    return styled([*pieces, (hole.text[position:], rest)])


def styled(pieces: list[tuple[str, str]]) -> Text:
    """Return (text, style) pieces as one text of rich, control characters made visible."""
    from rich.text import Text

    return Text.assemble(*((visible(text.replace("\r\n", "\n")), style) for text, style in pieces if text))
