"""Context kept between fills: an answer never shows whether its context was found or encoded."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fakes import FakeBackend, fake_facts
from hypothesis import given, settings
from hypothesis import strategies as st
from snippet import SNIPPET

from model_runtime.backends.interface import Window
from model_runtime.engine.engine import Engine
from model_runtime.engine.kept import CHUNK, KeptContext
from model_runtime.protocol import FillRequest

PIECES = ("x", "(", "width", " = 1\n", "\n", "    return area\n", "größe", "🙂", "\r\n", "print_area(1, 2)\n" * 9)
OPTIONS = ({}, {"length": "fixed:5"}, {"length": "probe", "max_tokens": 6}, {"max_lines": 1, "alternatives": 2})


@pytest.fixture(scope="module", params=["tiny onnx", "tiny torch", "embedded"])
def engine(request, tiny_models) -> Engine:
    if request.param == "embedded":
        return Engine.load("embedded", threads=1)
    return Engine.load(tiny_models["context_blind"].folder, backend=request.param.split()[1])


@st.composite
def edits(draw):
    """A document that is typed in and deleted from, here and there; the hole is where the edit was."""
    text = draw(st.sampled_from([SNIPPET, SNIPPET * 6, ""]))
    documents = []
    for _ in range(draw(st.integers(2, 5))):
        at = draw(st.integers(0, len(text)))
        gone = draw(st.sampled_from([0, 0, 0, 1, 7, 200]))
        new = draw(st.sampled_from(PIECES))
        text = text[:at] + new + text[at + gone :]
        documents.append((text, at + len(new)))
    return documents


def answer(engine: Engine, text: str, at: int, options: dict):
    result = engine.fill(FillRequest(text=text, holes=[(at, at)], **{"max_tokens": 12, **options}))
    return dataclasses.replace(result, timing_ms={})


@settings(max_examples=12)
@given(edits(), st.sampled_from(OPTIONS))
def test_whatever_was_filled_before_the_answer_is_the_same(engine, documents, options):
    """To the last bit, confidences included; also where so little is kept that it is dropped all the time."""
    facts = engine.facts
    chunk = CHUNK * 2 * 4 * facts.layers * facts.kv_heads * facts.head_width
    for limit in (1 << 30, 2 * chunk):
        engine.kept = KeptContext(limit)
        warm = [answer(engine, *document, options) for document in documents]
        assert engine.kept.bytes <= limit
        for document, found in zip(documents, warm, strict=True):
            engine.kept = KeptContext(0)
            assert answer(engine, *document, options) == found
            assert engine.kept.bytes == 0


def test_chunks_are_what_one_piece_would_be(engine):
    """Keys and values in chunks at positions from 0, against one window: rounding apart, the same."""
    backend = engine.backend
    ids = np.array(engine.tokenizer.encode(SNIPPET * 3))[: 3 * CHUNK + 5]
    count = len(ids)
    window = Window(
        ids_BW=ids[None],
        positions_BW=np.arange(count)[None],
        segments_BW=np.zeros((1, count), np.int64),
        rows_BR=np.zeros((1, 1), np.int64),
        bias_CV=np.zeros((1, backend.facts.vocabulary), np.float32),
        bias_rows_BR=np.zeros((1, 1), np.int64),
    )
    _, *whole = backend.window(window)
    for one, parts in zip(whole, KeptContext().encode(backend, ids), strict=True):
        one, parts = np.asarray(one), np.asarray(parts)
        assert np.abs(one - parts).max() <= (0.02 if engine.facts.name == "embedded" else 1e-5) * np.abs(one).max()


def test_an_edit_costs_the_chunks_from_its_own_on():
    backend, kept = FakeBackend(fake_facts()), KeptContext()
    ids = np.arange(5, 5 + 3 * CHUNK + 9)
    kept.encode(backend, ids)
    assert [window.ids_BW.shape[1] for window in backend.windows] == [CHUNK, CHUNK, CHUNK, 9]
    backend.windows.clear()
    kept.encode(backend, ids)
    assert backend.windows == []
    kept.encode(backend, np.append(ids, 7))
    assert [window.ids_BW.shape[1] for window in backend.windows] == [10]
    backend.windows.clear()
    ids[CHUNK] = 1
    k, _ = kept.encode(backend, ids)
    assert [window.ids_BW.shape[1] for window in backend.windows] == [CHUNK, CHUNK, 9]
    assert k[0, 0, 0, :, 0].tolist() == ids.tolist()


def test_what_moves_costs_nothing():
    """Text typed before the suffix moves it; what is behind the hole is read at new positions."""
    backend, kept = FakeBackend(fake_facts()), KeptContext()
    prefix, suffix = np.arange(100, 190), np.arange(200, 290)
    for run in (prefix, suffix):
        kept.encode(backend, run)
    backend.windows.clear()
    kept.encode(backend, np.append(prefix, 3))
    kept.encode(backend, suffix)
    assert sum(window.ids_BW.shape[1] for window in backend.windows) == len(prefix) + 1 - CHUNK
    assert (kept.found, kept.encoded) == (CHUNK + len(suffix), 2 * 90 + len(prefix) + 1 - CHUNK)


@given(st.lists(st.tuples(st.integers(1, 3 * CHUNK), st.integers(0, 3)), max_size=20), st.integers(0, 5))
def test_the_bound_holds_and_the_oldest_go_first(runs, chunks):
    backend, kept = FakeBackend(fake_facts()), KeptContext(limit=chunks * CHUNK * 8)
    for length, kind in runs:
        k, v = kept.encode(backend, np.arange(length) + kind)
        assert k.shape[3] == v.shape[3] == length
        assert kept.bytes <= kept.limit
        assert kept.bytes == sum(k.nbytes + v.nbytes for k, v in kept._chunks.values())
