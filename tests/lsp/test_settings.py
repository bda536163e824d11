"""Settings: few, each checked, a bad one told and replaced by its default."""

from __future__ import annotations

import dataclasses

import pytest

from lsp_server.settings import CHECKS, Settings, read_settings


def test_there_are_at_most_twelve_and_each_has_a_check():
    names = [field.name for field in dataclasses.fields(Settings)]
    assert len(names) <= 12
    assert list(CHECKS) == names


@pytest.mark.parametrize("given", [None, {}, {"enabled": None, "debounceMs": None, "server.trace": "off"}])
def test_nothing_set_means_the_defaults(given):
    read = read_settings(given)
    assert (read.settings, read.problems) == (Settings(), [])


def test_good_values_are_taken():
    given = {"automatic": False, "maxLines": 3, "minConfidence": 0.5, "exclude": ["*.sql"], "debounceMs": 0}
    read = read_settings(given)
    assert read.problems == []
    assert read.settings == Settings(
        automatic=False, max_lines=3, min_confidence=0.5, exclude=("*.sql",), debounce_ms=0
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enabled", "yes"),
        ("automatic", 1),
        ("model", " "),
        ("alternatives", 0),
        ("alternatives", True),
        ("maxLines", 2.5),
        ("minConfidence", 1.5),
        ("minConfidence", float("nan")),
        ("deadlineMs", -1),
        ("debounceMs", "fast"),
        ("exclude", "*.sql"),
        ("exclude", [3]),
        ("excludeGitIgnored", "no"),
        ("disabledLanguages", {"python": True}),
        ("maxFileSize", 0),
    ],
)
def test_a_bad_value_is_told_and_its_default_holds(name, value):
    read = read_settings({name: value, "maxLines": 2} if name != "maxLines" else {name: value})
    assert len(read.problems) == 1
    assert f"diffill.{name}" in read.problems[0]
    field = next(field for field, (given, _, _) in CHECKS.items() if given == name)
    assert getattr(read.settings, field) == getattr(Settings(), field)
    if name != "maxLines":
        assert read.settings.max_lines == 2  # the good ones hold


def test_what_is_no_object_is_told():
    assert read_settings([1]).problems
