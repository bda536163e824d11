"""What the catalog says of instructions is what a fetched checkpoint's own files say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parents[1]))

from synthetic import checkpoint

from model_runtime.catalog.entries import ENTRIES
from model_runtime.models.families import read_facts


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_catalog_and_the_folder_agree(tmp_path, entry):
    facts = read_facts(checkpoint(tmp_path, entry.repository.split("/")[1]))
    assert (facts.family, facts.chat is not None) == (entry.family, entry.instructed)
