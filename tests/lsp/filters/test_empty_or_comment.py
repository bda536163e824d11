"""A fill must have code in it."""

import pytest
from golden import run

from lsp_server.filters.empty_or_comment import empty_or_comment

DROPPED = [
    ("x«»\n", "python"),
    ("x«  \n\t»\n", "python"),
    ("«# TODO: implement»\n", "python"),
    ("«\n    # first\n    # then»\n", "python"),
    ("«// later\n/* much\n later */»\n", "typescript"),
    ("« »", None),
]
KEPT = [
    ("«x = 1  # one»\n", "python"),
    ("«'# text'»\n", "python"),
    ("# count the «lines»\n", "python"),
    ("# count the «lines # and words»\n", "python"),
    ("'''Says «# this»'''\n", "python"),
    ("«#include <stdio.h>»\n", "c"),
    ("«# A heading»\n", None),
]


@pytest.mark.parametrize(("marked", "language"), DROPPED)
def test_dropped(marked, language):
    assert run(empty_or_comment, marked, language) is None


@pytest.mark.parametrize(("marked", "language"), KEPT)
def test_kept(marked, language):
    assert run(empty_or_comment, marked, language) == marked.partition("«")[2].partition("»")[0]
