"""`diffill models convert`: a checkpoint becomes a folder that runs on a CPU without torch."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from model_runtime.catalog.catalog import find_model
from model_runtime.commands.machine import readable
from model_runtime.models.convert import convert

EXAMPLES = """\
examples:
  diffill models convert ./open-dcoder-0.5b                  8 bits, into ./open-dcoder-0.5b-int8
  diffill models convert ./my-model --quantize int4 --out m  4 bits: half the size, less exact
  diffill fill app.py --model ./open-dcoder-0.5b-int8
"""
REDRAW_S = 0.1


def add_convert(actions: Any) -> None:
    """Add `convert` to the actions of `diffill models`."""
    parser = actions.add_parser(
        "convert", help="make a checkpoint run on a CPU without torch", epilog=EXAMPLES, description=__doc__
    )
    parser.add_argument("model", metavar="NAME|PATH", help="a model's name, or a folder with safetensors")
    parser.add_argument("--to", choices=("onnx",), default="onnx", help="what it becomes: ONNX is all there is")
    parser.add_argument(
        "--quantize",
        choices=("int8", "int8-rows", "int4", "none"),
        default="int8",
        help="what weights become (default: int8); int8-rows is up to twice as fast and less exact, and needs VNNI",
    )
    parser.add_argument("--out", metavar="DIR", help="the new folder (default: ./NAME-int8, as it is quantized)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_convert(args: argparse.Namespace) -> dict[str, Any]:
    """Convert, with progress on stderr; what was made, as JSON values."""
    source = find_model(args.model)
    name = source.resolve().name
    out = Path(args.out or f"{name}-{'float32' if args.quantize == 'none' else args.quantize}")
    start = time.perf_counter()
    bar = Bar()
    try:
        convert(source, out, args.quantize, None if args.json else bar.show)
    finally:
        bar.clear()
    files = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    seconds = round(time.perf_counter() - start, 1)
    return {"model": str(out), "quantize": args.quantize, "seconds": seconds, "files": files}


def converted(one: dict[str, Any]) -> str:
    """What a person is told."""
    size = readable(sum(one["files"].values()))
    path = one["model"] if "/" in one["model"] else f"./{one['model']}"
    made = f"{one['model']}: {size}, {one['quantize']}, in {one['seconds']} s"
    return f"{made}\ntry: diffill fill FILE --model {path}"


class Bar:
    """One line on a terminal's stderr that is drawn over; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._last = 0.0
        self._drawn = False

    def show(self, name: str, done: int, total: int) -> None:
        """Draw how far a conversion is, ten times a second at most."""
        now = time.monotonic()
        if self._shown and now - self._last >= REDRAW_S:
            share = min(1.0, done / max(1, total))
            cells = "#" * int(30 * share)
            print(f"\r\033[K[{cells:<30}] {share:4.0%} {name[:60]}", end="", file=sys.stderr, flush=True)
            self._last, self._drawn = now, True

    def clear(self) -> None:
        """Leave an empty line."""
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
