"""Recipes: unknown keys and bad values are told with the nearest name; the command builds from one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.cli import main
from model_runtime.protocol import RequestError
from training.corpus.command import RECIPES
from training.corpus.recipe import Recipe
from training.recipe import as_plain, build, fingerprint, override, read_recipe

GOOD = {"sources": [{"kind": "standard_library"}]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sources": [{"kind": "standard_library", "wieght": 2}]}, r"sources\[0\]: .*'wieght'; did you mean weight\?"),
        ({**GOOD, "duplicates": {"neer": 0.5}}, r"duplicates: .*'neer'; did you mean near\?"),
        ({**GOOD, "sede": 1}, "did you mean seed"),
        ({**GOOD, "seed": "one"}, "seed takes a whole number, not 'one'"),
        ({**GOOD, "seed": True}, "seed takes a whole number"),
        ({**GOOD, "rules": {"max_kb": "much"}}, "max_kb takes a number"),
        ({**GOOD, "rules": []}, "keys and values"),
        ({"sources": []}, "sources is empty"),
        ({"sources": "all"}, "sources takes a list"),
        ({}, "the key sources is missing"),
        ({"sources": [{"kind": "folder"}]}, "needs a path"),
        ({"sources": [{"kind": "zip"}]}, "is one of standard_library, packages"),
        ({"sources": [{"kind": "jsonl", "path": "a"}]}, "needs licence_field"),
        ({"sources": [{"kind": "packages"}, {"kind": "packages"}]}, "two sources are called packages"),
        ({**GOOD, "duplicates": {"near": 3}}, "between 0.3 and 1"),
        ({**GOOD, "holdout": {"never": ["a-b"], "validation": ["a_B"]}}, "both never and validation"),
        ({**GOOD, "tokenizer": {"add": {"mask": "<m>"}}}, "add needs take"),
    ],
)
def test_a_bad_recipe_is_one_sentence(values, message):
    with pytest.raises(RequestError, match=message) as told:
        build(Recipe, values)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path):
    recipe = read_recipe(path, Recipe)
    assert build(Recipe, yaml.safe_load(yaml.safe_dump(as_plain(recipe)))) == recipe


def test_overrides_reach_every_depth():
    values = override(GOOD, ["seed=4", "sources.0.weight=2.5", "rules.max_kb=1e2", "holdout.never=[a, b]"])
    recipe = build(Recipe, values)
    assert (recipe.seed, recipe.sources[0].weight, recipe.rules.max_kb) == (4, 2.5, 100.0)
    assert recipe.holdout.never == ("a", "b")
    assert "seed" not in GOOD


@pytest.mark.parametrize("assignment", ["seed", "=1", "sources.3.weight=1", "sources.x=1", "seed.a=1", "seed=[1"])
def test_a_bad_override_is_told(assignment):
    with pytest.raises(RequestError, match="--set"):
        override(GOOD | {"seed": 1}, [assignment])


@dataclass
class Inner:
    number: float = 0.5
    pair: tuple[int, str] = (1, "a")
    choice: bool | str = False


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    many: dict[str, list[Inner]] = field(default_factory=dict)
    path: Path | None = None


inners = st.builds(
    Inner,
    st.floats(allow_nan=False, allow_infinity=False),
    st.tuples(st.integers(), st.text()),
    st.booleans() | st.text(),
)


@given(st.builds(Outer, inners, st.dictionaries(st.text(), st.lists(inners, max_size=3), max_size=3)))
def test_a_saved_recipe_reads_back_the_same(recipe):
    text = yaml.safe_dump(as_plain(recipe))
    again = build(Outer, yaml.safe_load(text))
    assert again == recipe
    assert fingerprint(again) == fingerprint(recipe)


def test_the_command_builds_and_says_where_the_report_is(tmp_path, packages, capsys, monkeypatch):
    recipe = {
        "sources": [{"kind": "folder", "path": f"{packages}/*", "name": "code"}],
        "tokenizer": {"vocabulary": 500},
    }
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(recipe))
    words = ["train", "corpus", str(tmp_path / "my.yaml"), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*words, "--set", "seed=7"]) == 0
    out = capsys.readouterr().out
    assert "dropped: licence unknown" in out
    assert "report.html" in out
    assert json.loads((tmp_path / "out" / "report.json").read_text())["seed"] == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["standard-libary", "--out", "o"], "did you mean standard-library?"),
        (["broken.yaml", "--out", "o"], "is not YAML"),
        (["empty.yaml", "--out", "o"], "holds no keys"),
        (["standard-library"], "--out"),
        (["standard-library", "--out", "o", "--set", "nosuch=1"], "there is no key 'nosuch'"),
        (["standard-library", "--out", "file/below"], "cannot be made"),
    ],
)
def test_bad_use_of_the_command_is_one_sentence(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("a: [1\nb: 2")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "file").write_text("")
    assert main(["train", "corpus", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
