"""`diffill rewrite`: write lines or a function of one file anew."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING

from model_runtime.backends.loading import add_loading_options
from model_runtime.commands.files import (
    Source,
    line_range,
    parse_pair,
    position_of,
    read_source,
    split_lines,
)
from model_runtime.commands.options import (
    Parser,
    add_output_options,
    add_sampling_options,
    real_number,
    request_options,
)
from model_runtime.commands.output import deliver
from model_runtime.commands.trace import FillEngine, load_engine, loaded, run_request
from model_runtime.protocol import FillRequest, RequestError, RewriteRequest, Span

if TYPE_CHECKING:
    from model_runtime.engine.syntax import FunctionRange

LISTED, NEAR = 5, 2  # names that a message lists at most: of the functions there are, of those that may be meant
EXAMPLES = """\
examples:
  diffill rewrite app.py --lines 20:24                lines 20 to 24 anew, as a diff
  diffill rewrite app.py --function area              the body of area; its signature and docstring stay
  diffill rewrite app.py --function Shape.area --strength 0.3
                                                      only the 30 % of its tokens that the model likes least
  diffill rewrite app.py --lines 20:24 --alternatives 3 --seed 7
  diffill rewrite app.py --function area --model dream-coder-7b-instruct --instruction "use math.pi"
  diffill rewrite - --function f --language go --stdout < f.go

exit codes: 0 rewritten, 1 nothing to offer, 2 bad use, 130 interrupted (the best so far is shown, never written)
"""


def make_parser() -> Parser:
    """Return the parser of `diffill rewrite`."""
    parser = Parser(
        prog="diffill rewrite",
        description="Write a part of FILE anew. Lines count from 1; the end of the last line stays.",
        epilog=EXAMPLES,
    )
    parser.add_argument("file", metavar="FILE", help="a UTF-8 text of at most 5 MB, or - for standard input")
    group = parser.add_argument_group("what to rewrite (one of the first two)")
    choice = group.add_mutually_exclusive_group(required=True)
    choice.add_argument("--lines", action="append", metavar="A:B", help="lines A to B")
    choice.add_argument(
        "--function", action="append", metavar="NAME", help="the body of a function; Class.method for a method"
    )
    group.add_argument(
        "--strength",
        type=strength,
        metavar="S",
        default=1.0,
        help="the share of tokens that may change, above 0; the likeliest stay (default: 1, all may)",
    )
    group.add_argument(
        "--instruction", metavar="TEXT", help="what to do, in words, for a model that follows instructions"
    )
    add_sampling_options(parser)
    add_loading_options(parser)
    add_output_options(parser)
    return parser


def strength(argument: str) -> float:
    """Return a number above 0 and not above 1."""
    value = real_number(argument)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"takes a number above 0 and not above 1, not {argument!r}")
    return value


def main(argv: list[str], load: Callable[[str, str], FillEngine] = load_engine) -> int:
    """Run `diffill rewrite ARGV…` and return the exit code; whatever can be refused is, before a model loads."""
    args = make_parser().parse_args(argv)
    source = read_source(args.file, args.write)
    request = make_request(args, source)
    request.check()
    result, interrupted = run_request(loaded(args, load), request, source, args.trace, args.color)
    return deliver(args, source, result, interrupted)


def make_request(args: argparse.Namespace, source: Source) -> RewriteRequest | FillRequest:
    """Return what the options ask for; the body of a function that has none yet becomes a hole to fill."""
    options = request_options(args, source)
    if args.function:
        span = function_body(source, only(args.function, "--function"), args.language)
        if span[0] == span[1]:
            return FillRequest(text=source.text, holes=[span], **options)
    else:
        lines = split_lines(source.text)
        span = line_range(lines, *parse_pair(only(args.lines, "--lines"), "--lines", "A:B"))
    if args.instruction is not None and not args.instruction.strip():
        raise RequestError("--instruction is empty; say what to do")
    if args.instruction is not None and args.strength != 1.0:
        raise RequestError("--strength and --instruction do not go together: an answer is written whole")
    return RewriteRequest(text=source.text, range=span, strength=args.strength, instruction=args.instruction, **options)


def only(given: list[str], option: str) -> str:
    """Return the one argument of an option; RequestError where it was given more than once."""
    if len(given) > 1:
        raise RequestError(f"{option} is given {len(given)} times; one part is rewritten at a time")
    return given[0]


def function_body(source: Source, name: str, language: str | None) -> Span:
    """Return the range of a function's body, without signature and docstring; RequestError where it is unclear."""
    from model_runtime.engine.syntax import functions, language_of

    known = language_of(source.path, language)
    if known is None:
        if language:
            raise RequestError(f"there is no grammar for the language {language!r}; give --lines")
        raise RequestError(f"the language of {source.name} is unknown; give --language or --lines")
    return choose_function(functions(source.text, known), name, source).body


def choose_function(listed: list[FunctionRange], name: str, source: Source) -> FunctionRange:
    """Return the function that `name` means: by its qualified name, or by the last parts of it if one has them."""
    wanted = name.replace("::", ".")
    chosen = [f for f in listed if f.name == wanted] or [f for f in listed if f.name.endswith("." + wanted)]
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise RequestError(f"{source.name} has no function {name!r} with a body{near_names(listed, wanted)}")
    lines = split_lines(source.text)
    found = enumerated([f"{f.name} in line {position_of(lines, f.start)[0]}" for f in chosen])
    distinct = len({f.name for f in chosen}) == len(chosen)
    remedy = "give one of these names" if distinct else "give its lines by --lines A:B"
    raise RequestError(f"{source.name} has {len(chosen)} functions {name!r} ({found}); {remedy}")


def near_names(listed: list[FunctionRange], wanted: str) -> str:
    """Return the end of a sentence: the names that look most like `wanted`, or else the first ones of the file."""
    names = list(dict.fromkeys(f.name for f in listed))
    spelled = [(name, part.lower()) for name in names for part in (name, name.rpartition(".")[2])]
    near = difflib.get_close_matches(wanted.lower(), sorted({part for _, part in spelled}), NEAR)
    likely = list(dict.fromkeys(name for part in near for name, own in spelled if own == part))
    if likely:
        return f"; did you mean {' or '.join(likely[:NEAR])}?"
    return f"; it has {enumerated(names)}" if names else ""


def enumerated(items: list[str]) -> str:
    """Return the first items parted by commas, and how many more there are."""
    more = len(items) - LISTED
    return ", ".join(items[:LISTED]) + (f" and {more} more" if more > 0 else "")
