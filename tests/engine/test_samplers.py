"""Which masks each sampler reveals, on candidates made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.backends.interface import Candidates
from model_runtime.engine.samplers import RESIZE_SURE, draw, reveals
from model_runtime.protocol import SAMPLERS


def candidates_of(*rows, ids=None):
    """Candidates whose rows have these probabilities; ids are 100 r + a unless given."""
    probs = np.array(rows, float)
    ordered = -np.sort(-probs, axis=1)
    assert (probs == ordered).all(), "best first"
    with np.errstate(divide="ignore"):
        log_probs = np.log(probs)
    if ids is None:
        ids = np.arange(probs.shape[1]) + 100 * np.arange(len(probs))[:, None]
    entropy = -(probs * np.where(probs > 0, log_probs, 0)).sum(axis=1)
    return Candidates(np.array(ids)[None], log_probs[None], (probs[:, 0] - probs[:, 1])[None], entropy[None])


def revealed(sampler, candidates, *, threshold=0.9, steps_left=None, seed=0, **options):
    found = reveals(
        sampler, candidates, threshold=threshold, steps_left=steps_left, rng=np.random.default_rng(seed), **options
    )
    return {reveal.row: reveal for reveal in found}


# best probability: row 0; widest margin: row 1; lowest entropy: row 2
SPLIT = candidates_of(
    [0.60, 0.35, 0.01, 0.01, 0.01, 0.01, 0.01],
    [0.50, 0.10, 0.10, 0.10, 0.10, 0.10, 0.00],
    [0.51, 0.49, 0.00, 0.00, 0.00, 0.00, 0.00],
    [0.30, 0.20, 0.10, 0.10, 0.10, 0.10, 0.10],
)


@pytest.mark.parametrize(
    ("sampler", "first"), [("threshold", 0), ("maskgit_plus", 0), ("topk_margin", 1), ("entropy", 2)]
)
def test_the_surest_comes_first(sampler, first):
    (reveal,) = revealed(sampler, SPLIT).values()
    assert (reveal.row, reveal.token) == (first, 100 * first)
    assert reveal.confidence == pytest.approx(float(np.exp(SPLIT.log_probs_BRA[0, first, 0])))


@pytest.mark.parametrize(
    ("sampler", "order"), [("maskgit_plus", [0, 2, 1, 3]), ("topk_margin", [1, 0, 3, 2]), ("entropy", [2, 0, 1, 3])]
)
@pytest.mark.parametrize(("steps_left", "count"), [(1, 4), (2, 2), (3, 2), (4, 1), (9, 1), (None, 1)])
def test_as_many_as_the_steps_ask_for(sampler, order, steps_left, count):
    assert set(revealed(sampler, SPLIT, steps_left=steps_left)) == set(order[:count])


def test_threshold_reveals_all_that_reach_the_bound():
    candidates = candidates_of([0.95, 0.05], [0.5, 0.5], [0.9, 0.1], [0.89, 0.11])
    assert set(revealed("threshold", candidates, threshold=0.9)) >= {0, 2}
    assert set(revealed("threshold", candidates, threshold=0.89)) == {0, 2, 3}
    assert set(revealed("threshold", candidates, threshold=0.99)) == {0}
    assert set(revealed("threshold", candidates, threshold=0.99, steps_left=2)) == {0, 2}
    assert set(revealed("threshold", candidates, threshold=0.5, steps_left=4)) == {0, 1, 2, 3}
    assert set(revealed("threshold", candidates, threshold=0.99, steps_left=1)) == {0, 1, 2, 3}


def test_threshold_moves_every_hole():
    candidates = candidates_of([0.95, 0.05], [0.5, 0.5], [0.6, 0.4], [0.4, 0.3])
    assert set(revealed("threshold", candidates, holes_R=np.array([0, 1, 1, 2]))) == {0, 2, 3}


@given(st.integers(1, 30), st.one_of(st.none(), st.integers(1, 40)), st.sampled_from(SAMPLERS), st.integers(0, 99))
def test_every_step_reveals_and_no_row_twice(rows, steps_left, sampler, seed):
    probs = -np.sort(-np.random.default_rng(seed).dirichlet(np.ones(5), rows), axis=1)
    found = reveals(
        sampler, candidates_of(*probs), threshold=0.8, steps_left=steps_left, rng=np.random.default_rng(seed)
    )
    chosen = [reveal.row for reveal in found]
    assert 1 <= len(chosen) <= rows
    assert len(set(chosen)) == len(chosen)
    assert all(0 <= row < rows for row in chosen)
    if steps_left == 1:
        assert len(chosen) == rows
    elif steps_left is not None and sampler != "origin":
        assert len(chosen) >= rows / steps_left


def test_origin_reveals_each_with_the_same_probability():
    candidates = candidates_of(*[[0.99, 0.01]] * 5, *[[0.5, 0.5]] * 5)
    counts = np.zeros(10)
    for seed in range(2000):
        counts[list(revealed("origin", candidates, steps_left=4, seed=seed))] += 1
    share = counts / 2000
    assert share == pytest.approx(np.full(10, 0.25), abs=0.05)  # sure or not


def test_a_temperature_draws_but_does_not_look_surer():
    candidates = candidates_of([0.6, 0.3, 0.1])
    seen = {}
    for seed in range(300):
        (reveal,) = revealed("maskgit_plus", candidates, temperature=0.5, seed=seed).values()
        seen.setdefault(reveal.token, reveal.confidence)
    assert seen == {0: pytest.approx(0.6), 1: pytest.approx(0.3), 2: pytest.approx(0.1)}
    assert revealed("threshold", candidates, temperature=1e-3, threshold=0.9)[0].confidence == pytest.approx(0.6)


def frequencies(temperature=1.0, top_p=None, top_k=None, draws=20_000):
    log_probs = np.log(np.tile([0.4, 0.3, 0.2, 0.1], (draws, 1)))
    choice = draw(log_probs, temperature, top_p, top_k, np.random.default_rng(0))
    return np.bincount(choice, minlength=4) / draws


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0}, [1, 0, 0, 0]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"temperature": 1e-6}, [1, 0, 0, 0]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 4}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 99}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_p": 0.05}, [1, 0, 0, 0]),
        ({"top_p": 0.5}, [4 / 7, 3 / 7, 0, 0]),  # the one that crosses the bound stays
        ({"top_p": 0.75}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_p": 1.0}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_p": 0.75, "top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
    ],
    ids=str,
)
def test_what_is_drawn(options, expected):
    assert frequencies(**options) == pytest.approx(np.array(expected), abs=0.015)


@given(st.floats(0.001, 10), st.one_of(st.none(), st.floats(0.01, 1)), st.one_of(st.none(), st.integers(1, 9)))
def test_what_is_banned_is_never_drawn(temperature, top_p, top_k):
    log_probs = np.tile([-0.7, -0.7, -1e9, -1e9, -1e9], (200, 1))
    choice = draw(log_probs, temperature, top_p, top_k, np.random.default_rng(1))
    assert set(choice.tolist()) <= {0, 1}


def test_the_smallest_temperature_is_the_best_choice():
    with np.errstate(all="ignore"):
        assert draw(np.log([[0.4, 0.35, 0.25]] * 5), 5e-324, None, None, np.random.default_rng(0)).tolist() == [0] * 5


EXPAND, DELETE = 3, 4


def test_resizing_takes_a_sure_model():
    ids = [[EXPAND, 50, 51], [DELETE, EXPAND, 52], [53, EXPAND, DELETE]]
    unsure = candidates_of([0.65, 0.30, 0.05], [0.69, 0.21, 0.10], [0.4, 0.3, 0.3], ids=ids)
    found = revealed("threshold", unsure, steps_left=1, resizing=(EXPAND, DELETE))
    assert [found[row].token for row in range(3)] == [50, 52, 53]
    assert [found[row].confidence for row in range(3)] == pytest.approx([0.30, 0.10, 0.4])
    sure = candidates_of([0.75, 0.15, 0.1], [RESIZE_SURE + 0.01, 0.19, 0.1], [0.4, 0.3, 0.3], ids=ids)
    found = revealed("threshold", sure, steps_left=1, resizing=(EXPAND, DELETE))
    assert [found[row].token for row in range(3)] == [EXPAND, DELETE, 53]


def test_a_drawn_resize_needs_to_be_likely_too():
    candidates = candidates_of([0.6, 0.4], ids=[[50, EXPAND]])
    tokens = {
        revealed("origin", candidates, steps_left=1, temperature=1.0, seed=seed, resizing=(EXPAND,))[0].token
        for seed in range(50)
    }
    assert tokens == {50}
