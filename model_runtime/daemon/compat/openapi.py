"""The description of the HTTP endpoints, made from the dataclasses that read them."""

from __future__ import annotations

from typing import Any

from model_runtime import __version__
from model_runtime.daemon.compat.fields import schema_of
from model_runtime.daemon.compat.llama import Completion, Infill
from model_runtime.daemon.compat.openai import Completions

TEXT, COUNT, NUMBER, TRUTH = (
    {"type": "string"},
    {"type": "integer", "minimum": 0},
    {"type": "number"},
    {"type": "boolean"},
)


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Diffill",
            "version": __version__,
            "description": "Masked diffusion infill behind endpoints of llama.cpp's server and of OpenAI. "
            "Fields that are not listed are ignored.",
        },
        "security": [{"bearer": []}, {"key": []}],
        "paths": {
            "/infill": {"post": post("Fill a hole between two texts (llama.cpp)", Infill, LLAMA)},
            "/completion": {"post": post("Fill a hole in a prompt (llama.cpp)", Completion, LLAMA)},
            "/v1/completions": {"post": post("Fill a hole (OpenAI)", Completions, OPENAI)},
            "/v1/models": {"get": get("The model", MODELS)},
            "/props": {"get": get("The model, as llama.cpp's server tells of it", PROPS)},
            "/metrics": {"get": get("Figures in Prometheus's text format", TEXT, "text/plain")},
            "/health": {"get": {**get("Whether the daemon lives", HEALTH), "security": []}},
            "/openapi.json": {"get": {**get("This document", {"type": "object"}), "security": []}},
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


def get(summary: str, schema: dict[str, Any], media: str = "application/json") -> dict[str, Any]:
    """A GET operation."""
    answers = {"200": {"description": "it", "content": {media: {"schema": schema}}}}
    return {"summary": summary, "responses": {**answers, **refusals(401, 403, 503)}}


def post(summary: str, kind: type, answer: dict[str, Any]) -> dict[str, Any]:
    """A POST operation: JSON in; JSON or, where `stream` is true, server-sent events out."""
    content = {"application/json": {"schema": answer}, "text/event-stream": {"schema": EVENT}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema_of(kind)}}},
        "responses": {
            "200": {"description": "the texts", "content": content},
            **refusals(400, 401, 403, 408, 413, 429, 500, 503),
        },
    }


def refusals(*statuses: int) -> dict[str, Any]:
    """The errors that an operation may answer."""
    described = {"description": "refused, with a sentence", "content": {"application/json": {"schema": ERROR}}}
    return {str(status): described for status in statuses}


def exactly(**properties: dict[str, Any]) -> dict[str, Any]:
    """An object that has these properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def listed(items: dict[str, Any]) -> dict[str, Any]:
    """A list."""
    return {"type": "array", "items": items}


EVENT = exactly(data=TEXT)  # the data is a JSON object, or OpenAI's last word
ERROR = exactly(error=exactly(code=COUNT, message=TEXT, type=TEXT))
HEALTH = exactly(status=TEXT)
TIMINGS = exactly(
    **{f"{name}_n": COUNT for name in ("cache", "prompt", "predicted")},
    **{f"{name}_{part}": NUMBER for name in ("prompt", "predicted") for part in ("ms", "per_token_ms", "per_second")},
)
WHOLE = exactly(
    index=COUNT,
    content=TEXT,
    tokens=listed(COUNT),
    id_slot=COUNT,
    stop=TRUTH,
    model=TEXT,
    tokens_predicted=COUNT,
    tokens_evaluated=COUNT,
    has_new_line=TRUTH,
    truncated=TRUTH,
    stop_type={"enum": ["eos", "limit", "word"]},
    stopping_word=TEXT,
    tokens_cached=COUNT,
    timings=TIMINGS,
    confidence={"type": "number", "minimum": 0, "maximum": 1},
)
CHOSEN = {"type": "object", "description": "the fields of response_fields"}
LLAMA = {"anyOf": [WHOLE, CHOSEN, listed({"anyOf": [WHOLE, CHOSEN]})]}
OPENAI = exactly(
    id=TEXT,
    object={"const": "text_completion"},
    created=COUNT,
    model=TEXT,
    choices=listed(exactly(text=TEXT, index=COUNT, finish_reason={"enum": ["stop", "length"]})),
    usage=exactly(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT),
)
MODELS = exactly(
    object={"const": "list"}, data=listed(exactly(id=TEXT, object={"const": "model"}, created=COUNT, owned_by=TEXT))
)
PROPS = exactly(
    default_generation_settings={"type": "object"},
    total_slots=COUNT,
    model_path=TEXT,
    chat_template=TEXT,
    build_info=TEXT,
    is_sleeping=TRUTH,
)
