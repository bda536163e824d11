"""The bodies that other servers' clients send: dataclasses, from which come both the reading and the JSON schema.

Fields that are not named are ignored, and null means not given: the clients were written for servers with more options.
A field of the wrong type or out of its range is refused with one sentence.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

from model_runtime.daemon.validation import hints_of, named, read_scalar
from model_runtime.protocol import RequestError

T = TypeVar("T")
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def within(default: Any, minimum: float | None = None, maximum: float | None = None, text: str = "") -> Any:
    """A field with a default, a range for its number (or for the length of its list), and a description."""
    bounds = {"minimum": minimum, "maximum": maximum}
    metadata = {"bounds": {name: bound for name, bound in bounds.items() if bound is not None}, "text": text}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read_fields(kind: type[T], value: Any, where: str = "") -> T:
    """Read a dataclass from a JSON object; RequestError for the first field that cannot be taken as sent."""
    if not isinstance(value, dict):
        raise RequestError(f"{where or 'the body'} must be an object, not {named(value)}")
    given: dict[str, Any] = {}
    for part in dataclasses.fields(kind):  # type: ignore[arg-type]
        item, path = value.get(part.name), f"{where}.{part.name}" if where else part.name
        if item is not None:
            given[part.name] = read(hints_of(kind)[part.name], item, path)  # type: ignore[arg-type]
            check_bounds(given[part.name], part.metadata.get("bounds", {}), path)
        elif is_required(part):
            raise RequestError(f"{where or 'the body'} lacks the field {part.name}")
    return kind(**given)


def is_required(part: dataclasses.Field[Any]) -> bool:
    """Whether a field has no default."""
    return part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING


def read(hint: Any, value: Any, where: str) -> Any:
    """Read one value that is not null."""
    if dataclasses.is_dataclass(hint):
        return read_fields(hint, value, where)  # type: ignore[arg-type]
    choices = [part for part in parts_of(hint) if part is not type(None)]
    fitting = [part for part in choices if (typing.get_origin(part) is list) == isinstance(value, list)]
    hint = (fitting or choices)[0]
    if dataclasses.is_dataclass(hint):
        return read_fields(hint, value, where)  # type: ignore[arg-type]
    if typing.get_origin(hint) is list:
        if not isinstance(value, list):
            raise RequestError(f"{where} must be a list, not {named(value)}")
        return [read(typing.get_args(hint)[0], item, f"{where}[{n}]") for n, item in enumerate(value)]
    if hint is int and isinstance(value, float) and value.is_integer():
        value = int(value)  # a JSON schema's integer, as some languages write it
    return read_scalar(hint, value, where)


def parts_of(hint: Any) -> tuple[Any, ...]:
    """The types of a union; of anything else, itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def check_bounds(value: Any, bounds: dict[str, float], where: str) -> None:
    """Raise RequestError for a number, or a list's length, out of its range."""
    if isinstance(value, str):
        return
    size, what = (len(value), "the length of " if where else "") if isinstance(value, list) else (value, "")
    for name, wrong, word in (("minimum", -1, "at least"), ("maximum", 1, "at most")):
        bound = bounds.get(name)
        if bound is not None and (size - bound) * wrong > 0:
            raise RequestError(f"{what}{where} is {word} {bound:g}, not {size:g}")


def schema_of(kind: type) -> dict[str, Any]:
    """The JSON schema of what `read_fields` takes."""
    fields = dataclasses.fields(kind)
    properties = {}
    for part in fields:
        schema = schema_of_type(hints_of(kind)[part.name], part.metadata.get("bounds", {}), not is_required(part))
        properties[part.name] = {
            **schema,
            **({"description": part.metadata["text"]} if part.metadata.get("text") else {}),
        }
    required = [part.name for part in fields if is_required(part)]
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def schema_of_type(hint: Any, bounds: dict[str, float], nullable: bool) -> dict[str, Any]:
    """The JSON schema of one field."""
    choices = [schema_of_part(part, bounds) for part in parts_of(hint) if part is not type(None)]
    if nullable:
        choices.append({"type": "null"})
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def schema_of_part(hint: Any, bounds: dict[str, float]) -> dict[str, Any]:
    """The JSON schema of one of a field's types; bounds are a number's, or those of a list's length."""
    if dataclasses.is_dataclass(hint):
        return schema_of(hint)  # type: ignore[arg-type]
    if typing.get_origin(hint) is list:
        sizes = {name.replace("imum", "Items"): int(bound) for name, bound in bounds.items()}
        return {"type": "array", "items": schema_of_part(typing.get_args(hint)[0], {}), **sizes}
    return {"type": SCALARS[hint], **(bounds if hint in (int, float) else {})}
