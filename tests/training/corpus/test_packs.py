"""What a pack holds: every document, the same in every build."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from world import module, source

from training.corpus import pack
from training.corpus.build import build, limit_files, table
from training.corpus.tokenizer import load_tokenizer

VOCABULARY = 600


def test_a_build_packs_every_document_and_repeats_itself(tmp_path: Path) -> None:
    files = [source(tmp_path, module(seed, 20), f"m{seed}.py", f"package{seed % 2}") for seed in range(40)]
    files.append(source(tmp_path, "x = 1\n", "tiny.py"))
    console = Console(quiet=True)
    report = build(tmp_path / "a", files, {"bad": "why"}, (), 7, VOCABULARY, workers=1, console=console)
    build(tmp_path / "b", files, {"bad": "why"}, (), 7, VOCABULARY, workers=1, console=console)
    build(tmp_path / "c", files, {"bad": "why"}, (), 8, VOCABULARY, workers=1, console=console)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["documents.json", "documents.npy", "report.json", "tokenizer.json", "tokens.npy"]
    same = [(tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names]
    assert all(same)

    loaded = pack.load_pack(tmp_path / "a")
    assert isinstance(loaded.tokens, np.memmap)
    assert loaded.tokens.dtype == np.uint16
    assert loaded.offsets.dtype == np.int64
    assert loaded.offsets[0] == 0
    assert loaded.offsets[-1] == len(loaded.tokens) == report["total"]["tokens"]
    assert len(loaded) == 40
    assert loaded.validation_from == 39

    listing = json.loads((tmp_path / "a" / "documents.json").read_text())
    tokenizer = load_tokenizer(tmp_path / "a" / "tokenizer.json")
    for index, entry in enumerate(listing):
        assert entry["source"] == entry["path"].split("/")[0]
        assert tokenizer.decode(loaded.document(index).tolist()) == (tmp_path / entry["path"]).read_text()
    assert [e["path"] for e in listing] != [
        e["path"] for e in json.loads((tmp_path / "c" / "documents.json").read_text())
    ]
    for name in ("documents.json", "report.json"):
        assert str(tmp_path) not in (tmp_path / "a" / name).read_text()

    assert report == json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["dropped"] == {"tiny": 1}
    assert report["left_out"] == {"bad": "why"}
    assert {name: row["files"] for name, row in report["sources"].items()} == {"package0": 20, "package1": 20}
    assert sum(row["tokens"] for row in report["sources"].values()) == report["total"]["tokens"]
    held = listing[39]["path"]
    expected = (tmp_path / held).stat().st_size / len(loaded.document(39))
    assert report["validation"]["bytes_per_token"] == pytest.approx(expected, abs=1e-3)
    assert table(report).row_count == 2 + 3 + 1


def test_a_build_with_nothing_left_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too few"):
        build(tmp_path / "a", [source(tmp_path, "x = 1\n")], {}, workers=1, console=Console(quiet=True))


def test_a_size_limit_takes_a_seeded_part(tmp_path: Path) -> None:
    files = [source(tmp_path, "x" * 1000, f"m{number}.py") for number in range(50)]
    part = limit_files(files, 0.01, seed=1)
    assert len(part) == 10
    assert part == limit_files(files, 0.01, seed=1) != limit_files(files, 0.01, seed=2)
    assert limit_files(files, None, seed=1) == files
