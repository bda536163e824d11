"""What must hold for every fill, whatever the text, the holes and the options."""

from __future__ import annotations

import re
from unittest import mock

import numpy as np
import pytest
from fakes import FakeBackend, ScriptedBackend, fake_facts
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model_runtime.engine import fills
from model_runtime.engine.canvas import MASK_SHOWN, Canvas
from model_runtime.engine.engine import Engine
from model_runtime.protocol import SAMPLERS, FillRequest, FillResult, ModelError, RequestError, RewriteRequest

PIECES = (
    "def f(x):",
    "    return area",
    "print_area",
    " self.value += amount",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "        ",
    "\ufeff",
    "e\u0301",
    "größer",
    "🙂",
    "👩‍👩‍👧",
    "<|mask|>",
    "░",
    "\x00",
    "= 100",
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.lists(st.sampled_from([*PIECES[:5], "\r\n"]), max_size=14).map(lambda lines: "\r\n".join(lines)),
)


@st.composite
def requests(draw, **fixed):
    """A FillRequest that can be served: some holes in some text, and options over their whole range."""
    text = draw(TEXTS)
    edges = sorted(draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=8)))
    holes: list[tuple[int, int]] = []
    for start, end in zip(edges[::2], edges[1::2], strict=False):
        if not holes or start > holes[-1][1] or (start == holes[-1][1] and end > start):
            holes.append((start, end))
    options = {
        "length": draw(st.sampled_from(["auto", "expand", "fixed:1", "fixed:5", "fixed:12"])),
        "max_tokens": draw(st.sampled_from([1, 2, 7, 10])),
        "max_lines": draw(st.sampled_from([None, None, 1, 2])),
        "steps": draw(st.sampled_from([None, 1, 2, 5])),
        "sampler": draw(st.sampled_from(SAMPLERS)),
        "temperature": draw(st.sampled_from([0.0, 0.0, 0.3, 1.0, 10.0])),
        "top_p": draw(st.sampled_from([None, 0.1, 0.9, 1.0])),
        "top_k": draw(st.sampled_from([None, 1, 3, 500])),
        "seed": draw(st.integers(0, 3)),
        "cache": draw(st.sampled_from(["on", "off"])),
        "frames": True,
    }
    return FillRequest(text=text, holes=holes, **options | fixed)


@pytest.fixture(scope="session")
def fake_engine(tokenizer):
    """An engine over hashed logits; holes may grow and shrink."""
    return Engine(FakeBackend(), tokenizer)


class Watched:
    """A fill that is looked at after every step: its canvases, frames and result."""

    def __init__(self, engine, request, cancel=None):
        self.frames, self.result, self.canvas = [], None, None
        self.settled: dict[int, int] = {}
        denoise = fills.denoise

        def watched(*arguments, **named):
            canvas = next(a for a in arguments if isinstance(a, Canvas))
            self.canvas, self.settled = canvas, {}
            for step in denoise(*arguments, **named):
                self.look(request, engine)
                yield step

        with mock.patch.object(fills, "denoise", watched):
            for message in engine.stream(request, cancel):
                if isinstance(message, FillResult):
                    assert self.result is None
                    self.result = message
                else:
                    self.frames.append(message)

    def cells(self):
        return [cell for hole in self.canvas.holes for cell in hole.cells]

    def look(self, request, engine):
        """What holds between two steps."""
        cells = {id(cell): cell for cell in self.cells()}
        for known, token in self.settled.items():
            if known in cells:
                assert cells[known].token == token, "a settled token changed"
            else:
                assert request.max_lines is not None, "a settled token went away"
        self.settled = {known: cell.token for known, cell in cells.items() if cell.token is not None}
        text_ids = set(engine.tokenizer.text_ids)
        for cell in cells.values():
            assert cell.token is None or cell.token in text_ids
            assert cell.only is None or cell.token is None or cell.token in cell.only
        for hole in self.canvas.holes:
            assert hole.free_cells() <= request.max_tokens


