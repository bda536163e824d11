"""How sure a model is at each length in general: measured in parts, it is what it is measured at once."""

from __future__ import annotations

import itertools

from fakes import FakeBackend, fake_facts

from model_runtime.engine.denoise import Bans
from model_runtime.engine.engine import Engine
from model_runtime.engine.lengths import BIAS_SAMPLES, measure_bias
from model_runtime.protocol import FillRequest


def test_measuring_goes_on_where_it_stopped(tokenizer):
    backend = FakeBackend(fake_facts())
    bans = Bans(backend.facts, tokenizer)
    whole = measure_bias(backend, tokenizer, bans, 4)
    samples: list[dict[int, float]] = []
    parts = []
    while len(samples) < BIAS_SAMPLES:
        turns = itertools.count()
        parts.append(measure_bias(backend, tokenizer, bans, 4, stop=lambda: next(turns) >= 9, samples=samples))  # noqa: B023
    assert len(parts) == 4
    assert parts[-1] == whole
    assert parts[0] != whole


def test_a_fill_in_little_time_measures_a_part_and_still_answers(tokenizer, monkeypatch):
    """The clock moves with every look at it: a third of the time measures, the rest fills."""
    from model_runtime.engine import denoise, engine

    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            self.now += 0.01
            return self.now

    clock = Clock()
    monkeypatch.setattr(engine, "time", clock)
    monkeypatch.setattr(denoise, "time", clock)
    running = Engine(FakeBackend(fake_facts(probe_bias=None, expand_id=None, delete_id=None)), tokenizer)
    request = FillRequest(text="x = \ny = 1\n", holes=[(4, 4)], deadline_ms=600.0, max_tokens=2)
    assert running.fill(request).holes[0].length_policy.startswith("probe:")
    first = len(running._bias_samples)
    assert 0 < first < BIAS_SAMPLES
    for _ in range(10):
        running.fill(request)
    assert len(running._bias_samples) == BIAS_SAMPLES
    assert running._probe_bias is not None
