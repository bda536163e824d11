"""How long JSON from outside holds up the daemon's event loop: texts of 4 MiB that take longest to count or to read.

`python -m benchmarks.reading` prints for each the milliseconds to count its values and, where there are not too many,
to read it: of processor time, the best of twenty. The last line says what is spared by not reading the first.
"""

from __future__ import annotations

import gc
import json
import time
import timeit
from collections.abc import Callable
from functools import partial

from model_runtime.daemon.connection import Limits
from model_runtime.daemon.reading import MOST_DIGITS, MOST_VALUES, has_too_many_values, read_json

MOST = Limits().body
TEXTS = MOST_VALUES - 10  # as many texts or numbers as are read
REFUSED = {
    "lists": "[],",
    "escaped quotes": '\\"',
    "escaped backslashes": "\\\\",
    "escapes in texts": '\\"a',
    "texts": '"a",',
}
READ = {
    "empty objects": ("{},", MOST_VALUES // 2 - 10),
    "objects": ('{"a":1},', MOST_VALUES // 2 - 10),
    "keys": ('{"%s":1},' % ("a" * 190), MOST_VALUES // 2 - 10),
    "long integers": ("1" * (MOST // TEXTS - 2) + ",", TEXTS),
    "longest integers": ("1" * MOST_DIGITS + ",", MOST // (MOST_DIGITS + 1) - 1),
    "long numbers": ("1." + "1" * (MOST // TEXTS - 4) + ",", TEXTS),
    "longest numbers": ("1." + "1" * (MOST // 2 - 8) + ",", 2),
    "escaped characters": ('"' + "\\u00e4" * (MOST // TEXTS // 6 - 1) + '",', TEXTS),
    "one text of escapes": ('"' + "\\u00e4" * (MOST // 6 - 2) + '",', 1),
}


def best(work: Callable[[], object]) -> float:
    """Milliseconds of processor time of the fastest of twenty runs."""
    return min(timeit.repeat(work, timer=time.process_time, setup=gc.enable, number=1, repeat=20)) * 1000


def main() -> None:
    made = {name: "[" + piece * (MOST // len(piece) - 1) for name, piece in REFUSED.items()}
    made |= {name: "[" + piece * count + "0]" for name, (piece, count) in READ.items()}
    for name, text in made.items():
        assert len(text) <= MOST
        counted, read = best(partial(has_too_many_values, text)), "not read"
        if name in READ:
            read = f"read in {best(partial(read_json, text)):6.1f} ms, counting included"
        print(f"{name:20} {len(text) / (1 << 20):.1f} MiB  counted in {counted:5.1f} ms  {read}")
    lists = made["lists"] + "0]"
    print(f"{'lists':20} {len(lists) / (1 << 20):.1f} MiB  would be read in {best(partial(json.loads, lists)):.0f} ms")


if __name__ == "__main__":
    main()
