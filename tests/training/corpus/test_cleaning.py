"""What is dropped of what was found: rules, copies, and what is more than its share."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import module, source

from training.corpus import clean
from training.corpus.clean import Document
from training.corpus.sources import SourceFile


def document(package: str, kind: str, text: str) -> Document:
    return Document(SourceFile(package, f"{package}/m.py", kind, "MIT", Path("m.py")), text)


def reason(tmp_path: Path, text: str | bytes, held_out: tuple[str, ...] = ()) -> str | None:
    (examined,) = clean.examine([source(tmp_path, text)], held_out, workers=1)
    return examined.reason


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
