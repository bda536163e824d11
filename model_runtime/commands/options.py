"""The options that `diffill fill` and `diffill rewrite` share, and how they become a request."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any, NoReturn

from model_runtime.commands.files import Source
from model_runtime.protocol import SAMPLERS, RequestError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence (RequestError) and not a page of usage."""

    def __init__(self, **settings: Any) -> None:
        """Take argparse's settings; examples in the epilog keep their lines, options are not abbreviated."""
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise `message` instead of printing it and leaving."""
        raise RequestError(message)


def whole_number(argument: str) -> int:
    """Return an integer of at most 18 digits, written plainly."""
    if not re.fullmatch(r"-?[0-9]{1,18}", argument):
        raise argparse.ArgumentTypeError(f"takes a whole number, not {argument!r}")
    return int(argument)


def real_number(argument: str) -> float:
    """Return a finite number."""
    try:
        value = float(argument)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"takes a number, not {argument!r}")
    return value


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add the model and everything about how it denoises; ranges are checked by the request itself."""
    group = parser.add_argument_group("model and sampling")
    group.add_argument(
        "--model",
        metavar="NAME|PATH",
        default="embedded",
        help="a model's name or folder (default: embedded)",
    )
    group.add_argument(
        "--backend",
        choices=("auto", "onnx", "torch"),
        default="auto",
        help="what runs the model (default: auto, ONNX where the model has it)",
    )
    group.add_argument("--language", metavar="NAME", help="the file's language (default: from its name)")
    group.add_argument("--steps", type=whole_number, metavar="N", help="denoising steps (default: as needed)")
    group.add_argument(
        "--max-tokens",
        type=whole_number,
        metavar="N",
        default=128,
        help="tokens a hole may get (default: 128)",
    )
    group.add_argument("--max-lines", type=whole_number, metavar="N", help="lines a hole may get")
    group.add_argument(
        "--length",
        default="auto",
        help="how long a hole gets: auto, expand, search, probe or fixed:N (default: auto)",
    )
    group.add_argument(
        "--sampler", metavar="NAME", default="threshold", help=f"{', '.join(SAMPLERS)} (default: threshold)"
    )
    group.add_argument(
        "--temperature", type=real_number, metavar="T", default=0.0, help="0 takes the likeliest (default: 0)"
    )
    group.add_argument("--top-p", type=real_number, metavar="P", help="sample within this share of probability")
    group.add_argument("--top-k", type=whole_number, metavar="K", help="sample among the K likeliest tokens")
    group.add_argument("--seed", type=whole_number, metavar="N", default=0, help="same seed, same answer (0)")
    group.add_argument(
        "--alternatives", type=whole_number, metavar="N", default=1, help="candidates, the best one first (default: 1)"
    )
    group.add_argument("--budget-ms", type=real_number, metavar="N", help="answer with what there is after N ms")
    group.add_argument(
        "--cache",
        metavar="on|context|off",
        default="on",
        help="off recomputes everything at every step, context all tokens of the holes (default: on)",
    )
    group.add_argument(
        "--expert",
        metavar="on|off",
        default="on",
        help="off leaves the counted n-grams of corpus and file out (default: on)",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add what becomes of the answer; without any of these a unified diff is printed."""
    group = parser.add_argument_group("output (default: a unified diff)")
    choice = group.add_mutually_exclusive_group()
    choice.add_argument("--write", action="store_true", help="replace the file, in one step")
    choice.add_argument("--stdout", action="store_true", help="print the whole file with its holes filled")
    choice.add_argument("--json", action="store_true", help="print the result with every token's confidence")
    group.add_argument("--trace", action="store_true", help="show the canvas settle, step by step, on stderr")
    group.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="(default: auto)")


def request_options(args: argparse.Namespace, source: Source) -> dict[str, Any]:
    """Return the fields of `protocol.Options` that the command line decides."""
    return {
        "length": args.length,
        "max_tokens": args.max_tokens,
        "max_lines": args.max_lines,
        "steps": args.steps,
        "sampler": args.sampler,
        "temperature": args.temperature,
        "top_p": args.top_p,
        "top_k": args.top_k,
        "alternatives": args.alternatives,
        "seed": args.seed,
        "deadline_ms": args.budget_ms,
        "cache": args.cache,
        "expert": args.expert,
        "language": args.language,
        "path": None if source.path is None else str(source.path),
        "frames": args.trace,
    }
