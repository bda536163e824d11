"""A model that is stuck says one line over and over."""

import pytest
from golden import run

from lsp_server.filters.repeats_line_above import repeats_line_above

CASES = {
    "alone": ("    self.count = 0\n    «self.count = 0»\n", None),
    "with more to say": (
        "def f():\n    self.count = 0\n    «self.count = 0\n    self.items = []»\n",
        "self.items = []",
    ),
    "with its body": ("for item in items:\n«for item in items:\n    print(item)»\n", None),
    "in a loop": ("«print(a)\nprint(a)\nprint(a)\nprint(a)»\n", "print(a)\nprint(a)"),
    "in a loop that began above": ("i()\n«i()\ni()\nx()»\n", "i()"),
    "behind the cursor's line": ("x = compute(a)«\nx = compute(a)»\n", None),
    "short lines": ("i += 1\n«i += 1»\n", "i += 1"),
    "brackets": ("f([{\n}\n«}\n}\n}»\n", "}\n}\n}"),
    "not at a line's start": ("x = 1\ny = «x = 1»\n", "x = 1"),
    "another line": ("print(a)\n«print(b)»\n", "print(b)"),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name):
    marked, expected = CASES[name]
    assert run(repeats_line_above, marked) == expected
