"""Reading a request's body and writing an answer: bounded in size and time, and every refusal one sentence in JSON."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from model_runtime.daemon.connection import Limits, sentence_of
from model_runtime.daemon.messages import BUSY, FORBIDDEN, LIMITED, STOPPING, WORKER_DIED, RpcError
from model_runtime.daemon.reading import TooManyValues
from model_runtime.daemon.reading import read_json as parse
from model_runtime.protocol import RequestError

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}


class Refusal(Exception):
    """A request that is answered with an error: a status and a sentence."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers

    def response(self) -> JSONResponse:
        """The answer, as clients of llama.cpp and of OpenAI both read it."""
        return JSONResponse({"error": self.body()}, self.status, self.headers)

    def body(self) -> dict[str, Any]:
        """The error itself, as it is also told in a stream that has begun."""
        return {"code": self.status, "message": self.message, "type": TYPES.get(self.status, "server_error")}


def refusal_of(error: BaseException) -> Refusal:
    """What a client is told of an error of the fill."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RequestError):
        return Refusal(400, sentence_of(error))
    if isinstance(error, RpcError) and error.code == LIMITED:
        return Refusal(429, sentence_of(error), {"Retry-After": str(math.ceil(error.retry_after_s or 1))})
    if isinstance(error, RpcError) and error.code == FORBIDDEN:
        return Refusal(403, sentence_of(error))
    if isinstance(error, RpcError) and error.code in (BUSY, STOPPING, WORKER_DIED):
        return Refusal(503, sentence_of(error), {"Retry-After": "1"})
    return Refusal(500, sentence_of(error))


async def read_json(request: Request, limits: Limits) -> Any:
    """The JSON value that a request carries; Refusal where it is too large, too slow, or no JSON."""
    data = await read_body(request, limits)
    try:
        return parse(data.decode())
    except UnicodeDecodeError:
        raise Refusal(400, "the body is not UTF-8") from None
    except TooManyValues as error:
        raise Refusal(413, f"a body may not have {error}") from None
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is not JSON") from None


async def read_body(request: Request, limits: Limits) -> bytes:
    """A request's body; Refusal for one too large (413; what is still to come is dropped unread) or too slow (408)."""
    too_large = Refusal(413, f"a body has at most {limits.body} bytes")
    if int(request.headers.get("content-length") or 0) > limits.body:
        raise too_large

    async def collect() -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > limits.body:
                raise too_large
            parts.append(part)
        return b"".join(parts)

    try:
        return await asyncio.wait_for(collect(), limits.body_s)
    except asyncio.TimeoutError:
        raise Refusal(408, f"the body did not come within {limits.body_s:g} s", {"Connection": "close"}) from None


__all__ = ["ClientDisconnect", "Refusal", "read_json", "refusal_of"]
