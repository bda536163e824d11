"""Licences: expressions, headers, and the texts of LICENSE files."""

from __future__ import annotations

import pytest
from identify.vendor import licenses
from world import MIT, write

from training.corpus.licences import Licences, allowed, decide, in_header, of_text


@pytest.mark.parametrize(
    ("expression", "fine"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND (GPL-2.0-only OR BSD-3-Clause)", True),
        ("(MIT OR Apache-2.0) AND Unicode-DFS-2016", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("AGPL-3.0-or-later", False),
        ("LicenseRef-unknown", False),
        ("", False),
        ("MIT OR", False),
        ("no licence at all", False),
        ("AND", False),
    ],
)
def test_an_expression_is_read_as_it_is_meant(expression, fine):
    assert allowed(expression) is fine


@pytest.mark.parametrize("name", ["MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0", "MPL-2.0", "ISC", "Unlicense"])
def test_a_text_is_known_however_its_lines_break(tmp_path, name):
    text = dict(licenses.LICENSES)[name]
    assert of_text(write(tmp_path / "LICENSE", text)) == name
    words = f"Copyright (c) 2026 Somebody\n{text}".split(" ")
    rewrapped = "".join(word + ("\n" if n % 9 == 8 else " ") for n, word in enumerate(words))
    assert of_text(write(tmp_path / "LICENSE", rewrapped)) == name


def test_a_changed_licence_is_not_known(tmp_path):
    changed = MIT.replace("Permission is hereby granted", "No permission of any kind is ever granted") + (
        "\nThe Software shall be used for Good, not Evil, and not by competitors of the authors in any way.\n"
    )
    assert of_text(write(tmp_path / "LICENSE", changed)) is None
    assert of_text(write(tmp_path / "LICENSE", b"\xff\xfe")) is None
    assert of_text(tmp_path / "nothing") is None


def test_the_nearest_licence_counts(tmp_path):
    write(tmp_path / "LICENSE", MIT)
    write(tmp_path / "a" / "b" / "m.py", "")
    write(tmp_path / "c" / "COPYING", dict(licenses.LICENSES)["GPL-3.0"])
    write(tmp_path / "d" / "LICENSE.md", "Ask us.")
    write(tmp_path / "e" / "license.py", "x = 1\n")
    write(tmp_path / "e" / "pyproject.toml", '[project]\nlicense = "ISC"\n')
    found = Licences(tmp_path)
    names = {name: found.of_folder(tmp_path / name) for name in ("a/b", "c", "d", "e")}
    assert names == {"a/b": "MIT", "c": "GPL-3.0", "d": "LicenseRef-unknown", "e": "ISC"}


def test_two_licence_files_must_both_be_allowed(tmp_path):
    write(tmp_path / "LICENSE-MIT", MIT)
    write(tmp_path / "LICENSE-GPL", dict(licenses.LICENSES)["GPL-3.0"])
    assert Licences(tmp_path).of_folder(tmp_path) == "GPL-3.0 AND MIT"


def test_a_header_comes_before_the_surroundings():
    text = "#!/usr/bin/env python\n# SPDX-License-Identifier: GPL-2.0-only OR MIT\n"
    assert in_header(text) == "GPL-2.0-only OR MIT"
    assert in_header("/* SPDX-License-Identifier: MIT */") == "MIT"
    assert decide(text, "Proprietary", ("MIT",)) == ("GPL-2.0-only OR MIT", True)
    assert decide("x = 1\n", None, ("MIT",)) == ("unknown", False)
    assert decide("x = 1\n", "ISC", ("MIT",)) == ("ISC", False)
