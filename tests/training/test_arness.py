"""AR-ness against numbers computed from the paper's formulas, and what must hold for any order."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.arness import (
    DIVISORS,
    MATCHES,
    arness,
    decoding_orders,
    global_arness,
    local_arness,
    ranks_left,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/arness/arness.json").read_text("utf-8"))["cases"]
ORDERS = st.integers(1, 24).flatmap(lambda count: st.permutations(range(count)))


@pytest.mark.parametrize("case", GOLDEN, ids=[case["name"] for case in GOLDEN])
def test_golden(case):
    for k in range(1, len(case["global_"]) + 1):
        for match in MATCHES:
            for divisor in DIVISORS:
                expected = case[f"local_{match}_over_{divisor}"][k - 1]
                found = local_arness(case["order"], k, match, divisor)
                assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))
        assert global_arness(case["order"], k) == pytest.approx(case["global_"][k - 1], abs=1e-12)


@given(st.integers(1, 40), st.integers(1, 10))
def test_left_to_right_is_one_where_only_possible_steps_count(count, k):
    order = list(range(100, 100 + count))
    assert global_arness(order, k) == 1
    assert local_arness(order, k, divisor="valid") == (1 if count > k else None)
    assert local_arness(order, k) == pytest.approx(max(count - k, 0) / count)


@given(ORDERS)
def test_definitions_spelled_out(order):
    """Against the formulas written as loops over Python sets."""
    total = len(order)
    for k in (1, 2, 3, 7):
        hits = {"set": 0, "sequence": 0, "global": 0}
        for t, position in enumerate(order):
            before = [order[t - i] for i in range(1, k + 1)] if t >= k else None
            left = [position - i for i in range(1, k + 1)]
            hits["sequence"] += before == left
            hits["set"] += before is not None and set(before) == set(left)
            hits["global"] += position in sorted(order[t:])[:k]
        assert local_arness(order, k, "set") == pytest.approx(hits["set"] / total)
        assert local_arness(order, k, "sequence") == pytest.approx(hits["sequence"] / total)
        assert global_arness(order, k) == pytest.approx(hits["global"] / total)


@given(ORDERS)
def test_monotone_in_k(order):
    """Global never falls with k, the sequence reading of local never rises."""
    found = arness(order, range(1, 9))
    rising, falling = list(found["global"].values()), list(found["local_sequence_over_T"].values())
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert rising[0] == pytest.approx(float((ranks_left(order) == 0).mean()))


def test_orders_from_a_history():
    mask = 9
    start = np.array([[1, mask, mask, mask], [mask, 5, mask, mask]])
    history = [
        np.array([[1, mask, mask, 7], [mask, 5, 3, 4]]),
        np.array([[1, 2, mask, 7], [1, 5, 3, 4]]),
        np.array([[1, 2, mask, 7], [1, 5, 3, 4]]),
    ]
    first, second = decoding_orders(start, history, mask)
    assert first.positions == [3, 1]  # position 2 was never revealed
    assert first.exact
    assert second.positions == [2, 3, 0]
    assert not second.exact  # two tokens in one step: put from left to right
    assert second.steps == 2


def test_a_token_that_was_masked_again_counts_when_it_stays():
    mask = 9
    canvases = np.array([[[mask, mask]], [[1, mask]], [[mask, 2]], [[1, 2]]])
    (order,) = decoding_orders(canvases[0], canvases[1:], mask)
    assert order.positions == [1, 0]


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        local_arness([0, 1], 0)
    with pytest.raises(ValueError, match="every position once"):
        global_arness([0, 0])
    with pytest.raises(ValueError, match="match is one of set, sequence"):
        local_arness([0, 1], 1, "bag")
    assert global_arness([]) is None
    assert local_arness([]) is None
