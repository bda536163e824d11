"""Suffix echo: a fill that says at its end what stands behind the hole anyway."""

from __future__ import annotations

LEAST = 4  # letters and digits that a repeated piece must have: brackets and `else:` repeat by right


def echoes(fill: str, suffix: str) -> bool:
    """Whether the fill ends with what the suffix begins with, in whole lines, white space at their ends aside.

    The repeated lines must have LEAST letters and digits or more; blank lines do not count.
    """
    filled = [line.strip() for line in fill.splitlines() if line.strip()]
    following = [line.strip() for line in suffix.splitlines() if line.strip()]
    for count in range(1, min(len(filled), len(following)) + 1):
        if filled[-count:] == following[:count] and sum(map(str.isalnum, "".join(filled[-count:]))) >= LEAST:
            return True
    return False
