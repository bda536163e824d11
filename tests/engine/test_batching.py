"""Fills that share passes: each answer is, to the last bit, what the fill gives without company."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_runtime.backends.interface import Window
from model_runtime.engine.batching import Courses, Shared
from model_runtime.engine.engine import Engine
from model_runtime.models.convert import convert
from model_runtime.protocol import FillRequest, FillResult, Frame, RewriteRequest

TEXT = "def area(width, height):\n    return width * height\n\n\nprint(area(2, 3))\n"


def run_together(engine, requests, cancels=()):
    """The messages of fills that run at once, by their number; an exception stands where one was raised."""
    courses, said = Courses(), [[] for _ in requests]

    def work(number: int, request) -> None:
        try:
            for message in engine.stream(request, cancels[number] if cancels else None):
                said[number].append(message)
        except Exception as error:
            said[number].append(error)

    for number, request in enumerate(requests):
        courses.start(lambda number=number, request=request: work(number, request))
    while len(courses):
        courses.advance()
    return said, courses


def answer(message):
    """What must be the same: everything but the times."""
    assert isinstance(message, FillResult), message
    return message.holes, message.alternatives, message.end, message.steps


@pytest.fixture(scope="module")
def engines(tiny_models, tmp_path_factory):
    """Engines that let four fills share passes, by attention and backend."""
    written = convert(tiny_models["full"].folder, tmp_path_factory.mktemp("converted") / "model")
    found = {("full", "converted"): Engine.load(written, "onnx", threads=1, together=4)}
    for attention, one in tiny_models.items():
        for backend in ("onnx", "torch"):
            found[attention, backend] = Engine.load(one.folder, backend, threads=1, together=4)
    for engine in found.values():
        engine._probe_bias = ((1, 0.1), (3, 0.1), (6, 0.1))  # measuring it takes longer than all fills
    found["embedded", "onnx"] = Engine.load("embedded", threads=1, together=4)
    return found


def fills():
    """Requests of many kinds: where the hole is, how it is decoded, how much stands around it."""
    edges = st.integers(0, len(TEXT))
    lengths = st.sampled_from(["expand", "search", "fixed:1", "fixed:3", "fixed:7", "probe"])
    plain = st.builds(
        lambda at, size, length, repeat, **rest: FillRequest(
            text=TEXT * repeat, holes=[(at, min(at + size, len(TEXT)))], length=length, max_tokens=8, **rest
        ),
        edges,
        st.integers(0, 12),
        lengths,
        st.integers(1, 3),
        temperature=st.sampled_from([0.0, 0.9]),
        seed=st.integers(0, 3),
        cache=st.sampled_from(["on", "off"]),
    )
    several = st.builds(
        lambda at, gap, **rest: FillRequest(
            text=TEXT, holes=[(at, at), (at + gap, at + gap)], length="fixed:2", **rest
        ),
        st.integers(0, 20),
        st.integers(1, 20),
        seed=st.integers(0, 3),
    )
    rewrites = st.builds(
        lambda strength: RewriteRequest(text=TEXT, range=(25, 50), strength=strength, max_tokens=8),
        st.sampled_from([0.4, 1.0]),
    )
    return st.one_of(plain, several, rewrites)


KINDS = [("context_blind", "onnx"), ("full", "onnx"), ("full", "converted"), ("full", "torch"), ("embedded", "onnx")]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(requests=st.lists(fills(), min_size=2, max_size=5))
def test_answers_do_not_depend_on_company(engines, kind, requests):
    engine = engines[kind]
    said, _ = run_together(engine, requests)
    for request, messages in zip(requests, said, strict=True):
        assert answer(messages[-1]) == answer(engine.fill(request))


def test_passes_are_shared(engines):
    engine = engines["context_blind", "onnx"]
    requests = [FillRequest(text=TEXT, holes=[(30, 30)], length="fixed:6", steps=6, seed=seed) for seed in range(4)]
    ran = []
    real = engine.backend.backend
    run, real._run = real._run, lambda joint: ran.append(len(joint.pasts_F)) or run(joint)
    try:
        run_together(engine, requests)
    finally:
        real._run = run
    assert ran.count(4) >= 6


def test_a_cancelled_fill_leaves_the_others_as_they_are(engines):
    engine = engines["context_blind", "onnx"]
    requests = [FillRequest(text=TEXT, holes=[(30, 30)], length="fixed:6", steps=6, frames=True) for _ in range(3)]
    alone = answer(engine.fill(requests[0]))
    cancel = threading.Event()

    class AfterTwoSteps:
        """Cancels the second fill once it has said two frames."""

        def is_set(self) -> bool:
            return sum(isinstance(message, Frame) for message in said) >= 2

    said: list = []
    courses = Courses()
    others: list[list] = [[], []]

    def collect(into: list, request, stop) -> None:
        for message in engine.stream(request, stop):
            into.append(message)

    courses.start(lambda: collect(others[0], requests[0], cancel))
    courses.start(lambda: collect(said, requests[1], AfterTwoSteps()))
    courses.start(lambda: collect(others[1], requests[2], cancel))
    while len(courses):
        courses.advance()
    assert said[-1].end == "cancelled"
    assert said[-1].steps == 2
    assert [answer(messages[-1]) for messages in others] == [alone, alone]


def test_a_deadline_ends_its_own_fill_only(engines):
    engine = engines["context_blind", "onnx"]
    late = FillRequest(text=TEXT, holes=[(30, 30)], length="fixed:6", steps=6, deadline_ms=0.001)
    calm = FillRequest(text=TEXT, holes=[(30, 30)], length="fixed:6", steps=6)
    said, _ = run_together(engine, [late, calm])
    assert said[0][-1].end == "deadline"
    assert answer(said[1][-1]) == answer(engine.fill(calm))


class Picky:
    """A backend that fails for a window with a certain token, alone or in company."""

    def __init__(self, backend, poison: int):
        self.backend, self.poison = backend, poison
        self.name, self.facts, self.keep, self.join = backend.name, backend.facts, backend.keep, backend.join

    def window(self, window: Window):
        return self.windows([window])[0]

    def windows(self, windows: list[Window]):
        if any((window.ids_BW == self.poison).any() for window in windows):
            raise RuntimeError("poison")
        return self.backend.windows(windows)


def test_a_window_that_fails_fails_alone(engines, tokenizer):
    shared = engines["context_blind", "onnx"]
    poison = tokenizer.encode("!")[0]
    engine = Engine(Shared(Picky(shared.backend.backend, poison)), tokenizer, keep_bytes=0)
    good = FillRequest(text=TEXT, holes=[(30, 30)], length="fixed:3")
    bad = FillRequest(text="!" * 40 + TEXT, holes=[(70, 70)], length="fixed:3")
    said, _ = run_together(engine, [good, bad, good])
    assert isinstance(said[1][-1], RuntimeError)
    assert answer(said[0][-1]) == answer(said[2][-1]) == answer(shared.fill(good))


def test_kept_context_counts_a_chunk_once_that_two_fills_encode_at_once(engines):
    engine = engines["context_blind", "onnx"]
    engine.kept._chunks.clear()
    engine.kept.bytes = 0
    same = [FillRequest(text=TEXT, holes=[(40, 40)], length="fixed:2") for _ in range(3)]
    run_together(engine, same)
    kept = sum(k.nbytes + v.nbytes for k, v in engine.kept._chunks.values())
    assert engine.kept.bytes == kept > 0


def test_keys_of_a_padded_pass_hold_no_more_than_their_own(engines):
    """What is kept for later fills must not keep the whole joint pass in memory."""
    backend = engines["context_blind", "onnx"].backend.backend
    facts = backend.facts
    one = Window(
        np.full((1, 3), 5),
        np.arange(3)[None],
        np.zeros((1, 3), np.int64),
        np.zeros((1, 1), np.int64),
        np.zeros((1, facts.vocabulary), np.float32),
        np.zeros((1, 1), np.int64),
    )
    for _, k, v in backend.windows([one, one, one]):
        assert k.shape == v.shape == (facts.layers, 1, facts.kv_heads, 3, facts.head_width)
        assert k.base is None or k.base.nbytes == k.nbytes
