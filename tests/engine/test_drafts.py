"""Fills that start from a draft: what still fits comes back at once, nothing of it is kept that the model would not."""

from __future__ import annotations

import dataclasses

import pytest
from fakes import ScriptedBackend, fake_facts
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.engine.drafts import MASKS
from model_runtime.engine.engine import Engine
from model_runtime.protocol import FillRequest


def answer(engine, request, draft=""):
    return dataclasses.replace(engine.fill(request, draft=draft), timing_ms={})


@pytest.mark.parametrize(
    ("probability", "steps"), [(0.7, 1), (0.5, 1), (0.4, 2), (0.1, 2)], ids=["sure", "likely", "unsure", "unlikely"]
)
def test_a_token_that_is_the_best_again_needs_half_the_threshold(tokenizer, ids, probability, steps):
    """The masks before the draft are sure of something else; the draft's two cells are as sure as the case says."""
    value, other = ids("value"), ids("10")
    # what is left of the probability goes to other tokens, none of which is as likely
    likely = {value: probability, **{ids(text): (1 - probability) / 12 for text in "abcdefghijkl"}}

    def script(step, shown):
        masks = shown.count(2)
        return [*({} for _ in range(masks - 2)), likely, likely] if masks > 2 else [{value: 0.95}] * masks

    engine = Engine(ScriptedBackend(script, rest=other, facts=fake_facts()), tokenizer)
    request = FillRequest(text="x=", holes=[(2, 2)], length="expand", max_tokens=40)
    drafted = answer(engine, request, "valuevalue")
    assert drafted.steps == steps
    assert drafted.holes[0].text == "10" * MASKS + "valuevalue"


def test_what_the_model_would_not_write_is_written_anew(tokenizer, ids):
    value, other = ids("value"), ids("10")
    engine = Engine(
        ScriptedBackend(lambda step, shown: [{other: 0.99}] * 40, rest=value, facts=fake_facts()), tokenizer
    )
    request = FillRequest(text="x=", holes=[(2, 2)], length="expand", max_tokens=40)
    assert "value" not in answer(engine, request, "valuevalue").holes[0].text


@given(st.text(max_size=30), st.text(min_size=1, max_size=30), st.integers(1, 9), st.sampled_from([None, 1, 2]))
def test_a_draft_changes_nothing_of_what_holds_for_every_fill(fake_engine, text, draft, most, max_lines):
    at = len(text) // 2
    request = FillRequest(text=text, holes=[(at, at)], max_tokens=most, max_lines=max_lines)
    first, again = answer(fake_engine, request, draft), answer(fake_engine, request, draft)
    assert first == again
    assert first.end in ("complete", "max_tokens", "empty")
    [hole] = first.holes
    assert (hole.start, hole.end) == (at, at)
    assert max_lines is None or hole.text.count("\n") < max_lines
    end = 0
    for token in hole.tokens:
        assert end <= token.start < token.end <= len(hole.text)
        end = token.end


@pytest.mark.parametrize("options", [{"length": "fixed:4"}, {"length": "probe"}, {"holes": [(0, 0), (3, 4)]}], ids=str)
def test_only_one_hole_that_can_grow_takes_a_draft(fake_engine, options):
    request = FillRequest(**{"text": "x = 1\n", "holes": [(4, 4)], "max_tokens": 8, **options})
    assert answer(fake_engine, request, "value") == answer(fake_engine, request)
