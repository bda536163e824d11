"""Training rows of the three layouts: what they show, what they ask for, what each row sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from training.objectives.holes import IGNORE, InfillShape, TokenIds, begun_canvas  # noqa: E402
from training.objectives.infill import PAD, SUFFIX, WINDOW, infill_row, stack_rows  # noqa: E402
from training.objectives.layouts import canvas_row, causal_row  # noqa: E402

IDS = TokenIds(pad=0, bos=1, mask=2, expand=3, delete=4, newline=5)
SHAPE = InfillShape(layout="canvas", row_length=96, stretch=64, max_hole=24)
stretches = st.lists(st.sampled_from([5, *range(6, 60)]), min_size=16, max_size=63).map(np.array)


@given(stretches, st.integers(0, 1000))
def test_a_canvas_shows_its_stretch_with_masks(stretch, seed):
    row = canvas_row(stretch, SHAPE, IDS, np.random.default_rng(seed))
    used = row["kind"] != PAD
    shown, labels = row["ids"][used], row["mask_labels"][used]
    assert shown[0] == IDS.bos
    # the row before a mask is asked for it, and no other row for anything
    asked = np.append(shown[1:] == IDS.mask, False)
    assert ((labels != IGNORE) == asked).all()
    assert (row["next_labels"] == IGNORE).all()
    # with the answers in place of the masks the stretch is whole again; `expand` stands for what was merged
    answers = np.where(asked, labels, np.append(shown[1:], 0))[:-1]
    if IDS.expand not in answers:
        kept = answers[answers != IDS.delete]
        assert (kept == stretch[: len(kept)]).all()
        assert len(kept) == len(stretch) or len(shown) == SHAPE.row_length
    assert (row["weights"][used][asked] > 0).all()


@given(stretches, st.integers(0, 1000))
def test_everything_in_a_canvas_sees_everything(stretch, seed):
    rows = stack_rows([canvas_row(stretch, SHAPE, IDS, np.random.default_rng(seed))])
    used = rows.kind[0] != PAD
    visible = rows.visible()[0]
    assert visible[used][:, used].all()
    assert not visible[used][:, ~used].any()


def test_canvases_have_masks_anywhere_and_holes():
    stretch, rng = np.arange(6, 69), np.random.default_rng(0)
    shares = []
    for _ in range(200):
        row = canvas_row(stretch, SHAPE, IDS, rng)
        masked = np.flatnonzero(row["ids"] == IDS.mask)
        shares.append(len(masked) > 1 and (np.diff(masked) == 1).all())  # one run: a hole
    assert 0.1 < np.mean(shares) < 0.9


@given(stretches)
def test_a_causal_row_asks_for_every_next_token(stretch):
    rows = stack_rows([causal_row(stretch, SHAPE, IDS, np.random.default_rng(0))])
    count = len(stretch) + 1
    assert rows.ids[0, :count].tolist() == [IDS.bos, *stretch]
    assert rows.next_labels[0, :count].tolist() == [*stretch, IGNORE]
    assert (rows.mask_labels == IGNORE).all()
    assert rows.visible()[0, :count, :count].equal(torch.ones(count, count, dtype=torch.bool).tril())


@given(st.lists(st.integers(6, 60), max_size=12).map(np.array), st.integers(0, 1000))
def test_a_begun_hole_asks_for_what_follows(tokens, seed):
    shown, labels, weights = begun_canvas(tokens.astype(np.int64), IDS, np.random.default_rng(seed))
    written = len(shown) - 2
    assert shown.tolist() == [*tokens[:written], IDS.mask, IDS.mask]
    assert labels.tolist() == [IGNORE] * written + [*tokens, IDS.delete, IDS.delete][written : written + 2]
    assert weights[-2] > weights[-1] > 0 == weights[:-2].sum()


def test_begun_holes_begin_and_end_anywhere():
    asked = [begun_canvas(np.array([7, 8]), IDS, np.random.default_rng(n))[1][-2] for n in range(60)]
    assert set(asked) == {7, 8, IDS.delete}


@given(st.lists(st.integers(6, 60), min_size=40, max_size=63).map(np.array), st.integers(0, 200))
def test_a_hole_hangs_on_its_stretch(stretch, seed):
    """A window sees the stretch up to its hole, itself and its suffix; what it is asked for stands in the stretch."""
    shape = InfillShape(row_length=160, stretch=64, suffix=24, max_hole=24, begun=1.0)
    row = infill_row(stretch, shape, IDS, np.random.default_rng(seed))
    tokens, visible = np.append(IDS.bos, stretch), stack_rows([row]).visible()[0].numpy()
    for group in set(row["group"].tolist()) - {0}:
        own = row["group"] == group
        window, suffix = (np.flatnonzero(own & (row["kind"] == kind)) for kind in (WINDOW, SUFFIX))
        start = row["positions"][window[0]] + 1  # of the hole
        assert (row["ids"][window[:-2]] == tokens[start - 1 : start + len(window) - 3]).all()
        asked = row["mask_labels"][window[-3]]
        assert asked in (IDS.delete, tokens[min(start + len(window) - 3, len(tokens) - 1)])
        seen = np.flatnonzero(visible[window[-3]])
        before = np.arange(max(0, start - 1))
        assert set(seen) == {*before, *window, *suffix}
        if len(suffix):
            assert row["positions"][suffix[0]] == row["positions"][window[-1]] + 1
