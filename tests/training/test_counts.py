"""The table of counted n-grams: what it keeps is counted right, and said by more than one project."""

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.engine.expert import context_keys, counted
from training import counts

documents = st.lists(st.lists(st.integers(0, 5), max_size=12), min_size=2, max_size=6)


def table(texts, sources, order, forward, pruning=(1, 1, 64)):
    """What `count_order` keeps of documents: {context's key: {token: count}}."""
    tokens = np.array([token for text in texts for token in text], np.int64)
    inside = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    kept = counts.count_order(tokens, inside, np.array(sources), order, forward, pruning)
    found, at = {}, 0
    for key, length in zip(np.cumsum(kept["gaps"], dtype=np.uint32).tolist(), kept["lengths"].tolist(), strict=True):
        part = slice(at, at + length)
        found[key] = dict(zip(kept["tokens"][part].tolist(), counted(kept["counts"][part]), strict=True))
        at += length
    return found


def plainly(texts, sources, order, forward):
    """The same, counted one by one."""
    pairs, said = defaultdict(Counter), defaultdict(set)
    for text, source in zip(texts, sources, strict=True):
        run = text if forward else text[::-1]
        for at in range(order, len(run)):
            before = np.array([[run[at - n] for n in range(1, order + 1)]], np.int64)
            key = int(context_keys(before, order)[0])
            pairs[key][run[at]] += 1
            said[key, run[at]].add(source)
    shared = {key: {t: n for t, n in of.items() if len(said[key, t]) >= counts.SOURCES} for key, of in pairs.items()}
    return {key: of for key, of in shared.items() if of}


@given(documents, st.integers(1, 3), st.booleans(), st.randoms())
def test_counts_are_those_of_a_plain_count(texts, order, forward, random):
    texts = [[0, 1, 2, 3, 4, 5], *texts]  # something is counted
    sources = [random.randrange(3) for _ in texts]
    expected, found = plainly(texts, sources, order, forward), table(texts, sources, order, forward)
    assert found.keys() == expected.keys()
    for key, of in expected.items():
        assert found[key].keys() == of.keys()
        np.testing.assert_allclose([found[key][token] for token in of], list(of.values()), rtol=0.15)


def test_what_one_project_says_is_left_out_however_often():
    ours, theirs = [1, 2, 3] * 9, [1, 2, 4]
    key = int(context_keys(np.array([[1]]), 1)[0])
    assert table([ours, ours, theirs], [0, 0, 1], 1, True).keys() == {key}
    assert len(table([ours, ours, theirs], [0, 1, 2], 1, True)) == 3
