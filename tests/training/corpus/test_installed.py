"""What is found in the packages and the library of a Python, and what never enters a corpus."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from world import write

from training.corpus import sources
from training.corpus.sources import held_out_texts


def distribution(root: Path, name: str, fields: str, files: dict[str, str | bytes]) -> None:
    """Installs a fake package: metadata with the given fields, a RECORD, and its files."""
    info = root / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{fields}\n")
    for path, text in files.items():
        write(root / path, text)
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))


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
    assert len(held_out_texts(metadata.distributions(path=[str(tmp_path)]))) == 3


def test_the_standard_library_is_found_without_site_packages(tmp_path: Path) -> None:
    for path in (
        "abc.py",
        "json/tool.py",
        "test/test_abc.py",
        "site-packages/p/m.py",
        "config-3.12-arch/c.py",
    ):
        write(tmp_path / path, "x = 1\n")
    found = {file.path: file.kind for file in sources.standard_library(tmp_path)}
    assert found == {"abc.py": "code", "json/tool.py": "code", "test/test_abc.py": "tests"}
