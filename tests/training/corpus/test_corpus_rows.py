"""Rows of parquet and jsonl, streamed: fields, licences, broken files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from world import QUIET, module, recipe_of, write

from model_runtime.protocol import RequestError
from training.corpus.inputs import find_inputs, read
from training.corpus.pipeline import build_corpus


def rows(first: int, count: int) -> list[dict]:
    return [
        {
            "content": module(number, 12),
            "path": f"src/m{number}.py",
            "repo": f"someone/repo{number % 3}",
            "licences": ["MIT"],
        }
        for number in range(first, first + count)
    ]


def parquet(path: Path, values: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(values), path, row_group_size=2)
    return path


FIELDS = {"path_field": "path", "group_field": "repo", "licence_field": "licences"}


def listing(out: Path) -> set[tuple[str, str]]:
    return {(d["group"], d["path"]) for d in json.loads((out / "documents.json").read_text())}


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_rows_become_documents_of_their_repositories(tmp_path, kind):
    values = rows(0, 12)
    values[3]["licences"] = ["MIT", "GPL-3.0"]
    values[4]["licences"] = []
    values[5]["content"] = None
    values[6]["path"] = "notes.txt"
    values[6]["content"] = "Nothing that parses: " + "some words of a text that is long enough\n" * 8
    if kind == "parquet":
        parquet(tmp_path / "in" / "a.parquet", values[:7])
        parquet(tmp_path / "in" / "b.parquet", values[7:])
    else:
        write(tmp_path / "in" / "a.jsonl", "".join(json.dumps(row) + "\n" for row in values[:7]))
        lines = "".join(json.dumps(row) + "\n" for row in values[7:]).encode()
        write(tmp_path / "in" / "b.jsonl.gz", gzip.compress(lines))
    source = {"kind": kind, "path": str(tmp_path / "in" / "*"), "name": "rows", **FIELDS}
    recipe = recipe_of(sources=[source], holdout={"share": 0})
    report = build_corpus(recipe, tmp_path / "out", 1, QUIET)
    assert report["dropped"] == {"licence not allowed": 1, "licence unknown": 1, "no text": 1}
    expected = {(row["repo"], row["path"]) for row in values} - {
        (values[n]["repo"], values[n]["path"]) for n in (3, 4, 5)
    }
    assert listing(tmp_path / "out") == expected
    assert len(find_inputs(recipe).tasks) == 2  # one a file: they are read in parallel


def test_a_limit_reads_the_first_rows_of_each_shard(tmp_path):
    parquet(tmp_path / "a.parquet", rows(0, 8))
    recipe = recipe_of(sources=[{"kind": "parquet", "path": str(tmp_path / "a.parquet"), "licence": "MIT", "limit": 3}])
    (task,) = find_inputs(recipe).tasks
    assert [raw.text for raw in read(recipe, task)] == [module(number, 12) for number in range(3)]


def broken_parquet(path: Path) -> None:
    write(path, b"PAR1 this is no parquet PAR1")


def torn_parquet(path: Path) -> None:
    """The head is whole, so that the schema can be read, and pages in the middle are not."""
    parquet(path, rows(0, 40))
    raw = bytearray(path.read_bytes())
    raw[100 : len(raw) // 2] = b"\xff" * (len(raw) // 2 - 100)
    path.write_bytes(raw)


def broken_jsonl(path: Path) -> None:
    write(path, json.dumps(rows(0, 1)[0]) + '\n{"content": "cut of')


@pytest.mark.parametrize(
    ("kind", "make"), [("parquet", broken_parquet), ("parquet", torn_parquet), ("jsonl", broken_jsonl)]
)
def test_a_broken_file_is_told_by_its_name_in_one_sentence(tmp_path, kind, make):
    parquet(tmp_path / "good.parquet", rows(0, 4))
    path = tmp_path / f"bad.{kind}"
    make(path)
    source = {"kind": kind, "path": str(tmp_path / f"*.{kind}"), "name": "rows", **FIELDS}
    with pytest.raises(RequestError, match=rf"rows: \S*bad.{kind} .*cannot be read: ") as told:
        build_corpus(recipe_of(sources=[source]), tmp_path / "out", 1, QUIET)
    assert "\n" not in str(told.value)


def test_a_field_that_is_missing_is_told_with_those_that_are_there(tmp_path):
    parquet(tmp_path / "a.parquet", rows(0, 4))
    source = {"kind": "parquet", "path": str(tmp_path / "a.parquet"), "text_field": "text", "licence": "MIT"}
    with pytest.raises(RequestError, match="has no field text; it has content, licences, path, repo"):
        find_inputs(recipe_of(sources=[source]))


def test_a_data_set_by_its_name_is_streamed_with_its_split(tmp_path):
    """A folder of files is a data set to `datasets`, so the way of the Hub is tried without a network."""
    parquet(tmp_path / "set" / "train-00000.parquet", rows(0, 6))
    parquet(tmp_path / "set" / "train-00001.parquet", rows(6, 6))
    parquet(tmp_path / "set" / "test-00000.parquet", rows(20, 3))
    source = {"kind": "hub", "dataset": str(tmp_path / "set"), "name": "set", **FIELDS}
    build_corpus(recipe_of(sources=[source], holdout={"share": 0}), tmp_path / "out", 1, QUIET)
    assert listing(tmp_path / "out") == {(row["repo"], row["path"]) for row in rows(0, 12)}
    bad = recipe_of(sources=[source | {"split": "nosuch"}])
    with pytest.raises(RequestError, match=r"set: .* cannot be read: .*nosuch") as told:
        build_corpus(bad, tmp_path / "other", 1, QUIET)
    assert "\n" not in str(told.value)
