"""The HTTP endpoints: who may ask, and how an answer or an error travels."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from model_runtime.daemon.callers import Caller
from model_runtime.daemon.compat import llama, metrics, openai
from model_runtime.daemon.compat.bodies import Refusal, read_json, refusal_of
from model_runtime.daemon.compat.fields import read_fields
from model_runtime.daemon.compat.fills import HungUp
from model_runtime.daemon.compat.openapi import document
from model_runtime.daemon.connection import Limits
from model_runtime.daemon.scheduler import Scheduler

NOBODY = 499  # the status of an answer that nobody reads, as nginx writes it down
Complete = Callable[[Any, Caller, Receive], Awaitable[Any]]
Stream = Callable[[Any, Caller, Receive], AsyncIterator[dict[str, Any]]]


class Owner(Protocol):
    """The daemon, as the endpoints see it."""

    scheduler: Scheduler
    limits: Limits

    def status(self) -> dict[str, Any]:
        """Figures."""

    def refuse_origin(self, connection: HTTPConnection) -> Response | None:
        """The refusal of a browser's page."""

    def caller(self, connection: HTTPConnection, via: str) -> Caller | None:
        """Who shows a token that is known."""

    def visit(self) -> contextlib.AbstractContextManager[int]:
        """A client is there; says how many are, with this one. The daemon does not leave meanwhile."""


class Api:
    """The endpoints of a daemon."""

    def __init__(self, owner: Owner):
        self.owner = owner
        self.answered: Counter[tuple[str, int]] = Counter()  # by path and status

    def routes(self) -> list[Route]:
        """What the daemon's application gets."""
        scheduler = self.owner.scheduler
        return [
            self._post("/infill", llama.Infill, llama.complete, llama.stream),
            self._post("/completion", llama.Completion, llama.complete, llama.stream),
            self._post("/v1/completions", openai.Completions, openai.complete, openai.stream, "[DONE]"),
            self._get("/v1/models", lambda: JSONResponse(openai.models(scheduler))),
            self._get("/props", lambda: JSONResponse(llama.props(scheduler))),
            self._get("/metrics", self._metrics),
            Route("/openapi.json", Endpoint(self, "/openapi.json", describe, public=True), methods=["GET"]),
        ]

    def _get(self, path: str, answer: Callable[[], Response]) -> Route:
        async def serve(request: Request) -> Response:
            return answer()

        return Route(path, Endpoint(self, path, serve), methods=["GET"])

    def _post(self, path: str, kind: type, complete: Complete, stream: Stream, last: str | None = None) -> Route:
        async def serve(request: Request) -> Response:
            body: Any = read_fields(kind, await read_json(request, self.owner.limits))
            caller: Caller = request.state.caller
            if not body.stream:
                return JSONResponse(await complete(body, caller, request.receive))
            events = stream(body, caller, request.receive)
            first = await anext(events)  # an error before the first event still has its status
            return Events(first, events, last)

        return Route(path, Endpoint(self, path, serve), methods=["POST"])

    def _metrics(self) -> Response:
        owner = self.owner
        text = metrics.page(owner.status(), owner.scheduler.figures, self.answered)
        return Response(text, headers={"Content-Type": metrics.CONTENT_TYPE})


class Endpoint:
    """One path: admits a request, serves it, and counts how it was answered."""

    def __init__(self, api: Api, path: str, serve: Callable[[Request], Awaitable[Response]], public: bool = False):
        self._api, self._path, self._serve, self._public = api, path, serve, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        with self._api.owner.visit() as visitors:
            try:
                self._admit(request, visitors)
                response = await self._serve(request)
            except (HungUp, ClientDisconnect):
                response = Response(status_code=NOBODY)
            except Exception as error:
                response = refusal_of(error).response()
            self._api.answered[self._path, response.status_code] += 1
            await response(scope, receive, send)

    def _admit(self, request: Request, visitors: int) -> None:
        """Refusal of a request that may not be made, or not now."""
        owner = self._api.owner
        if owner.refuse_origin(request) is not None:
            raise Refusal(403, "this origin is not allowed")
        if visitors > owner.limits.requests:
            raise Refusal(503, f"the daemon serves {owner.limits.requests} requests already", {"Retry-After": "1"})
        if self._public:
            return
        request.state.caller = owner.caller(request, self._path)
        if request.state.caller is None:
            raise Refusal(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})


class Events(Response):
    """Server-sent events, each a JSON object, then perhaps a last word; an error after the first is an event too."""

    media_type = "text/event-stream"

    def __init__(self, first: dict[str, Any], rest: AsyncIterator[dict[str, Any]], last: str | None):
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._first, self._rest, self._last = first, rest, last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def say(text: str, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with contextlib.aclosing(self._rest) as rest:  # type: ignore[type-var]
            with contextlib.suppress(HungUp):
                await say(event(self._first))
                try:
                    async for one in rest:
                        await say(event(one))
                except HungUp:
                    raise
                except Exception as error:
                    await say(event({"error": refusal_of(error).body()}))
                else:
                    if self._last is not None:
                        await say(f"data: {self._last}\n\n")
        await say("", more=False)


def event(value: dict[str, Any]) -> str:
    """One server-sent event; JSON has no line ends of its own."""
    return f"data: {json.dumps(value)}\n\n"


async def describe(request: Request) -> Response:
    """What there is, for programs that read OpenAPI: nothing of this machine or its user."""
    return JSONResponse(document())


async def not_found(request: Request, error: Exception) -> Response:
    """The answer where nothing is."""
    return Refusal(404, "there is no such path; /openapi.json lists those that there are").response()


async def not_so(request: Request, error: Exception) -> Response:
    """The answer to a method that a path does not have."""
    headers = dict(getattr(error, "headers", None) or {})
    return Refusal(405, "this path takes another method: see Allow", headers).response()