def check_result(request, result):
    """What a result owes its request."""
    text = request.text
    assert [(hole.start, hole.end) for hole in result.holes] == list(map(tuple, request.holes))
    applied, position, shift = result.apply(text), 0, 0
    for hole in result.holes:  # outside, character by character
        assert applied[position + shift : hole.start + shift] == text[position : hole.start]
        assert applied[hole.start + shift : hole.start + shift + len(hole.text)] == hole.text
        position, shift = hole.end, shift + len(hole.text) - (hole.end - hole.start)
    assert applied[position + shift :] == text[position:]
    for hole in result.holes:
        end = 0
        for token in hole.tokens:
            assert end <= token.start < token.end
            assert token.start == end, "tokens leave no gap"
            assert 0 < token.confidence <= 1
            assert -1 <= token.step <= result.steps
            end = token.end
        assert end == len(hole.text)
        assert 0 <= hole.confidence <= 1
        if hole.tokens:
            logs = [np.log(token.confidence) for token in hole.tokens]
            assert hole.confidence == pytest.approx(float(np.exp(np.mean(logs))))
        if request.max_lines is not None:
            assert hole.text.count("\n") < request.max_lines
        hole.text.encode()
    assert result.alternatives == []
    assert result.seed == request.seed
    assert set(result.timing_ms) == {"load", "encode", "denoise", "total"}
    if request.steps is not None:
        assert result.steps <= request.steps


def check_frames(request, frames, result):
    """Frames follow one another and lead to the result."""
    assert [frame.step for frame in frames] == list(range(1, result.steps + 1))
    for frame in frames:
        assert frame.steps >= frame.step
        assert len(frame.holes) == len(request.holes)
        for hole in frame.holes:
            end = 0
            for start, stop in hole.settled:
                assert end <= start < stop <= len(hole.text)
                assert set(hole.text[end:start]) <= {MASK_SHOWN}
                end = stop
            assert set(hole.text[end:]) <= {MASK_SHOWN}
            covered = [n for token in hole.tokens for n in range(token.start, token.end)]
            assert covered == [n for start, stop in hole.settled for n in range(start, stop)]
            assert all(0 <= token.confidence <= 1 and 1 <= token.step <= frame.step for token in hole.tokens)
    if not frames or request.max_lines is not None:
        return
    for shown, hole in zip(frames[-1].holes, result.holes, strict=True):
        if result.end in ("complete", "max_tokens", "empty"):
            assert shown.text == hole.text
        position = 0
        for start, stop in shown.settled:
            position = hole.text.index(shown.text[start:stop], position) + stop - start


@settings(max_examples=250)
@given(requests())
@example(FillRequest(text="", holes=[(0, 0)], frames=True))
@example(FillRequest(text="a\r\nb\r\n", holes=[(2, 2), (3, 4)], frames=True))
@example(FillRequest(text="a\r\nb\r\n", holes=[(0, 2), (2, 3)], frames=True))
@example(FillRequest(text="\ufeffprint_area", holes=[(1, 1), (3, 5), (5, 7)], frames=True))
def test_what_holds_for_every_fill(fake_engine, request_):
    watched = Watched(fake_engine, request_)
    check_result(request_, watched.result)
    check_frames(request_, watched.frames, watched.result)
    assert watched.result.end in ("complete", "max_tokens", "empty")
    assert (watched.result.end == "empty") == (not any(hole.text for hole in watched.result.holes))
    assert all(cell.token is not None for cell in watched.cells())
    if request_.length.startswith("fixed") and request_.max_lines is None:
        count = min(int(request_.length[6:]), request_.max_tokens)
        assert all(hole.free_cells() == count for hole in watched.canvas.holes)


@given(requests())
def test_the_same_seed_gives_the_same_answer(fake_engine, request_):
    first, second = fake_engine.fill(request_), fake_engine.fill(request_)
    assert (first.holes, first.end, first.steps) == (second.holes, second.end, second.steps)
    request_.frames = False
    unseen = fake_engine.fill(request_)
    assert (first.holes, first.end, first.steps) == (unseen.holes, unseen.end, unseen.steps)
    # the fake sees all its context exactly, so it must not matter whether that comes from a cache
    request_.cache = "off" if request_.cache == "on" else "on"
    other = fake_engine.fill(request_)
    assert (first.holes, first.end, first.steps) == (other.holes, other.end, other.steps)


@given(requests(temperature=1.0, top_p=None, top_k=None, length="fixed:5", max_tokens=10, steps=None, max_lines=None))
def test_another_seed_gives_another_answer(fake_engine, request_):
    texts = set()
    for seed in range(4):
        request_.seed = seed
        texts.add(tuple(hole.text for hole in fake_engine.fill(request_).holes))
    assert len(texts) > 1


class CancelAfter:
    """Set from the given check on."""

    def __init__(self, checks):
        self.checks = checks

    def is_set(self):
        self.checks -= 1
        return self.checks < 0


