"""The corpus: what is found, what is dropped, that text survives the tokenizer, and what a pack holds."""

import json
import random
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tokenizers import Tokenizer

from training.corpus import clean, pack, sources
from training.corpus.build import build, limit_files, table
from training.corpus.clean import Document
from training.corpus.sources import SourceFile
from training.corpus.tokenizer import SPECIAL_TOKENS, encode_plain, load_tokenizer, train_tokenizer

VOCABULARY = 600
WORDS = [a + b for a in ("read", "write", "merge", "split") for b in ("er", "_line", "_all", "s", "_by")]


def module(seed: int, functions: int = 6) -> str:
    """A small Python module that shares few word runs with one of another seed."""
    choose = random.Random(seed)
    parts = []
    for number in range(functions):
        a, b, c = (f"{choose.choice(WORDS)}{choose.randrange(1000)}" for _ in range(3))
        parts.append(
            f"def {a}_{number}({b}, {c}=None):\n    if {c} is None:\n        return {b}\n"
            f"    {a} = [{b}[{c}] + {choose.randrange(99)} for {c} in {b}]\n    return {a}, {c}\n\n\n"
        )
    return "".join(parts)


def distribution(root: Path, name: str, fields: str, files: dict[str, str | bytes]) -> None:
    """Installs a fake package: metadata with the given fields, a RECORD, and its files."""
    info = root / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{fields}\n")
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))


def source(tmp_path: Path, text: str | bytes, name: str = "m.py", package: str = "p") -> SourceFile:
    location = tmp_path / package / name
    location.parent.mkdir(parents=True, exist_ok=True)
    location.write_bytes(text if isinstance(text, bytes) else text.encode())
    return SourceFile(package, f"{package}/{name}", sources.kind_of(name), "MIT", location)


def document(package: str, kind: str, text: str) -> Document:
    return Document(SourceFile(package, f"{package}/m.py", kind, "MIT", Path("m.py")), text)


def reason(tmp_path: Path, text: str | bytes, held_out: tuple[str, ...] = ()) -> str | None:
    (examined,) = clean.examine([source(tmp_path, text)], held_out, workers=1)
    return examined.reason


# Sources


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ("License-Expression: MIT", True),
        ("License-Expression: Apache-2.0 AND BSD-3-Clause", True),
        ("License-Expression: Apache-2.0 WITH LLVM-exception", True),
        ("License-Expression: GPL-2.0-only OR MIT", True),
        ("License-Expression: MPL-2.0 AND MIT", False),
        ("License-Expression: MIT AND (GPL-2.0-only OR BSD-3-Clause)", False),
        ("License-Expression: LGPL-3.0-or-later", False),
        ("Classifier: License :: OSI Approved :: BSD License", True),
        ("Classifier: License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)", False),
        (
            "Classifier: License :: OSI Approved :: MIT License\n"
            "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
            False,
        ),
        ("License: Apache 2.0 License", True),
        ("License: 3-Clause BSD License", True),
        ("License: MPL-2.0 AND MIT", False),
        ("License: Proprietary, see MIT", False),
        ("Summary: no licence at all", False),
    ],
)
def test_a_licence_is_read_from_the_metadata(tmp_path: Path, fields: str, allowed: bool) -> None:
    distribution(tmp_path, "p", fields, {"p/m.py": "x = 1\n"})
    found, left_out = sources.installed(metadata.distributions(path=[str(tmp_path)]))
    assert [file.path for file in found] == (["p/m.py"] if allowed else [])
    assert list(left_out) == ([] if allowed else ["p"])


def test_vendored_held_out_and_own_code_never_enter(tmp_path: Path) -> None:
    for name in ("more_itertools", "toolz", "boltons", "diffill"):
        distribution(tmp_path, name, "License-Expression: MIT", {f"{name}/m.py": "x = 1\n"})
    distribution(
        tmp_path,
        "good",
        "License-Expression: MIT",
        {
            "good/core.py": "x = 1\n",
            "good/vendor.py": "x = 1\n",
            "good/_vendor/other.py": "x = 1\n",
            "good/extern/other.py": "x = 1\n",
            "good/toolz/copied.py": "x = 1\n",
            "good/data.txt": "x\n",
            "good/tests/helpers.py": "x = 1\n",
            "good/test_core.py": "x = 1\n",
            "../bin/tool.py": "x = 1\n",
        },
    )
    found, left_out = sources.installed(metadata.distributions(path=[str(tmp_path)]))
    assert {(file.path, file.kind) for file in found} == {
        ("good/core.py", "code"),
        ("good/vendor.py", "code"),
        ("good/tests/helpers.py", "tests"),
        ("good/test_core.py", "tests"),
    }
    assert set(left_out) == {"more-itertools", "toolz", "boltons", "diffill"}
    assert len(sources.held_out_texts(metadata.distributions(path=[str(tmp_path)]))) == 3


