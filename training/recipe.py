"""Recipes: YAML files read into dataclasses, where an unknown key is an error that names the nearest known one."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import subprocess
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from model_runtime.home import at_home
from model_runtime.protocol import RequestError

Schema = TypeVar("Schema")


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean NAME?" for the known name most like `name`, or a list of the known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(names) or 'none'}"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; RequestError with one sentence when there is none."""
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RequestError(f"there is no recipe {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"the recipe {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise RequestError(f"the recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise RequestError(f"the recipe {path} holds no keys")
    return value


def override(values: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of `values` with each "a.b.0.c=YAML" applied in order; numbers are places in lists."""
    values = json.loads(json.dumps(values, default=str))
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted:
            raise RequestError(f"--set takes KEY=VALUE, not {assignment!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise RequestError(f"--set {assignment}: the value is not YAML") from None
        place: Any = values
        *parents, last = dotted.split(".")
        for key in parents:
            if isinstance(place, list):
                place = place[list_place(place, key, assignment)]
            else:
                if place.get(key) is None:
                    place[key] = {}
                place = place[key]
            if not isinstance(place, dict | list):
                raise RequestError(f"--set {assignment}: {key} holds no keys")
        if isinstance(place, list):
            place[list_place(place, last, assignment)] = value
        else:
            place[last] = value
    return values


def list_place(values: list[Any], key: str, assignment: str) -> int:
    """`key` as an index of the list `values`."""
    if not key.isdecimal() or int(key) >= len(values):
        raise RequestError(f"--set {assignment}: {key!r} is no place in a list of {len(values)}")
    return int(key)


def read_recipe(path: Path, schema: type[Schema], assignments: Iterable[str] = ()) -> Schema:
    """The recipe in a YAML file as a `schema`, a dataclass, after the overrides of --set."""
    return build(schema, override(read_yaml(path), assignments), path.name)


def build(schema: type[Schema], values: Any, where: str = "recipe") -> Schema:
    """`values`, as YAML gives them, as an instance of the dataclass `schema`; checked at every depth.

    A dataclass may raise ValueError in __post_init__; its text is told after the place.
    """
    if not isinstance(values, Mapping):
        raise RequestError(f"{where}: keys and values are needed, not {values!r}")
    hints = get_type_hints(schema)
    fields = {field.name: field for field in dataclasses.fields(schema) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise RequestError(f"{where}: there is no key {key!r}{nearest(str(key), fields)}")
    arguments = {key: convert(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in arguments:
            raise RequestError(f"{where}: the key {name} is missing")
    try:
        return schema(**arguments)
    except ValueError as error:
        raise RequestError(f"{where}: {error}") from error


def convert(kind: Any, value: Any, where: str) -> Any:
    """`value` as the type `kind`: a dataclass, a container, a union, a literal or a plain type."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return convert_union(inner, value, where)
    if origin is Literal:
        if value not in inner or isinstance(value, bool) != any(isinstance(choice, bool) for choice in inner):
            raise RequestError(f"{where} is one of {', '.join(map(str, inner))}, not {value!r}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise RequestError(f"{where} takes a list, not {value!r}")
        if origin is tuple and inner[-1] is not Ellipsis:
            if len(inner) != len(value):
                raise RequestError(f"{where} takes {len(inner)} values, not {len(value)}")
            return tuple(convert(k, v, f"{where}[{n}]") for n, (k, v) in enumerate(zip(inner, value, strict=True)))
        return origin(convert(inner[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise RequestError(f"{where} takes keys and values, not {value!r}")
        return {str(key): convert(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where)  # type: ignore[arg-type]
    return plain(kind, value, where)


def convert_union(kinds: Sequence[Any], value: Any, where: str) -> Any:
    """`value` as the first of `kinds` that takes it; the last one's error when none does."""
    if value is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    exact = [kind for kind in rest if isinstance(kind, type) and type(value) is kind]
    failed: RequestError | None = None
    for kind in exact + rest:
        try:
            return convert(kind, value, where)
        except RequestError as error:
            failed = error
    assert failed is not None
    raise failed


def plain(kind: Any, value: Any, where: str) -> Any:
    """`value` as int, float, str, bool or Path. YAML reads 1e-3 as text: a float takes that."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
    if kind is float and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    elif kind is Path and isinstance(value, str):
        return at_home(value)
    elif kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    elif type(value) is kind:
        return value
    raise RequestError(f"{where} takes {names.get(kind, kind)}, not {value!r}")


def as_plain(value: Any) -> Any:
    """A recipe as what YAML and JSON can hold: dataclasses as mappings, paths as text, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a value as canonical JSON."""
    text = json.dumps(as_plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def git_commit() -> str | None:
    """The commit of this checkout, "+" after it when files differ; None outside of one."""
    here = Path(__file__).parent
    try:
        done = [
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return done[0] + ("+" if done[1] else "")


def save_resolved(path: Path, recipe: Any, facts: Mapping[str, Any]) -> None:
    """Writes the recipe as it was after defaults and overrides, with `facts` (commit, fingerprints) under "made"."""
    text = yaml.safe_dump(as_plain(recipe) | {"made": as_plain(facts)}, sort_keys=False)
    path.write_text(text, "utf-8")
