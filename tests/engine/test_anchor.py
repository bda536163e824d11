"""Full attention between fills: what is far from the hole is found again, and nobody can tell from the answer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fakes import FakeBackend, fake_facts
from hypothesis import given, settings
from hypothesis import strategies as st
from snippet import SNIPPET

from model_runtime.engine.anchor import MARGIN, MASKS, STEP, near_rows
from model_runtime.engine.cache import ContextCache, lay_out
from model_runtime.engine.canvas import Canvas, Cell, Hole
from model_runtime.engine.engine import Engine
from model_runtime.engine.kept import KeptContext
from model_runtime.protocol import FillRequest

TEXT = SNIPPET * 3


@pytest.fixture(scope="module", params=["onnx", "torch"])
def engine(request, tiny_models) -> Engine:
    return Engine.load(tiny_models["full"].folder, backend=request.param)


def answer(engine: Engine, text: str, at: int, **options):
    request = FillRequest(text=text, holes=[(at, at)], **{"max_tokens": 8, "length": "fixed:4", **options})
    return dataclasses.replace(engine.fill(request), timing_ms={})


@settings(max_examples=8)
@given(
    st.lists(st.tuples(st.integers(0, len(TEXT)), st.sampled_from(["", "x", "\n", "width"])), min_size=2, max_size=4)
)
def test_an_answer_does_not_depend_on_earlier_fills(engine, edits):
    documents = [(TEXT[:at] + new + TEXT[at:], at + len(new)) for at, new in edits]
    engine.kept = KeptContext()
    warm = [answer(engine, *document) for document in documents + documents]
    for document, found in zip(documents + documents, warm, strict=True):
        engine.kept = KeptContext()
        assert answer(engine, *document) == found


def test_a_key_computes_the_near_context_only(engine):
    at = TEXT.index("\n", len(TEXT) // 2)
    engine.kept = KeptContext()
    answer(engine, TEXT, at)
    encoded = engine.kept.encoded
    for typed in ("x", "xy", "xyz"):
        answer(engine, TEXT[:at] + typed + TEXT[at:], at + len(typed))
    assert engine.kept.encoded == encoded > 0


def canvas_of(before: int, after: int, masks: int = 5) -> Canvas:
    ids = np.random.default_rng(before * 1000 + after).integers(5, 380, before + after).tolist()
    return Canvas([ids[:before], ids[before:]], [Hole(0, 0, [Cell() for _ in range(masks)])])


def step(cache: ContextCache, canvas: Canvas, facts):
    layout = lay_out(canvas, facts)
    return cache.step([layout], np.zeros((1, facts.vocabulary), np.float32), [[0] * len(layout.masked)])


@given(st.integers(1, 300), st.integers(0, 100))
def test_the_first_step_computes_what_is_near_and_later_ones_the_hole(before, after):
    """With the far rows, every row is there once, at its own position: the fake's logits tell."""
    backend = FakeBackend(fake_facts(context_blind=False))
    canvas, kept = canvas_of(before, after), KeptContext()
    whole = step(ContextCache(backend, canvas, enabled=False), canvas, backend.facts)
    backend.windows.clear()
    cache = ContextCache(backend, canvas, True, kept)
    for _ in range(3):
        np.testing.assert_array_equal(step(cache, canvas, backend.facts).ids_BRA, whole.ids_BRA)
    context = before - 1 + after  # the row before the hole belongs to the window
    near = int(near_rows(before - 1, after).sum())
    widths = [window.ids_BW.shape[1] for window in backend.windows]
    far = [context - near + MASKS] if near < context else []
    assert widths == [*far, near + 6, 6, 6]
    backend.windows.clear()
    step(ContextCache(backend, canvas, True, kept), canvas, backend.facts)
    assert [window.ids_BW.shape[1] for window in backend.windows] == [near + 6]


def test_variants_share_what_is_computed_before_them():
    backend = FakeBackend(fake_facts(context_blind=False))
    canvases = [canvas_of(100, 40, masks) for masks in (1, 4, 2)]
    layouts = [lay_out(canvas, backend.facts) for canvas in canvases]
    bias, lines = np.zeros((1, backend.facts.vocabulary), np.float32), [[0] * len(layout.masked) for layout in layouts]
    together = ContextCache(backend, canvases[0], True, KeptContext()).step(layouts, bias, lines)
    for b, canvas in enumerate(canvases):
        alone = step(ContextCache(backend, canvas, enabled=False), canvas, backend.facts)
        count = len(layouts[b].masked)
        np.testing.assert_array_equal(together.ids_BRA[b, :count], alone.ids_BRA[0])


@given(st.integers(1, 2000), st.integers(0, 2000))
def test_the_border_moves_in_steps(before, after):
    near = near_rows(before, after)
    assert len(near) == before + after
    assert near[max(0, before - MARGIN) : before + MARGIN].all()
    assert near[:before].sum() <= MARGIN + STEP
    assert int(np.argmax(near)) % STEP == 0 or not near.any()