def test_the_standard_library_is_found_without_site_packages(tmp_path: Path) -> None:
    for path in (
        "abc.py",
        "json/tool.py",
        "test/test_abc.py",
        "site-packages/p/m.py",
        "config-3.12-arch/c.py",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    found = {file.path: file.kind for file in sources.standard_library(tmp_path)}
    assert found == {"abc.py": "code", "json/tool.py": "code", "test/test_abc.py": "tests"}


# Cleaning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (module(0), None),
        ("x = 1\n", "tiny"),
        ("# This file is auto-generated. Do not edit.\n" + module(0), "generated"),
        ("# Licensed under the GNU General Public License\n" + module(0), "copyleft notice"),
        (module(0) + "# " + "x" * 1001 + "\n", "long lines"),
        ("\n".join(f"name_{n} = f({', '.join(['argument'] * 14)})" for n in range(9)), "long lines"),
        ("TABLE = [\n" + "    1, 2.5, 0x1F, 'text',\n" * 60 + "]\n", "data"),
        (module(0) + "def broken(:\n", "does not parse"),
        (module(0) + "\0", "does not parse"),
        (module(0).encode() + b"# \xe9\n", "not UTF-8"),
        (module(0) * 400, "over 100 KB"),
    ],
)
def test_each_rule_drops_its_case(tmp_path: Path, text: str | bytes, expected: str | None) -> None:
    assert reason(tmp_path, text) == expected


def test_a_docstring_full_of_numbers_is_not_data(tmp_path: Path) -> None:
    assert reason(tmp_path, module(0) + '"""' + "1, 2, 3, 'four'\n" * 200 + '"""\n') is None


def test_line_ends_and_the_byte_order_mark_are_normalised() -> None:
    assert clean.decode(b"\xef\xbb\xbfa = 1\r\nb = 2\n") == "a = 1\nb = 2\n"


def test_a_copy_of_a_held_out_package_is_dropped(tmp_path: Path) -> None:
    held_out = module(1, functions=20)
    copied = '"""Utilities."""\n' + "".join(held_out.splitlines(keepends=True)[:40]) + module(2)
    assert reason(tmp_path, copied, (held_out,)) == "copy of a held-out package"
    assert reason(tmp_path, module(2), (held_out,)) is None


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_of_equal_and_near_equal_texts_is_kept(tmp_path: Path, workers: int) -> None:
    first, other = module(3, functions=30), module(4, functions=30)
    texts = [first, first.replace("\n\n\n", "\n\n"), first.replace("None", "Nil", 1), other, "x = 1\n"]
    files = [source(tmp_path, text, f"m{number}.py") for number, text in enumerate(texts)]
    kept, dropped = clean.remove_duplicates(clean.examine(files, workers=workers))
    assert [document.text for document in kept] == [first, other]
    assert dropped == {"exact duplicate": 1, "near duplicate": 1, "tiny": 1}


def test_sources_and_tests_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean, "SOURCE_CAPS_MB", {"torch": 0.001})
    monkeypatch.setattr(clean, "DEFAULT_CAP_MB", 0.003)
    documents = [document("torch", "code", "x" * 100) for _ in range(20)]
    documents += [document("small", "code", "x" * 100) for _ in range(20)]
    documents += [document("large", "code", "x" * 100) for _ in range(40)]
    documents += [document("small", "tests", "x" * 100) for _ in range(20)]
    kept, dropped = clean.balance(documents, seed=0)
    counts = {
        key: sum((d.file.source, d.file.kind) == key for d in kept)
        for key in {(d.file.source, d.file.kind) for d in documents}
    }
    assert counts == {
        ("torch", "code"): 10,
        ("small", "code"): 20,
        ("large", "code"): 30,
        ("small", "tests"): 9,
    }
    assert dropped == {"over the source's cap": 20, "over the tests' cap": 11}


# Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([module(seed, functions=40) for seed in range(20)], VOCABULARY)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [text[start:end] for _, (start, end) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def test_special_ids_and_size(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == VOCABULARY
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert tokenizer.normalizer is None


def test_too_little_text_is_an_error() -> None:
    with pytest.raises(ValueError, match="were asked for"):
        train_tokenizer(["x = 1\n"], VOCABULARY)


def test_lines_indentation_words_and_digits_do_not_mix(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, "if x2:\n\n    return f(a_b, 12345)  # x\r\n\tnaïve = é\u00a0 ") == [
        "if", " x2", ":", "\n", "\n", "    ", "return", " f", "(", "a_b", ",", " 123", "45", ")", "  ", "#",
        " x", "\r\n", "\t", "naïve", " =", " é", "\u00a0", " ",
    ]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.text(" \t\r\n\fab_1(:é\u0301\u3000𝒳<|mask|>", max_size=40))
def test_encoding_loses_nothing_and_gives_no_special_id(tokenizer: Tokenizer, text: str) -> None:
    ids = encode_plain(tokenizer, text)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert all(index >= len(SPECIAL_TOKENS) for index in ids)


def test_a_newline_is_one_token_of_its_own(tokenizer: Tokenizer) -> None:
    newline = tokenizer.token_to_id("Ċ")
    assert encode_plain(tokenizer, "\n\n\n") == [newline] * 3
    assert [token for token in tokenizer.get_vocab() if "Ċ" in token and token not in ("Ċ", "čĊ")] == []


def test_the_spelling_of_a_special_token_is_text_after_loading(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    text = "mask = '<|mask|>' + \"<|endoftext|>\"\n"
    for ids in (loaded.encode(text).ids, encode_plain(loaded, text)):
        assert min(ids) >= len(SPECIAL_TOKENS)
        assert loaded.decode(ids, skip_special_tokens=False) == text
    raw = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert 2 in raw.encode(text).ids, "the file itself must know its special tokens"


# Pack


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
