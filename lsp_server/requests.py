"""Our own requests: diffill/fill fills ranges, diffill/rewrite writes one anew, with frames as progress;
diffill/checksum tells a client whether both ends have the same text.

Parameters are checked here, field by field; what is wrong with them is said in one sentence.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from lsprotocol import types

from lsp_server.actions import read_instruction
from lsp_server.documents import Document, holes_from_ranges
from lsp_server.session import Session
from model_runtime.protocol import FillRequest, FillResult, Frame, Options, RequestError, RewriteRequest

Tell = Callable[[Any, Any], None]  # token, value: one $/progress
Request = TypeVar("Request", FillRequest, RewriteRequest)
# The options that a client may give, by the editor's names; the server sets the others.
OPTIONS = {
    "length": "length",
    "maxTokens": "max_tokens",
    "maxLines": "max_lines",
    "steps": "steps",
    "sampler": "sampler",
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "alternatives": "alternatives",
    "seed": "seed",
    "deadlineMs": "deadline_ms",
}
KINDS: dict[str, tuple[type, ...]] = {
    "length": (str,),
    "sampler": (str,),
    "temperature": (int, float),
    "top_p": (int, float),
    "deadline_ms": (int, float),
}


async def fill_ranges(session: Session, params: Any, tell: Tell) -> dict[str, Any]:
    """diffill/fill: {textDocument: {uri, version?}, ranges, options?, partialResultToken?} → the fills."""
    document = await open_document(session, params)
    ranges = [read_range(value) for value in read_list(params, "ranges")]
    request = FillRequest(**read_options(params), text=document.text, holes=holes_from_ranges(document, ranges))
    return await run(session, document, request, params.get("partialResultToken"), tell)


async def rewrite_range(session: Session, params: Any, tell: Tell) -> dict[str, Any]:
    """diffill/rewrite: {textDocument, range, strength?, instruction?, seed?, options?, partialResultToken?} → parts."""
    document = await open_document(session, params)
    span = document.span_of(read_range(params.get("range")))
    strength = params.get("strength", 1.0)
    if isinstance(strength, bool) or not isinstance(strength, int | float):
        raise RequestError("strength is a number above 0 and not above 1")
    options = read_options(params)
    if "seed" in params:
        options["seed"] = read_option("seed", params["seed"])
    instruction = read_instruction(params)
    if instruction is not None:
        await session.check_instructions()
    request = RewriteRequest(
        **options, text=document.text, range=span, strength=float(strength), instruction=instruction
    )
    return await run(session, document, request, params.get("partialResultToken"), tell)


async def instructions(session: Session, params: Any) -> dict[str, Any]:
    """diffill/instructions: {textDocument: {uri}} → whether the model follows them, null if that is not known.

    Silence where it does not, or may not see the file: who asks has not yet asked the user what to do.
    """
    await open_document(session, params)
    await session.check_instructions()
    return {"instructions": session.status.instructions}


def checksum(session: Session, params: Any) -> dict[str, Any]:
    """diffill/checksum: {textDocument: {uri}} → what the server holds of an open file, as figures: none of its text."""
    document = session.document(read_uri(params))
    return {
        "version": document.version,
        "lines": len(document.line_starts()),
        "characters": len(document.text),
        "sha256": hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest(),
    }


async def run(session: Session, document: Document, request: Request, token: Any, tell: Tell) -> dict[str, Any]:
    """Send a request; every frame is told under the client's token, if it gave one."""
    request.language, request.path = document.language_id or None, document.name
    request.check()
    request.frames = token is not None

    def on_frame(frame: Frame) -> None:
        tell(token, {"kind": "frame", **dataclasses.asdict(frame)})

    ask = session.runtime.fill if isinstance(request, FillRequest) else session.runtime.rewrite
    result: FillResult = await ask(request, on_frame if request.frames else None)  # type: ignore[arg-type]
    session.remember(document, result)
    session.status.change(silence=None, model=result.model, latency_ms=result.timing_ms.get("total"))
    assert session.last is not None
    answers = [[hole.text for hole in holes] for holes in result.alternatives]
    return {**session.last, "alternatives": answers}


async def open_document(session: Session, params: Any) -> Document:
    """The file a request is about, as it is now: a copy, for the client may go on typing.

    Silence if the model may not see it; RequestError for another version than the one the client means.
    """
    document = dataclasses.replace(session.document(read_uri(params)))
    version = params["textDocument"].get("version")
    if version is not None and version != document.version:
        raise RequestError(f"the document is at version {document.version}, not {version}")
    await session.check(document)
    return document


def read_uri(params: Any) -> str:
    """The file that a request is about."""
    given = params.get("textDocument") if isinstance(params, dict) else None
    if not isinstance(given, dict) or not isinstance(given.get("uri"), str):
        raise RequestError("textDocument.uri is missing")
    return given["uri"]


def read_list(params: dict[str, Any], name: str) -> list[Any]:
    """A list that must be there and hold something."""
    value = params.get(name)
    if not isinstance(value, list) or not value:
        raise RequestError(f"{name} is a list of ranges, with at least one")
    return value


def read_range(value: Any) -> types.Range:
    """A range from JSON."""
    try:
        ends = [(value[end]["line"], value[end]["character"]) for end in ("start", "end")]
    except (TypeError, KeyError):
        raise RequestError("a range has start and end, each with line and character") from None
    if not all(
        isinstance(number, int) and not isinstance(number, bool) and number >= 0 for end in ends for number in end
    ):
        raise RequestError("lines and characters are whole numbers from 0")
    return types.Range(types.Position(*ends[0]), types.Position(*ends[1]))


def read_options(params: dict[str, Any]) -> dict[str, Any]:
    """The options of a request by our names; RequestError for one that is unknown or of the wrong kind."""
    given = params.get("options") or {}
    if not isinstance(given, dict):
        raise RequestError("options are an object")
    read = {}
    for name, value in given.items():
        if name not in OPTIONS:
            raise RequestError(f"there is no option {name[:40]!r}; the options are {', '.join(OPTIONS)}")
        read[OPTIONS[name]] = read_option(OPTIONS[name], value)
    return read


def read_option(name: str, value: Any) -> Any:
    """One option's value; null is taken where none is the default. Ranges of numbers are checked by the request."""
    kinds = KINDS.get(name, (int,))
    if value is None and getattr(Options, name, None) is None:
        return value
    if isinstance(value, bool) or not isinstance(value, kinds):
        words = "a text" if str in kinds else "a number" if float in kinds else "a whole number"
        raise RequestError(f"the option {name} is {words}")
    return value
