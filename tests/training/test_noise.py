"""The forward process, attention annealing and the targets that resize holes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from training.objectives.annealing import annealed_mask, opened_share  # noqa: E402
from training.objectives.dreamon import Resizing, line_hole, resize_row  # noqa: E402
from training.objectives.noise import (  # noqa: E402
    Noise,
    conditional_share,
    draw_masks,
    keep_prefix,
    keep_suffix,
    random_mask,
    span_mask,
    truncation,
)

EXPAND, DELETE, NEWLINE = 90, 91, 92


@pytest.mark.parametrize("mask", [random_mask, lambda m, t, rng: span_mask(m, t, 4, rng)], ids=["random", "span"])
def test_every_maskable_token_is_masked_with_probability_t(mask):
    rng = np.random.default_rng(0)
    maskable = np.arange(40) % 5 > 0
    share = np.mean([mask(maskable, 0.3, rng) for _ in range(4000)], axis=0)
    assert not share[~maskable].any()
    assert np.abs(share[maskable] - 0.3).max() < 4 * (0.21 / 4000) ** 0.5


def test_spans_come_in_runs():
    masked = span_mask(np.ones(800, bool), 0.5, 8, np.random.default_rng(1))
    edges = np.flatnonzero(np.diff(masked.astype(int)))
    assert set(np.diff(edges) % 8) == {0}
    assert 0.35 < masked.mean() < 0.65


@given(st.integers(1, 60), st.integers(0, 1000))
def test_conditions_and_truncation_are_runs_at_an_end(length, seed):
    rng = np.random.default_rng(seed)
    everything = np.ones(length, bool)
    prefix, suffix, cut = keep_prefix(everything, rng), keep_suffix(everything, rng), truncation(length, rng)
    assert (np.diff(prefix.astype(int)) >= 0).all()  # un-noised first
    assert prefix[-1]
    assert (np.diff(suffix.astype(int)) <= 0).all()
    assert suffix[0]
    assert (np.diff(cut.astype(int)) <= 0).all()
    assert cut[0]


@given(st.integers(1, 60), st.integers(0, 1000))
def test_a_row_is_masked_only_where_it_may_be(length, seed):
    noise = Noise(spans=0.5, keep_prefix=0.5, keep_suffix=0.5, truncate=0.5)
    start = np.arange(length) >= min(3, length - 1)
    masks = draw_masks(start, noise, np.random.default_rng(seed))
    again = draw_masks(start, noise, np.random.default_rng(seed))
    assert not (masks.masked_L & ~masks.maskable_L).any()
    assert not (masks.maskable_L & ~(start & masks.present_L)).any()
    assert noise.t_min <= masks.t < 1
    assert (masks.masked_L == again.masked_L).all()
    assert masks.t == again.t


def test_the_condition_is_added_over_the_first_epoch():
    assert [conditional_share(done, 1.0) for done in (0, 0.25, 1, 3)] == [0, 0.25, 1, 1]
    assert conditional_share(0, 0) == 1


def test_annealing_begins_causal_and_ends_full():
    causal = torch.ones(9, 9, dtype=torch.bool).tril()
    assert torch.equal(annealed_mask(9, 0.0, seed=3), causal)
    assert annealed_mask(9, 1.0, seed=3) is None
    half = annealed_mask(200, 0.5, seed=3)
    above = torch.ones(200, 200, dtype=torch.bool).triu(1)
    assert half[~above].all()
    assert 0.48 < half[above].float().mean() < 0.52
    assert torch.equal(half, annealed_mask(200, 0.5, seed=3))
    assert not torch.equal(half, annealed_mask(200, 0.5, seed=4))


def test_the_opened_share_rises_to_one():
    assert [opened_share(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert opened_share(0, 1) == opened_share(0, 0) == 1


@given(st.integers(2, 60), st.integers(0, 500), st.floats(0.01, 0.99))
def test_a_resized_hole_says_what_it_stood_for(length, seed, t):
    """Expand doubles, delete removes: taken at their word, the targets give the hole back."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 90, length)
    ids[rng.random(length) < 0.2] = NEWLINE
    hole = line_hole(ids, NEWLINE, 3, rng)
    start, end = hole
    assert 1 <= start < end <= length
    assert start == 1 or ids[start - 1] == NEWLINE
    assert end == length or ids[end - 1] == NEWLINE
    row = resize_row(ids, hole, t, EXPAND, DELETE, Resizing(max_delete=5), rng)
    assert len(row.targets_M) == len(row.masked_M) == len(row.maskable_M) == len(row.scale_M) <= length
    asked = row.targets_M[row.masked_M]
    deletes, expands = int((asked == DELETE).sum()), int((asked == EXPAND).sum())
    assert not set(row.targets_M[~row.masked_M]) & {EXPAND, DELETE}
    assert (row.targets_M[:start] == ids[:start]).all()
    if len(row.targets_M) < length:  # nothing was cut off
        assert len(row.targets_M) == length - expands + deletes
    if deletes and len(row.targets_M) < length:
        assert row.scale_M[row.masked_M & (row.targets_M == DELETE)].sum() == pytest.approx(1.0)


def test_a_hole_without_resizing_keeps_its_tokens():
    ids = np.array([5, 6, NEWLINE, 7, 8, NEWLINE, 9])
    row = resize_row(ids, (3, 6), 0.99, EXPAND, DELETE, Resizing(max_delete=0, merge=0.0), np.random.default_rng(0))
    assert (row.targets_M == ids).all()
    assert not row.masked_M[[0, 1, 2, 6]].any()
    assert row.maskable_M.tolist() == [False, False, False, True, True, True, False]
