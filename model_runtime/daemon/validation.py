"""Reading dataclasses from JSON values, strictly.

What is unknown, missing or of the wrong type is refused with one sentence, which names the field and never repeats a
text's content. What the numbers may be is checked by the requests themselves (`check`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from typing import Any, Literal, TypeVar

from model_runtime.protocol import RequestError

T = TypeVar("T")


def from_json(kind: type[T], value: Any, where: str = "params") -> T:
    """Read a dataclass from JSON values; RequestError names the first field that is unknown, missing or ill-typed."""
    if not isinstance(value, dict):
        raise RequestError(f"{where} must be an object, not {named(value)}")
    hints = hints_of(kind)  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for name, item in value.items():
        if name not in hints:
            raise RequestError(f"{where} has no field {short(name)}")
        given[name] = read(hints[name], item, f"{where}.{name}")
    for part in dataclasses.fields(kind):  # type: ignore[arg-type]
        required = part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING
        if required and part.name not in given:
            raise RequestError(f"{where} lacks the field {part.name}")
    return kind(**given)


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    return typing.get_type_hints(kind)


def read(hint: Any, value: Any, where: str) -> Any:
    """Read one value of a type that our dataclasses use."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return read_union(parts, value, where)
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        if not isinstance(value, str) or value not in parts:
            raise RequestError(f"{where} must be {' or '.join(parts)}, not {short(value)}")
        return value
    if origin is list:
        if not isinstance(value, list):
            raise RequestError(f"{where} must be a list, not {named(value)}")
        return [read(parts[0], item, f"{where}[{n}]") for n, item in enumerate(value)]
    if origin is tuple:
        if not isinstance(value, list) or len(value) != len(parts):
            raise RequestError(f"{where} must be a list of {len(parts)}, not {named(value)}")
        return tuple(read(part, item, f"{where}[{n}]") for n, (part, item) in enumerate(zip(parts, value, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            raise RequestError(f"{where} must be an object, not {named(value)}")
        return {name: read(parts[1], item, f"{where}.{name}") for name, item in value.items()}
    return read_scalar(hint, value, where)


def read_union(parts: tuple[Any, ...], value: Any, where: str) -> Any:
    """Read a value of one of several types; None is one of them where a field is optional."""
    if value is None and type(None) in parts:
        return None
    wanted = [part for part in parts if part is not type(None)]
    for part in wanted[:-1]:
        try:
            return read(part, value, where)
        except RequestError:
            continue
    return read(wanted[-1], value, where)


def read_scalar(hint: Any, value: Any, where: str) -> Any:
    """Read a text, number or truth value."""
    if hint is str and isinstance(value, str):
        if not encodes(value):
            raise RequestError(f"{where} holds half a surrogate pair, which is no character")
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
        raise RequestError(f"{where} is too large a number")
    words = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
    raise RequestError(f"{where} must be {words[hint]}, not {named(value)}")


def encodes(text: str) -> bool:
    """Whether every character of a text is one: JSON can spell halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def named(value: Any) -> str:
    """What a JSON value is, in words: never its content."""
    for kind, word in (
        (bool, "true or false"),
        (str, "a text"),
        (int, "a whole number"),
        (float, "a fraction"),
        (list, "a list"),
        (dict, "an object"),
    ):
        if isinstance(value, kind):
            return f"{word} of {len(value)}" if isinstance(value, list) else word
    return "null"


def short(value: Any) -> str:
    """A name that a client sent, fit to be repeated in a sentence."""
    return ascii(value)[:40] if isinstance(value, str) else named(value)
