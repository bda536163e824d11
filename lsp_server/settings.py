"""The server's settings: each is checked by itself, and a bad value is told once and replaced by its default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user can set, under "diffill" in an editor; most people keep every default."""

    enabled: bool = True  # off: nothing is ever sent to the model
    automatic: bool = True  # off: suggestions only when asked for
    model: str = "embedded"  # a name of `diffill models`, or a folder
    alternatives: int = 3  # when asked for; automatic suggestions have one
    max_lines: int = 8  # of a suggested block
    min_confidence: float = 0.3  # automatic suggestions less sure are not shown; measured in docs/decoding.md
    deadline_ms: int = 2000  # a suggestion; the best so far is shown then
    debounce_ms: int | None = None  # none: 75 to 125, as the typing asks
    exclude: tuple[str, ...] = ()  # globs, beside those that always hold
    exclude_git_ignored: bool = True
    disabled_languages: tuple[str, ...] = ()
    max_file_size: int = 1_000_000  # characters


def is_flag(value: Any) -> bool:
    """True or false and nothing else."""
    return isinstance(value, bool)


def is_integer(low: int, high: int) -> Callable[[Any], bool]:
    """A check for whole numbers from `low` to `high`."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_texts(value: Any) -> bool:
    """A list of texts."""
    return isinstance(value, list | tuple) and all(isinstance(one, str) and one for one in value)


# By field: the editor's name, the check, and what a value must be, in words.
CHECKS: dict[str, tuple[str, Callable[[Any], bool], str]] = {
    "enabled": ("enabled", is_flag, "true or false"),
    "automatic": ("automatic", is_flag, "true or false"),
    "model": ("model", lambda value: isinstance(value, str) and bool(value.strip()), "a model's name or folder"),
    "alternatives": ("alternatives", is_integer(1, 8), "a whole number from 1 to 8"),
    "max_lines": ("maxLines", is_integer(1, 64), "a whole number from 1 to 64"),
    "min_confidence": (
        "minConfidence",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1,
        "a number from 0 to 1",
    ),
    "deadline_ms": ("deadlineMs", is_integer(50, 60_000), "a whole number from 50 to 60000"),
    "debounce_ms": (
        "debounceMs",
        lambda value: value is None or is_integer(0, 5000)(value),
        "null or a whole number from 0 to 5000",
    ),
    "exclude": ("exclude", is_texts, "a list of globs"),
    "exclude_git_ignored": ("excludeGitIgnored", is_flag, "true or false"),
    "disabled_languages": ("disabledLanguages", is_texts, "a list of language ids"),
    "max_file_size": ("maxFileSize", is_integer(1, 20_000_000), "a whole number from 1 to 20000000"),
}


@dataclass
class Read:
    """Settings as read, and one sentence for every value that was not taken."""

    settings: Settings
    problems: list[str] = field(default_factory=list)


def read_settings(given: Any) -> Read:
    """Read what an editor sent, as it comes: names it does not know are left alone, editors send their own along."""
    if given is None:
        return Read(Settings())
    if not isinstance(given, dict):
        return Read(Settings(), ["Diffill's settings are not an object; the defaults hold."])
    taken: dict[str, Any] = {}
    problems: list[str] = []
    for one in fields(Settings):
        name, check, wanted = CHECKS[one.name]
        if name not in given or (given[name] is None and one.default is not None):
            continue  # editors send null for what is not set
        if check(given[name]):
            taken[one.name] = tuple(given[name]) if isinstance(given[name], list) else given[name]
        else:
            shown = repr(given[name])[:60]
            problems.append(f"The setting diffill.{name} is {wanted}, not {shown}; its default holds.")
    return Read(Settings(**taken), problems)
