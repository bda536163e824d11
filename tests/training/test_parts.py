"""What counts and network are worth alone: the counts alone must not heed the network at all."""

from __future__ import annotations

import numpy as np
import pytest

from model_runtime.engine.engine import Engine

pytest.importorskip("torch")

from training.evaluation import parts
from training.evaluation.holes import sample_holes


def test_the_counts_alone_heed_no_network() -> None:
    engine = Engine.load("embedded", threads=1)
    assert engine.expert is not None
    alone = parts.counts_alone(engine.expert, engine, sample_holes(("toolz",), 6, 0))
    seen = parts.observe(engine, sample_holes(("toolz",), 2, 1), 0)
    assert alone.end is not None
    for features, end_features in zip(seen.features, seen.end_features, strict=True):
        assert 1 / (1 + np.exp(-features @ alone.gate)) > 1 - 1e-12
        changed = np.where(parts.OF_NETWORK, 9.0, end_features)
        assert changed @ alone.end == pytest.approx(end_features @ alone.end)
    assert np.abs(alone.end).max() > 0.1  # something was learned
