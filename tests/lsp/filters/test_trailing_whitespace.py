"""No blanks at line ends, unless they are part of a string or indent what follows."""

import pytest
from golden import run

from lsp_server.filters.trailing_whitespace import trailing_whitespace

CASES = {
    "at its end": ("«x = 1  »\n", "x = 1"),
    "empty lines at its end": ("«x = 1\n\n    »\ny\n", "x = 1"),
    "at the file's end": ("«x = 1\n»", "x = 1"),
    "in the middle": ("«x = 1 \n  \ny = 2»\n", "x = 1\n\ny = 2"),
    "before CRLF": ("«x = 1 \r\ny»\r\n", "x = 1\r\ny"),
    "before what follows on the line": ("«x = 1\n    »y = 2\n", "x = 1\n    "),
    "in a string": ("x = '''«a \nb»'''\n", "a \nb"),
    "in a string that it opens": ("«x = '''a \nb''' \ny»\n", "x = '''a \nb'''\ny"),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name):
    marked, expected = CASES[name]
    assert run(trailing_whitespace, marked) == expected
