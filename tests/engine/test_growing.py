"""Holes that grow and shrink as the model says, and lines that end where the request says."""

from __future__ import annotations

import pytest
from fakes import ScriptedBackend, fake_facts
from watching import Watched

from model_runtime.engine.canvas import MASK_SHOWN
from model_runtime.engine.engine import Engine
from model_runtime.protocol import FillRequest


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
