"""What the tests of the engine share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes import FakeBackend

from model_runtime.engine.engine import Engine


@pytest.fixture(scope="session")
def fake_engine(tokenizer) -> Engine:
    """An engine over hashed logits; holes may grow and shrink."""
    return Engine(FakeBackend(), tokenizer)


@pytest.fixture(scope="session")
def ids(tokenizer) -> Callable[[str], int]:
    """Ids by their text, of single tokens."""

    def of(text: str) -> int:
        (number,) = tokenizer.encode(text)
        return number

    return of
