"""diffill/propose: what a command would do, worked out and not applied, with a frame for every step on the way.

For editors that show a change before they make it. Offsets of tokens count in the units that client and server agreed
on; those of frames count characters, as everywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from lsp_server.actions import BLOCK, FUNCTION, LABELS, SELECTION, Task, checked_request, read_task, take
from lsp_server.documents import Document, count_units
from lsp_server.filters import join
from lsp_server.functions import enclosing_function
from lsp_server.requests import Tell
from lsp_server.silence import Silence
from model_runtime.engine.syntax import language_of
from model_runtime.protocol import FillRequest, FillResult, Frame, HoleFill, RewriteRequest

RunWithFrames = Callable[[FillRequest | RewriteRequest, Callable[[Frame], None] | None], Awaitable[FillResult]]


async def propose(params: Any, documents: Callable[[str], Document], run: RunWithFrames, tell: Tell) -> dict[str, Any]:
    """{command?, uri, version?, range?, strength?, seed?, partialResultToken?} → the edits, none of them applied.

    Without a command it is the selection that is written anew, or with an empty range the function around it, or the
    block. What is about to change is told first, then each step. A rewrite that a filter would drop is proposed with
    the reason as `problem`: who asked for it sees it before it is made. Otherwise the errors of `actions.resolve`.
    """
    task = read_task(chosen_command(params, documents), [params])
    document = documents(task.uri)
    request = checked_request(task, document)
    token = params.get("partialResultToken")
    spans = request.holes if isinstance(request, FillRequest) else [request.range]
    if token is not None:
        tell(token, {"kind": "begin", "command": task.command, "ranges": [document.range_of(*span) for span in spans]})
    asked = document.with_text(document.text)  # the client may go on typing; then the answer is refused

    def on_frame(frame: Frame) -> None:
        holes = [
            {"text": hole.text, "settled": hole.settled, "range": asked.range_of(hole.start, hole.end)}
            for hole in frame.holes
        ]
        tell(token, {"kind": "frame", "step": frame.step, "steps": frame.steps, "holes": holes})

    request.frames = token is not None
    result = await run(request, on_frame if request.frames else None)
    problem = None
    try:
        fills = take(request, result, document, asked.version, asked.text)
    except Silence as silence:
        if silence.reason != "filtered" or not isinstance(request, RewriteRequest):
            raise
        fills, problem = [join(asked.text, request.range, result.holes)], silence.sentence()
    return {
        "uri": document.uri,
        "version": document.version,
        "command": task.command,
        "label": LABELS[task.command],
        "ranges": [document.range_of(*span) for span in spans],
        "edits": [as_edit(document, fill) for fill in fills],
        "problem": problem,
        "end": result.end,
        "steps": result.steps,
        "model": result.model,
        "seed": result.seed,
        "timingMs": result.timing_ms,
    }


def chosen_command(params: Any, documents: Callable[[str], Document]) -> Any:
    """The command that a client names, or else what is meant by its range."""
    if not isinstance(params, dict) or "command" in params:
        return params.get("command") if isinstance(params, dict) else None
    task: Task = read_task(SELECTION, [params])
    document = documents(task.uri)
    assert task.range is not None  # a selection without a range was refused
    start, end = document.span_of(task.range)
    if document.text[start:end].strip():
        return SELECTION
    language = language_of(document.name, document.language_id)
    return FUNCTION if language and enclosing_function(document.text, language, start) else BLOCK


def as_edit(document: Document, fill: HoleFill) -> dict[str, Any]:
    """A fill as an edit, with what is known of its tokens."""

    def units(offset: int) -> int:
        return count_units(fill.text[:offset], document.encoding)

    tokens = [
        {"start": units(token.start), "end": units(token.end), "confidence": token.confidence, "step": token.step}
        for token in fill.tokens
    ]
    return {
        "range": document.range_of(fill.start, fill.end),
        "newText": fill.text,
        "confidence": fill.confidence,
        "tokens": tokens,
    }
