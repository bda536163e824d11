"""Engines without a model."""

from __future__ import annotations

import pytest
from fakes import FakeBackend

from model_runtime.engine.engine import Engine


@pytest.fixture(scope="session")
def fake_engine(tokenizer):
    """An engine over hashed logits; holes may grow and shrink."""
    return Engine(FakeBackend(), tokenizer)
