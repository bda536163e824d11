"""Complete here: from an editor's inline completion request to the items it is offered, or the reason for none."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field, replace

from lsprotocol import types

from lsp_server.documents import Document
from lsp_server.session import NotOpen, Session
from lsp_server.settings import Settings
from lsp_server.silence import Silence
from lsp_server.triggers import Asked, Debounce, check_trigger
from model_runtime.protocol import FillRequest, FillResult, HoleFill, RequestError

ACCEPTED = "diffill.accepted"
LINE_TOKENS, BLOCK_TOKENS = 48, 128
LOADING_S = 30.0  # so long a suggestion waits for a model that is being loaded


@dataclass
class Place:
    """Where a suggestion goes: the text with the popup's selected entry applied, the cursor in it, what to replace."""

    document: Document  # as it would be with the entry
    offset: int
    replaced: types.Range  # in the document as it is; empty without an entry
    selected: str = ""


@dataclass
class Offered:
    """A block that was offered: what is typed through it is still to be asked for as the same block."""

    before: str
    text: str
    after: str

    def goes_on_at(self, place: Place) -> bool:
        """Whether nothing happened but that the offer's beginning was typed."""
        before, after = place.document.text[: place.offset], place.document.text[place.offset :]
        typed = before[len(self.before) :]
        return after == self.after and before.startswith(self.before) and self.text.startswith(typed)


@dataclass
class Suggestions:
    """The server's memory of suggestions: one running request a file, the last answer, the typing's rhythm."""

    running: dict[str, asyncio.Task[list[types.InlineCompletionItem]]] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    answers: dict[str, list[types.InlineCompletionItem]] = field(default_factory=dict)  # to what was asked last
    blocks: dict[str, Offered] = field(default_factory=dict)
    debounce: Debounce = field(default_factory=Debounce)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def forget(self, uri: str) -> None:
        """Drop what belongs to a closed file; its running request ends."""
        if task := self.running.pop(uri, None):
            task.cancel()
        self.asked.pop(uri, None)
        self.answers.pop(uri, None)
        self.blocks.pop(uri, None)


def load_parsers() -> None:
    """Import what the first suggestion needs, some tenths of a second."""
    import lsp_server.actions
    import lsp_server.extent
    import lsp_server.filters  # noqa: F401


async def complete(
    session: Session, suggestions: Suggestions, params: types.InlineCompletionParams
) -> types.InlineCompletionList | None:
    """The answer to textDocument/inlineCompletion: null where there is nothing, with the reason in the status.

    A newer request for the same file takes the place of an older one, which is answered null; a client's own
    cancellation reaches the model and is answered as the protocol wants.
    """
    uri = params.text_document.uri
    if older := suggestions.running.pop(uri, None):
        older.cancel()
    task = asyncio.ensure_future(answer(session, suggestions, params))
    suggestions.running[uri] = task
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        suggestions.debounce.note(True)
        raise
    finally:
        if suggestions.running.get(uri) is task:
            del suggestions.running[uri]
    suggestions.debounce.note(task.cancelled())
    if task.cancelled():
        session.silence(Silence("superseded"), uri)
        return None
    error = task.exception()
    if isinstance(error, NotOpen):
        return None
    if isinstance(error, RequestError):  # a text that cannot be sent: half a surrogate pair
        error = Silence("empty", str(error))
    if isinstance(error, Silence):
        session.silence(error, uri)
        return None
    return types.InlineCompletionList(task.result())


async def answer(
    session: Session, suggestions: Suggestions, params: types.InlineCompletionParams
) -> list[types.InlineCompletionItem]:
    """The items for one request; Silence where there are none."""
    uri, invoked = params.text_document.uri, params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
    document = replace(session.document(uri))  # as it is now: the client may go on typing
    place = find_place(document, params)
    await session.check(document)
    settings = session.settings_for(uri)
    if not invoked:
        if not settings.automatic:
            raise Silence("paused", "suggestions come only when asked for")
        last = suggestions.asked.get(uri, Asked())
        check_trigger(document, place.offset, last)
        asking = Asked(document.edits, place.offset)
        if asking == last and not place.selected and uri in suggestions.answers:
            return suggestions.answers[uri]
        suggestions.answers.pop(uri, None)
        suggestions.asked[uri] = asking
        await asyncio.sleep(suggestions.debounce.wait(settings.debounce_ms))
    items = await ask(session, suggestions, place, invoked)
    if session.document(uri).edits != document.edits:
        raise Silence("superseded")  # typing went on, and the client will ask again
    if not invoked:
        suggestions.answers[uri] = items
    return items


