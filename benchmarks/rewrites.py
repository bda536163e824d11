"""How often a rewrite parses, and how long it takes: `python benchmarks/rewrites.py` (about a minute).

The bodies of short functions of a few standard modules are written anew at each strength. The last line is JSON.
"""

from __future__ import annotations

import argparse
import ast
import bisect
import fnmatch
import heapq
import inspect
import json
import statistics
import textwrap
import time

from model_runtime.engine.engine import Engine
from model_runtime.protocol import RewriteRequest, Span

MODULES = (bisect, fnmatch, heapq, statistics, textwrap)
STRENGTHS = (0.3, 0.6, 1.0)


def bodies(source: str, most: int) -> list[Span]:
    """The bodies, without docstrings, of the first functions of two to fourteen lines."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    spans = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef) or function.end_lineno is None:
            continue
        if not 1 <= function.end_lineno - function.lineno < 14:
            continue
        statements = function.body[1:] if ast.get_docstring(function) else function.body
        if statements:
            first = statements[0]
            spans.append((starts[first.lineno - 1] + first.col_offset, starts[function.end_lineno] - 1))
    return spans[:most]


def parses(text: str) -> bool:
    """Whether Python can read a text."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--per-module", type=int, default=8, metavar="N", help="functions (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=None, metavar="N")
    arguments = parser.parse_args()
    engine = Engine.load("embedded", threads=arguments.threads)
    cases = [
        (source, span)
        for m in MODULES
        for source in [inspect.getsource(m)]
        for span in bodies(source, arguments.per_module)
    ]
    figures = []
    for strength in STRENGTHS:
        good = changed = 0
        times = []
        for source, span in cases:
            began = time.perf_counter()
            result = engine.fill(RewriteRequest(text=source, range=span, strength=strength, language="python"))
            times.append((time.perf_counter() - began) * 1000)
            after = result.apply(source)
            good += parses(after)
            changed += after != source
        row = {"strength": strength, "functions": len(cases), "parse": good, "changed": changed}
        figures.append({**row, "median_ms": round(statistics.median(times))})
        print(figures[-1], flush=True)
    print(json.dumps({"rewrites": figures}))


if __name__ == "__main__":
    main()
