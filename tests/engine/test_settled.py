"""Settled tokens of holes whose keys and values stay: every row is there once, with its token, at its position."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from fakes import FakeBackend, fake_facts
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.backends.interface import HOLE, PADDING, Past, Window
from model_runtime.engine.cache import ContextCache, lay_out
from model_runtime.engine.canvas import Canvas, Cell, Hole
from model_runtime.engine.engine import Engine
from model_runtime.engine.kept import KeptContext


def step(cache: ContextCache, canvas: Canvas, facts) -> np.ndarray:
    layout = lay_out(canvas, facts)
    bias = np.zeros((1, facts.vocabulary), np.float32)
    return cache.step([layout], bias, [[0] * len(layout.masked)]).log_probs_BRA


@given(st.data(), st.booleans(), st.booleans())
def test_whatever_becomes_of_the_holes_each_step_sees_the_text_that_stands_there(data, shift, between):
    """The fake's logits depend on the tokens that are visible and their order, so a stale or doubled row would tell."""
    backend = FakeBackend(fake_facts(context_blind=False, shift=shift))
    contexts = [[10, 11, 12, 13], [20, 21], [30]]
    canvas = Canvas(contexts, [Hole(0, 0, [Cell() for _ in range(data.draw(st.integers(1, 4)))]) for _ in range(2)])
    kept = KeptContext() if between else None
    cache = ContextCache(backend, canvas, True, kept)
    for _ in range(data.draw(st.integers(2, 6))):
        if canvas.masked():
            whole = step(ContextCache(backend, canvas, enabled=False), canvas, backend.facts)
            np.testing.assert_array_equal(step(cache, canvas, backend.facts), whole)
        for hole in canvas.holes:
            for cell in list(hole.cells):
                change = data.draw(
                    st.sampled_from(["settle", "settle", "mask", "nothing", "nothing", "delete", "grow"])
                )
                if change == "settle":
                    cell.token = data.draw(st.integers(40, 60))
                elif change == "mask":  # as a sampler does that takes back what it is unsure of
                    cell.token = None
                elif change == "delete" and len(hole.cells) > 1:
                    hole.cells.remove(next(other for other in hole.cells if other is cell))
                elif change == "grow" and len(hole.cells) < 9:
                    hole.cells.append(Cell())


def test_a_step_computes_the_masks_their_rows_and_what_was_just_revealed():
    backend = FakeBackend(fake_facts(context_blind=False))
    cells = [Cell() for _ in range(6)]
    canvas = Canvas([[10, 11], [20]], [Hole(0, 0, cells)])
    cache = ContextCache(backend, canvas, enabled=True)
    seen = []
    for settled in range(6):
        step(cache, canvas, backend.facts)
        seen.append(backend.windows[-1].ids_BW[0].tolist())
        cells[settled].token = 40 + settled
    mask = backend.facts.mask_id
    assert seen[0] == [10, 11, *[mask] * 6, 20]
    assert seen[1] == [11, 40, *[mask] * 5]  # 40 is computed, and the next mask is predicted from it
    assert seen[2] == [11, 41, *[mask] * 4]  # 40 was kept; the row before the hole stays in the window
    assert seen[5] == [11, 44, mask]


@pytest.mark.parametrize("given_cells", [[0], [0, 1, 2]])
def test_context_alone_computes_the_whole_hole_in_each_step(given_cells):
    backend = FakeBackend(fake_facts(context_blind=False))
    cells = [Cell() for _ in range(6)]
    canvas = Canvas([[10, 11], [20]], [Hole(0, 0, cells)])
    cache = ContextCache(backend, canvas, True, keep_settled=False)
    for n in itertools.chain([None], given_cells):
        if n is not None:
            cells[n].token = 40
        step(cache, canvas, backend.facts)
    assert backend.windows[-1].ids_BW.shape == (1, 7)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
@pytest.mark.parametrize("together", [1, 2])
def test_written_rows_are_read_in_their_places(tiny_models, kind, together):
    """Also by a backend that has stacked the past before it was written."""
    if kind == "torch":
        pytest.importorskip("torch")
    backend = Engine.load(tiny_models["full"].folder, backend=kind, threads=1, together=together).backend
    backend = getattr(backend, "backend", backend)
    rng, facts = np.random.default_rng(0), backend.facts
    ids = rng.integers(5, 300, 9)

    def run(ids, positions, past=None):
        return backend.window(
            Window(
                ids_BW=np.array([ids]),
                positions_BW=np.array([positions]),
                segments_BW=np.full((1, len(ids)), HOLE),
                rows_BR=np.zeros((1, 1), np.int64),
                bias_CV=np.zeros((1, facts.vocabulary), np.float32),
                bias_rows_BR=np.zeros((1, 1), np.int64),
                past=past,
            )
        )

    _, k, v = run(ids[:8], range(8))
    every = np.ones(8, bool)
    own = [backend.join([backend.keep(part, every)] * 2)[:, :, :, :10] for part in (k, v)]
    at, present = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 0, 0]]), np.array([[HOLE] * 8 + [PADDING] * 2])
    before, _, _ = run(ids[8:], [8], Past(*own, at, present))
    _, other_k, other_v = run(rng.integers(5, 300, 8), range(8))
    for past, cached in zip(own, (other_k, other_v), strict=True):
        backend.write(past, np.array([2, 9]), cached, np.array([5, 1]))
    after, _, _ = run(ids[8:], [8], Past(*own, at, present, version=1))
    assert not np.allclose(before.log_probs_BRA, after.log_probs_BRA)
    parts = []
    for first, second in zip((k, v), (other_k, other_v), strict=True):
        rows = [first[:, :, :, [n]] for n in range(8)]
        rows[2] = second[:, :, :, [5]]
        parts.append(backend.join(rows))
    wanted, _, _ = run(ids[8:], [8], Past(*parts, at[:, :8], present[:, :8]))
    np.testing.assert_allclose(after.log_probs_BRA, wanted.log_probs_BRA, atol=1e-5)
    np.testing.assert_array_equal(after.ids_BRA, wanted.ids_BRA)