@settings(max_examples=100)
@given(requests(), st.integers(0, 12))
def test_a_cancelled_fill_is_a_valid_answer(fake_engine, request_, checks):
    watched = Watched(fake_engine, request_, CancelAfter(checks))
    check_result(request_, watched.result)
    check_frames(request_, watched.frames, watched.result)
    assert (watched.result.end == "cancelled") == (watched.canvas.masked() > 0)
    if watched.result.end == "cancelled":
        assert watched.result.steps == checks


class Clock:
    """time.perf_counter that goes on by a millisecond a look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.001
        return self.now


@settings(max_examples=100)
@given(requests(), st.integers(1, 15))
def test_a_fill_that_runs_out_of_time_is_a_valid_answer(fake_engine, request_, looks):
    request_.deadline_ms = looks
    with mock.patch("time.perf_counter", Clock()):
        watched = Watched(fake_engine, request_)
    check_result(request_, watched.result)
    check_frames(request_, watched.frames, watched.result)
    assert (watched.result.end == "deadline") == (watched.canvas.masked() > 0)


@pytest.mark.parametrize("stop", ["deadline", "cancelled"])
def test_stopping_at_every_single_step(tokenizer, stop):
    """From before the first step to after the last: more and more of the text stands, and none of it is made up."""
    engine = Engine(FakeBackend(sharpness=1.0), tokenizer)  # unsure: one token a step
    request = FillRequest(text="print_area(x)\n", holes=[(11, 12)], length="fixed:8", sampler="maskgit_plus")
    whole = engine.fill(request)
    assert (whole.end, whole.steps) == ("complete", 8)
    for step in range(8):
        if stop == "cancelled":
            result = engine.fill(request, CancelAfter(step))
        else:
            request.deadline_ms = step + 1.5  # looks: the start, the end of encoding, then one a step
            with mock.patch("time.perf_counter", Clock()):
                result = engine.fill(request)
        assert (result.end, result.steps) == (stop, step)
        check_result(request, result)
        assert bool(result.holes[0].text) == (step > 0)
        assert all(1 <= token.step <= step for token in result.holes[0].tokens)


@given(requests(length="probe", alternatives=1), st.integers(0, 30))
def test_probed_lengths_keep_what_holds_for_every_fill(fake_engine, request_, checks):
    result = fake_engine.fill(request_)
    check_result(request_, result)
    assert result.end in ("complete", "max_tokens", "empty")
    again = fake_engine.fill(request_)
    assert (again.holes, again.end) == (result.holes, result.end)
    check_result(request_, fake_engine.fill(request_, CancelAfter(checks)))


@settings(max_examples=40)
@given(requests(frames=False, temperature=0.7), st.integers(2, 4))
def test_alternatives_are_distinct_and_as_valid_as_the_answer(fake_engine, request_, count):
    request_.alternatives = count
    result = fake_engine.fill(request_)
    answers = [result.holes, *result.alternatives]
    assert len(answers) <= count
    assert len({tuple(hole.text for hole in holes) for holes in answers}) == len(answers)
    result.alternatives = []
    for holes in answers:
        result.holes = holes
        with mock.patch.object(result, "steps", 10**6):  # of the best only
            request_.steps = None
            check_result(request_, result)


@given(requests())
def test_ids_without_text_never_win(tokenizer, request_):
    """A model that wants nothing but specials, mask and ids beyond the tokenizer still gives text."""

    class Stubborn(FakeBackend):
        def logits(self, ids_T, at):
            logits = super().logits(ids_T, at)
            logits[:5] += 100.0
            logits[380:] += 100.0
            return logits

    watched = Watched(
        Engine(Stubborn(fake_facts(expand_id=None, delete_id=None)), tokenizer), request_with_text(request_)
    )
    check_result(request_, watched.result)
    assert {cell.token for cell in watched.cells()} <= set(tokenizer.text_ids)


def request_with_text(request):
    if request.length in ("auto", "expand"):
        request.length = "fixed:5"
    return request


def test_special_ids_that_a_tokenizer_calls_text_never_win(tokenizer):
    """mask, bos and the rest are what the config says, and beyond `tokenizer_size` is beyond it."""

    class Stubborn(FakeBackend):
        def logits(self, ids_T, at):
            logits = super().logits(ids_T, at)
            logits[360:380] += 100.0
            return logits

    facts = fake_facts(mask_id=362, bos_id=361, pad_id=360, expand_id=None, delete_id=None, tokenizer_size=363)
    watched = Watched(Engine(Stubborn(facts), tokenizer), FillRequest(text="x=", holes=[(2, 2)], length="fixed:9"))
    assert all(cell.token < 360 for cell in watched.cells())


def test_the_models_end_of_text_is_no_text(tokenizer):
    """A special id that no config names (here 4, not named as delete) has no text and is never produced."""

    class Ending(FakeBackend):
        def logits(self, ids_T, at):
            logits = super().logits(ids_T, at)
            logits[4] = 1000.0
            return logits

    engine = Engine(Ending(fake_facts(expand_id=None, delete_id=None)), tokenizer)
    watched = Watched(engine, FillRequest(text="x = ", holes=[(4, 4)], length="fixed:6"))
    assert 4 not in {cell.token for cell in watched.cells()}


# --- growing and shrinking, as the model says ---


@pytest.fixture
def ids(tokenizer):
    """Ids by their text, of single tokens."""

    def of(text):
        (number,) = tokenizer.encode(text)
        return number

    return of


def scripted(tokenizer, ids, script, **facts):
    return Engine(ScriptedBackend(script, rest=ids("10"), facts=fake_facts(**facts)), tokenizer)


def test_an_expand_token_makes_two_masks(tokenizer, ids):
    value = ids("value")

    def script(step, shown):
        return [{value: 0.99}, {3: 0.99}] if step == 0 else [{value: 0.5}] * 2

    engine = scripted(tokenizer, ids, script, start_masks=2)
    watched = Watched(engine, FillRequest(text="x=", holes=[(2, 2)], length="expand", frames=True))
    assert watched.frames[0].holes[0].text == "value" + 2 * MASK_SHOWN
    assert watched.frames[0].holes[0].settled == [(0, 5)]
    assert (watched.result.end, len(watched.result.holes[0].tokens)) == ("complete", 3)


def test_an_unsure_expand_gives_way_to_text(tokenizer, ids):
    """expand is the likeliest of all, but not likelier than everything else together."""
    value = ids("value")
    engine = scripted(tokenizer, ids, lambda step, shown: [{3: 0.45, value: 0.3}] * 9, start_masks=1)
    result = engine.fill(FillRequest(text="x=", holes=[(2, 2)], length="expand"))
    assert result.holes[0].text == "value"
    assert result.holes[0].tokens[0].confidence == pytest.approx(0.3)


def test_a_hole_grows_until_it_is_full_and_says_so(tokenizer, ids):
    engine = scripted(tokenizer, ids, lambda step, shown: [{3: 0.99}] * 50, start_masks=2)
    watched = Watched(engine, FillRequest(text="x=", holes=[(2, 2)], length="expand", max_tokens=9, frames=True))
    assert watched.result.end == "max_tokens"
    assert watched.canvas.holes[0].free_cells() == 9
    assert watched.result.holes[0].text == "10" * 9
    assert len(watched.frames[0].holes[0].text) == 4  # both masks became two


def test_growing_and_shrinking_for_ever_ends(tokenizer, ids):
    """Every other step the last mask wants to go, the others want to be two."""

    def script(step, shown):
        masks = shown.count(2)
        return [{3: 0.99}] * masks if step % 2 == 0 else [{3: 0.6}] * (masks - 1) + [{4: 0.99}]

    engine = scripted(tokenizer, ids, script, start_masks=2)
    watched = Watched(engine, FillRequest(text="x=", holes=[(2, 2)], length="expand", max_tokens=8, frames=True))
    assert watched.result.end in ("complete", "max_tokens", "empty")
    assert watched.result.steps < 200


def test_a_delete_token_takes_the_masks_behind_it(tokenizer, ids):
    value = ids("value")

    def script(step, shown):
        return [{value: 0.99}, {4: 0.99}, {value: 0.3}, {value: 0.3}] if step == 0 else []

    engine = scripted(tokenizer, ids, script, start_masks=4)
    watched = Watched(engine, FillRequest(text="x=", holes=[(2, 2)], length="expand"))
    assert (watched.result.holes[0].text, watched.result.end, watched.result.steps) == ("value", "complete", 1)


def test_a_delete_token_stops_at_settled_tokens(tokenizer, ids):
    value = ids("value")

    def script(step, shown):
        return [{4: 0.99}, {value: 0.3}, {value: 0.99}, {value: 0.3}] if step == 0 else [{value: 0.99}]

    engine = scripted(tokenizer, ids, script, start_masks=4)
    watched = Watched(engine, FillRequest(text="x=", holes=[(2, 2)], length="expand", frames=True))
    assert [frame.holes[0].text for frame in watched.frames] == ["value" + MASK_SHOWN, "valuevalue"]


def test_a_hole_that_deletes_itself_is_empty(tokenizer, ids):
    engine = scripted(tokenizer, ids, lambda step, shown: [{4: 0.99}] * 9)
    result = engine.fill(FillRequest(text="x=", holes=[(2, 2)], length="expand"))
    assert (result.end, result.holes[0].text, result.holes[0].tokens) == ("empty", "", [])
    assert result.holes[0].confidence == 0


def test_the_known_piece_survives_the_deletion_of_everything_else(tokenizer, ids):
    """An insertion inside "print": the head is "pri", the tail "nt", and nothing comes between."""
    assert tokenizer.encode("print(area)")[0] == ids("print")
    pr, nt = ids("pr"), ids("nt")

    def script(step, shown):
        return [{pr: 0.99}, *[{4: 0.99}] * 4, {nt: 0.99}] if step == 0 else []

    engine = scripted(tokenizer, ids, script, start_masks=4)
    text = "print(area)"
    watched = Watched(engine, FillRequest(text=text, holes=[(2, 3)], length="expand", frames=True))
    (hole,) = watched.canvas.holes
    assert (hole.head, hole.tail) == (b"pr", b"nt")
    assert watched.result.holes[0].text == ""
    assert watched.result.apply(text) == "prnt(area)"


def test_a_delete_token_leaves_a_masked_tail(tokenizer, ids):
    """The cell that repeats what stands behind the hole is no surplus, though it is still masked."""
    pr, nt, ending = ids("pr"), ids("nt"), ids("int")

    def script(step, shown):
        return [{pr: 0.99}, {4: 0.99}, {pr: 0.3}, {nt: 0.6, ending: 0.4}] if step == 0 else [{ending: 0.99}]

    engine = scripted(tokenizer, ids, script, start_masks=2)
    watched = Watched(engine, FillRequest(text="print(area)", holes=[(2, 3)], length="expand", frames=True))
    assert [len(hole.cells) for hole in watched.canvas.holes] == [2]
    assert watched.frames[0].holes[0].text == MASK_SHOWN
    assert watched.result.holes[0].text == "i"


def test_no_expansion_in_the_last_step(tokenizer, ids):
    engine = scripted(tokenizer, ids, lambda step, shown: [{3: 0.99}] * 50, start_masks=2)
    for steps in (1, 2, 3):
        request = FillRequest(text="x=", holes=[(2, 2)], length="expand", steps=steps)
        engine.backend.step = 0
        result = engine.fill(request)
        assert result.steps <= steps
        assert set(result.holes[0].text) == set("10")


def test_lines_end_where_the_request_says(tokenizer, ids):
    """What the model writes after the last wanted line is dropped, healed edges included."""
    value, newline = ids("value"), ids("\n")

    def script(step, shown):
        return [{value: 0.99}, {newline: 0.99}, {value: 0.99}, {newline: 0.99}, {value: 0.99}]

    engine = scripted(tokenizer, ids, script)
    request = FillRequest(text="x=;y=1", holes=[(2, 3)], length="fixed:5", max_lines=1)
    assert engine.fill(request).holes[0].text == "value"
    request.max_lines = 2
    assert engine.fill(request).holes[0].text == "value\nvalue"
    request.max_lines = 3
    assert engine.fill(request).holes[0].text == "value\nvalue\nvalue"


@pytest.mark.parametrize("max_lines", [None, 1])
def test_a_tail_that_a_line_limit_dropped_is_not_taken_off_again(tokenizer, ids, max_lines):
    """ "_area" ends like the known piece "a" behind the hole; with the rest of the line gone it is no repetition."""
    text = "x=area"
    newline = ids("\n")
    area = ids("area")

    def script(step, shown):
        return [{area: 0.99}, {newline: 0.99}, {area: 0.99}] if step == 0 else []

    engine = scripted(tokenizer, ids, script)
    request = FillRequest(text=text, holes=[(2, 5)], length="fixed:2", max_lines=max_lines, frames=True)
    watched = Watched(engine, request)
    expected = "area" if max_lines else "area\nare"
    assert watched.result.holes[0].text == expected
    assert watched.frames[-1].holes[0].text == expected


def test_carriage_returns_the_model_writes_itself_do_not_double(tokenizer, ids):
    newline, carriage = ids("\n"), ids("\r")
    engine = scripted(tokenizer, ids, lambda step, shown: [{carriage: 0.99}, {newline: 0.99}])
    result = engine.fill(FillRequest(text="x=\r\ny=1\r\n", holes=[(2, 2)], length="fixed:2"))
    assert result.holes[0].text == "\r\n"
    assert [(token.start, token.end) for token in result.holes[0].tokens] == [(0, 1), (1, 2)]


# --- what is refused ---


@pytest.mark.parametrize(
    "changes",
    [
        {"holes": []},
        {"holes": [(3, 2)]},
        {"holes": [(0, 99)]},
        {"holes": [(0, 3), (2, 4)]},
        {"holes": [(2, 4), (0, 1)]},
        {"holes": [(2, 2), (2, 2)]},
        {"steps": 0},
        {"seed": -1},
        {"sampler": "beam"},
        {"length": "fixed:0"},
        {"length": "long"},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"deadline_ms": 0},
        {"cache": "maybe"},
    ],
    ids=str,
)
def test_a_request_that_cannot_be_served(fake_engine, changes):
    request = FillRequest(**{"text": "hello", "holes": [(1, 2)]} | changes)
    with pytest.raises(RequestError) as refused:
        fake_engine.fill(request)
    assert "\n" not in str(refused.value)


def test_a_model_without_resize_tokens_cannot_expand(tokenizer):
    engine = Engine(FakeBackend(fake_facts(expand_id=None)), tokenizer)
    with pytest.raises(RequestError, match="not trained to expand"):
        engine.fill(FillRequest(text="x", holes=[(1, 1)], length="expand"))


def test_a_tokenizer_larger_than_the_model_is_refused(tokenizer):
    with pytest.raises(ModelError, match="380 tokens"):
        Engine(FakeBackend(fake_facts(vocabulary=300, tokenizer_size=300)), tokenizer)


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("context_blind", [True, False])
@pytest.mark.parametrize("bos", [1, None])
def test_every_kind_of_model(tokenizer, shift, context_blind, bos):
    facts = fake_facts(shift=shift, context_blind=context_blind, bos_id=bos)
    engine = Engine(FakeBackend(facts), tokenizer)
    for text, holes in (
        ("", [(0, 0)]),
        ("ab", [(0, 2)]),
        ("abc", [(0, 1), (1, 2), (2, 3)]),
        ("a = b\n", [(2, 3), (6, 6)]),
    ):
        for cache in ("on", "off"):
            request = FillRequest(text=text, holes=holes, length="fixed:3", cache=cache, frames=True)
            watched = Watched(engine, request)
            check_result(request, watched.result)
            assert watched.result.end == "complete"


def test_probing_below_the_shortest_measured_length(fake_engine):
    fake_engine._probe_bias = ((4, 0.5), (8, 0.4))
    result = fake_engine.fill(FillRequest(text="a b\n", holes=[(2, 2)], length="probe", max_tokens=2))
    assert result.end in ("complete", "max_tokens", "empty")


def test_measuring_the_bias_keeps_the_deadline(fake_engine):
    fake_engine._probe_bias = None
    request = FillRequest(text="a b\n", holes=[(2, 2)], length="probe", deadline_ms=5)
    with mock.patch("time.perf_counter", Clock()):
        assert fake_engine.fill(request).end == "deadline"
    assert fake_engine._probe_bias is None  # what was cut short is not kept


@pytest.mark.parametrize(
    "request_", [FillRequest(text="\ud800", holes=[(0, 0)]), RewriteRequest(text="\ud800", range=(0, 1))]
)
def test_half_a_surrogate_pair_is_refused(fake_engine, request_):
    with pytest.raises(RequestError, match="surrogate pair at character 0"):
        fake_engine.fill(request_)


def test_a_probed_hole_says_what_was_tried(fake_engine):
    result = fake_engine.fill(FillRequest(text="a b\n", holes=[(2, 2)], length="probe"))
    told = re.fullmatch(
        r"probe:(\d+) of ([\d,]+) \(probed (\d+); 1 batched pass and (\d) fills\)", result.holes[0].length_policy
    )
    assert told is not None
    tried = told[2].split(",")
    assert told[1] in tried
    assert told[3] in tried
    assert len(tried) == int(told[4])
