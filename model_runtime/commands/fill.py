"""`diffill fill`: fill the holes of one file."""

from __future__ import annotations

from collections.abc import Callable

from model_runtime.backends.loading import add_loading_options
from model_runtime.commands.files import find_holes, read_source
from model_runtime.commands.options import (
    Parser,
    add_output_options,
    add_sampling_options,
    request_options,
)
from model_runtime.commands.output import deliver
from model_runtime.commands.trace import FillEngine, load_engine, loaded, run_request
from model_runtime.protocol import FillRequest

EXAMPLES = """\
examples:
  diffill fill app.py                          every <FILL> in app.py, as a diff
  diffill fill app.py --at 12:8                insert at line 12, before its 8th character
  diffill fill app.py --at 3:1 --lines 20:24   an insertion, and lines 20 to 24 written anew
  diffill fill app.py --marker ___ --write     every ___ in app.py, the file replaced
  diffill fill - --stdout < app.py             as a filter: text in, filled text out
  diffill fill app.py --trace --length fixed:16

exit codes: 0 filled, 1 nothing to offer, 2 bad use, 130 interrupted (the best so far is shown, never written)
"""


def make_parser() -> Parser:
    """Return the parser of `diffill fill`."""
    parser = Parser(
        prog="diffill fill",
        description="Fill the holes of FILE. Lines and columns count from 1, columns in characters;\n"
        "a byte order mark is no column, the place after a line's last character is one.",
        epilog=EXAMPLES,
    )
    parser.add_argument("file", metavar="FILE", help="a UTF-8 text of at most 5 MB, or - for standard input")
    group = parser.add_argument_group("holes (default: every <FILL> in the file)")
    group.add_argument("--at", action="append", metavar="LINE:COL", default=[], help="insert here; repeatable")
    group.add_argument(
        "--lines", action="append", metavar="A:B", default=[], help="write lines A to B anew; repeatable"
    )
    group.add_argument("--marker", metavar="TEXT", help="every TEXT in the file is a hole, instead of <FILL>")
    add_sampling_options(parser)
    add_loading_options(parser)
    add_output_options(parser)
    return parser


def main(argv: list[str], load: Callable[[str, str], FillEngine] = load_engine) -> int:
    """Run `diffill fill ARGV…` and return the exit code; whatever can be refused is, before a model loads."""
    args = make_parser().parse_args(argv)
    source = read_source(args.file, args.write)
    holes = find_holes(source, args.at, args.lines, args.marker)
    request = FillRequest(text=source.text, holes=holes, **request_options(args, source))
    request.check()
    result, interrupted = run_request(loaded(args, load), request, source, args.trace, args.color)
    return deliver(args, source, result, interrupted)
