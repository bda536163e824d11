"""A pack and a causal model that the tests of training share; a test that changes one changes a copy."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pack(tmp_path_factory) -> Path:
    """A pack of generated modules."""
    from small import make_pack

    return make_pack(tmp_path_factory.mktemp("data") / "pack")


@pytest.fixture(scope="session")
def causal(tmp_path_factory, pack) -> Path:
    """The folder of a run of the stage base."""
    from small import SHAPE, run

    out = tmp_path_factory.mktemp("base") / "run"
    assert run("base", pack, out, shape=SHAPE, tokenizer=str(pack)) == 0
    return out
