"""The reward for form: exactly one block of Python, and it parses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.rewards.format import code_format, extract_code

GOOD = "```python\nx = 1\n```"


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        (GOOD, 1.0),
        (GOOD + "\n", 1.0),
        (f"Here is it:\n{GOOD}\nDone.\n", 1.0),
        ("```python\nx = (\n```", 0.5),
        ("```python\nx = 1\n", 0.0),
        ("x = 1\n", 0.0),
        ("", 0.0),
        ("```\nx = 1\n```", 0.0),
        ("```py\nx = 1\n```", 0.0),
        (GOOD + "\n" + GOOD, 0.0),
        (GOOD + " trailing", 0.0),
        ("```python\n```", 1.0),
        ("```python\nx = '\0'\n```", 0.5),
    ],
)
def test_the_form_is_one_block_that_parses(completion, reward):
    assert code_format(completion) == reward


def test_the_repository_asks_for_a_line_end_after_the_block():
    assert code_format(GOOD, newline=True) == 0.0
    assert code_format(GOOD + "\n", newline=True) == 1.0


@given(st.text(st.sampled_from("`\npython x=1('")))
def test_any_text_has_a_reward(text):
    reward = code_format(text)
    assert reward in (0.0, 0.5, 1.0)
    assert (reward == 0.0) == (extract_code(text) is None)