async def ask(
    session: Session, suggestions: Suggestions, place: Place, invoked: bool
) -> list[types.InlineCompletionItem]:
    """Ask the model about a place and make items of what is worth showing."""
    started = time.perf_counter()
    uri = place.document.uri
    block = is_block(suggestions.blocks.get(uri), place)
    settings = session.settings_for(uri)
    request = make_request(settings, place, block, settings.alternatives if invoked else 1)
    result = await session.runtime.fill(request, session=uri)
    if result.end == "deadline" and not result.steps:  # the model was still loading, or busy with others
        result = await fill_once_loaded(session, request, uri)
    # who asks for a suggestion wants one, however unsure
    kept = worth_showing(place, result, 0.0 if invoked else settings.min_confidence)
    if block:
        text, offset = place.document.text, place.offset
        suggestions.blocks[uri] = Offered(text[:offset], kept[0].text, text[offset:])
    else:
        suggestions.blocks.pop(uri, None)
    items = []
    for fill in kept:
        name = f"s{next(suggestions.numbers)}"
        session.offer(name, place.document, replace(result, holes=[fill], alternatives=[]))
        items.append(make_item(place, fill, name))
    session.status.counters.offered += 1
    session.remember(place.document, replace(result, holes=[kept[0]], alternatives=[]))
    session.status.change(silence=None, model=result.model, latency_ms=round((time.perf_counter() - started) * 1000, 1))
    return items


async def fill_once_loaded(session: Session, request: FillRequest, uri: str) -> FillResult:
    """Fill when the model is there: who typed no further still waits. Silence if loading it takes very long."""
    try:
        await asyncio.wait_for(session.runtime.warm(), LOADING_S)
    except asyncio.TimeoutError:
        raise Silence("loading") from None
    return await session.runtime.fill(request, session=uri)


def find_place(document: Document, params: types.InlineCompletionParams) -> Place:
    """Where the cursor stands; with an entry selected in the popup, where it would stand after it was taken."""
    offset = document.offset_at(params.position)
    info = params.context.selected_completion_info
    if info is None or info.range.start.line != info.range.end.line or "\n" in info.text:
        return Place(document, offset, document.range_of(offset, offset))
    start, end = document.span_of(info.range)
    if not start <= offset <= end:
        return Place(document, offset, document.range_of(offset, offset))
    text = document.text[:start] + info.text + document.text[end:]
    return Place(document.with_text(text), start + len(info.text), document.range_of(start, end), info.text)


def is_block(offered: Offered | None, place: Place) -> bool:
    """Whether to ask for a block: where syntax and indentation leave room for one, or one is being typed."""
    from lsp_server.extent import wants_block  # the parsers load after the client has its first answer

    return (offered is not None and offered.goes_on_at(place)) or wants_block(place.document, place.offset)


def make_request(settings: Settings, place: Place, block: bool, alternatives: int) -> FillRequest:
    """The model's task at a place: one line or a block."""
    document = place.document
    return FillRequest(
        text=document.text,
        holes=[(place.offset, place.offset)],
        max_lines=settings.max_lines + 1 if block else 1,  # a block begins with the rest of the opener's line
        max_tokens=BLOCK_TOKENS if block else LINE_TOKENS,
        alternatives=alternatives,
        deadline_ms=settings.deadline_ms,
        language=document.language_id or None,
        path=document.name,
    )


def worth_showing(place: Place, result: FillResult, least: float) -> list[HoleFill]:
    """The fills that pass the filters and are sure enough, each text once; Silence if none is left."""
    candidates = [holes[0] for holes in (result.holes, *result.alternatives) if holes and holes[0].text.strip()]
    if not candidates:
        reason = result.end if result.end in ("deadline", "superseded") else "empty"
        raise Silence(reason)
    from lsp_server.filters import apply_filters, around_hole

    kept: dict[str, HoleFill] = {}
    silences: list[Silence] = []
    for fill in candidates:
        try:
            document = place.document
            around = around_hole(document.text, [fill], 0, document.language_id, document.name)
            passed, why = apply_filters(fill, around)
            if passed is None or not passed.text.strip():
                raise Silence("filtered", why or "")
            if passed.confidence < least:
                raise Silence("low_confidence", f"{passed.confidence:.2f}")
            kept.setdefault(passed.text, passed)
        except Silence as silence:
            silences.append(silence)
    if not kept:
        raise silences[0]
    return list(kept.values())


def make_item(place: Place, fill: HoleFill, name: str) -> types.InlineCompletionItem:
    """An item that replaces the popup's entry and what the suggestion repeats to the right of the cursor."""
    document = place.document
    line_end = document.line_span(document.line_of(place.offset))[1]
    overlap = overlap_right(fill.text, document.text[place.offset : line_end])
    end = place.replaced.end
    if overlap:
        moved = document.position_at(place.offset + overlap).character - document.position_at(place.offset).character
        end = types.Position(end.line, end.character + moved)
    command = types.Command("Accepted", ACCEPTED, arguments=[name])
    return types.InlineCompletionItem(
        place.selected + fill.text, range=types.Range(place.replaced.start, end), command=command
    )


def overlap_right(text: str, after: str) -> int:
    """How many characters right of the cursor the suggestion's end repeats; code, not blanks alone."""
    for size in range(min(len(text), len(after)), 0, -1):
        if text.endswith(after[:size]) and after[:size].strip():
            return size
    return 0
