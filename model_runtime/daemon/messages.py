"""The wire's messages: JSON-RPC 2.0 envelopes, and the parameters of each method."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from model_runtime.daemon.reading import TooManyValues, read_json
from model_runtime.daemon.validation import encodes, from_json, short
from model_runtime.protocol import DiffillError, FillRequest, ModelError, RequestError, RewriteRequest

SUBPROTOCOL = "diffill.v1"
PARSE_ERROR, INVALID_REQUEST, UNKNOWN_METHOD, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
TOO_LARGE, BUSY, MODEL_ERROR, WORKER_DIED, STOPPING = -32001, -32002, -32003, -32004, -32005
LIMITED, FORBIDDEN = -32006, -32007
CANCELLED = -32800  # as in the language server protocol
MAX_HOLES, MAX_TOKENS, MAX_ALTERNATIVES, MAX_SEED = 64, 4096, 16, 2**63 - 1

Id = int | str


class RpcError(DiffillError):
    """An error that is answered on the wire with its code, and perhaps with the seconds after which to try again."""

    def __init__(self, code: int, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.code, self.retry_after_s = code, retry_after_s


@dataclass
class FillParams:
    """Parameters of `fill`; no `model` means the daemon's default, no `session` that nothing supersedes it."""

    request: FillRequest
    session: str | None = None
    model: str | None = None


@dataclass
class RewriteParams:
    """Parameters of `rewrite`, as those of `fill`."""

    request: RewriteRequest
    session: str | None = None
    model: str | None = None


@dataclass
class LoadParams:
    """Parameters of `load`."""

    model: str | None = None


@dataclass
class NoParams:
    """Parameters of `status`, `unload` and `stop`: none."""


@dataclass
class CancelParams:
    """Parameters of `$/cancelRequest`: the id of the request that is no longer wanted."""

    id: Id


@dataclass
class Progress:
    """Parameters of the notification `progress`: a model begins to load, is ready after `ms`, or failed."""

    model: str
    state: Literal["loading", "ready", "failed", "unloaded"]
    ms: float | None = None


METHODS: dict[str, type] = {
    "fill": FillParams,
    "rewrite": RewriteParams,
    "status": NoParams,
    "load": LoadParams,
    "unload": NoParams,
    "stop": NoParams,
}
CANCEL = "$/cancelRequest"


@dataclass
class Call:
    """A request of a client (or, without an id, the notification `$/cancelRequest`), its parameters validated."""

    method: str
    params: Any
    id: Id | None = None


@dataclass
class BadCall(Exception):
    """What a client sent and cannot be served, with the id to answer to if it could be read."""

    code: int
    message: str
    id: Id | None = field(default=None)


def parse_call(text: str) -> Call:
    """Read a client's message; BadCall with the code and sentence to answer otherwise."""
    try:
        value = read_json(text)
    except TooManyValues as error:
        raise BadCall(TOO_LARGE, f"a message may not have {error}") from None
    except (ValueError, RecursionError):
        raise BadCall(PARSE_ERROR, "the message is not JSON") from None
    if not isinstance(value, dict):
        raise BadCall(INVALID_REQUEST, "a message is one JSON object; batches are not taken")
    given = value.get("id")
    number = given if is_id(given) else None
    if value.get("jsonrpc") != "2.0":
        raise BadCall(INVALID_REQUEST, 'jsonrpc must be "2.0"', number)
    if "id" in value and number is None:
        raise BadCall(INVALID_REQUEST, "id must be a whole number or a text of at most 64 characters")
    method = value.get("method")
    if not isinstance(method, str):
        raise BadCall(INVALID_REQUEST, "method must be a text", number)
    unknown = sorted(set(value) - {"jsonrpc", "id", "method", "params"})
    if unknown:
        raise BadCall(INVALID_REQUEST, f"a message has no field {short(unknown[0])}", number)
    params = value.get("params", {})
    if method == CANCEL:
        kind: type = CancelParams
        if number is not None:
            raise BadCall(INVALID_REQUEST, f"{CANCEL} is a notification: it has no id", number)
    elif method not in METHODS:
        raise BadCall(UNKNOWN_METHOD, f"there is no method {short(method)}", number)
    elif number is None:
        raise BadCall(INVALID_REQUEST, f"{method} is a request: it needs an id")
    else:
        kind = METHODS[method]
    try:
        read: Any = from_json(kind, params, "params")
        if isinstance(read, FillParams | RewriteParams):
            check_request(read.request)
        return Call(method, read, number)
    except RequestError as error:
        raise BadCall(INVALID_PARAMS, str(error), number) from None


def is_id(value: Any) -> bool:
    """Whether a JSON value can name a request."""
    if isinstance(value, str):
        return len(value) <= 64 and encodes(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def check_request(request: FillRequest | RewriteRequest) -> None:
    """Raise RequestError unless the request can be served and is of a size that one machine can bear."""
    request.check()
    if isinstance(request, FillRequest) and len(request.holes) > MAX_HOLES:
        raise RequestError(f"a request has at most {MAX_HOLES} holes, not {len(request.holes)}")
    for name, most in (("max_tokens", MAX_TOKENS), ("alternatives", MAX_ALTERNATIVES), ("seed", MAX_SEED)):
        if getattr(request, name) > most:
            raise RequestError(f"{name} is at most {most}, not {getattr(request, name)}")
    if request.length.startswith("fixed:") and int(request.length[6:]) > MAX_TOKENS:
        raise RequestError(f"length is at most fixed:{MAX_TOKENS}, not {request.length}")


def request_text(number: Id, method: str, params: Any) -> str:
    """A request as it travels."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": plain(params)})


def notification_text(method: str, params: Any) -> str:
    """A notification as it travels."""
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": plain(params)})


def result_text(number: Id, result: Any) -> str:
    """The answer to a request as it travels."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": plain(result)})


def error_text(number: Id | None, code: int, message: str, retry_after_s: float | None = None) -> str:
    """An error answer as it travels; the id is null where none could be read."""
    error: dict[str, Any] = {"code": code, "message": message}
    if retry_after_s is not None:
        error["data"] = {"retry_after_s": round(retry_after_s, 3)}
    return json.dumps({"jsonrpc": "2.0", "id": number, "error": error})


def error_from(code: int, message: str, data: Any = None) -> DiffillError:
    """The exception that an error answer becomes at the client."""
    if code == INVALID_PARAMS:
        return RequestError(message)
    if code == MODEL_ERROR:
        return ModelError(message)
    after = data.get("retry_after_s") if isinstance(data, dict) else None
    return RpcError(code, message, after if isinstance(after, int | float) else None)


def plain(value: Any) -> Any:
    """JSON values of a dataclass; anything else as it is."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
