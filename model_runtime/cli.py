"""The command `diffill`: finds the sub-command, and turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 nothing to offer, 2 bad use, 3 a fault of diffill's own, 130 interrupted, 141 the reader of the
output went away. `--debug` anywhere on the line, or DIFFILL_DEBUG in the environment, adds the traceback.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable

from model_runtime import __version__
from model_runtime.commands.options import Parser
from model_runtime.protocol import DiffillError, RequestError

# name, help, "module:function"; the function takes the arguments after the name and returns the exit code.
# Modules are imported when their sub-command is asked for, so that each pays only for what it uses.
COMMANDS = (
    ("fill", "fill the holes of a file", "model_runtime.commands.fill:main"),
    ("rewrite", "write lines or a function of a file anew", "model_runtime.commands.rewrite:main"),
    ("lsp", "the language server, as editors start it", "model_runtime.commands.lsp:main"),
    ("serve", "keep a model loaded for editors", "model_runtime.commands.serve:main"),
    ("tokens", "named tokens of a server that several people share", "model_runtime.commands.tokens:main"),
    ("cluster", "a model on a Ray cluster, for serve --cluster", "model_runtime.commands.cluster:main"),
    ("models", "list models, or describe one", "model_runtime.commands.models:main"),
    ("doctor", "examine this installation", "model_runtime.commands.doctor:main"),
    ("bench", "measure how fast this machine fills holes", "model_runtime.commands.bench:main"),
    ("train", "make a model: corpus, tokenizer, stages", "model_runtime.commands.train:main"),
    ("eval", "measure a model: benchmarks, comparisons, figures", "model_runtime.commands.eval:main"),
)


def main(argv: list[str] | None = None) -> int:
    """Run `diffill ARGV…` and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = bool(os.environ.get("DIFFILL_DEBUG"))
    if "--debug" in arguments:
        arguments.remove("--debug")
        debug = True
    return report_errors(lambda: dispatch(arguments), debug)


def dispatch(arguments: list[str]) -> int:
    """Run the sub-command that the first argument names; raise RequestError where there is none."""
    targets = {name: target for name, _, target in COMMANDS}
    names = ", ".join(targets)
    if not arguments:
        raise RequestError(f"give a command ({names}); diffill --help describes them")
    if arguments[0] in targets:
        module, function = targets[arguments[0]].split(":")
        return getattr(importlib.import_module(module), function)(arguments[1:])
    if not arguments[0].startswith("-"):
        raise RequestError(f"there is no command {arguments[0]!r}; the commands are {names}")
    top_parser().parse_args(arguments)
    raise RequestError(f"give a command ({names}) before its options")


def top_parser() -> Parser:
    """Return the parser of `diffill --help` and `diffill --version`."""
    width = max(len(name) for name, _, _ in COMMANDS) + 2
    listed = "\n".join(f"  {name:<{width}}{text}" for name, text, _ in COMMANDS)
    parser = Parser(
        prog="diffill",
        usage="diffill [--help] [--version] COMMAND ...",
        description="Fills and rewrites code with masked diffusion models that run on this machine.",
        epilog=f"commands:\n{listed}\n\ndiffill COMMAND --help describes one; --debug shows where an error came from.",
    )
    parser.add_argument("--version", action="version", version=f"diffill {__version__}")
    return parser


def report_errors(run: Callable[[], int], debug: bool = False) -> int:
    """Return the exit code of `run`; an error becomes one sentence on stderr, after its traceback with `debug`."""
    try:
        code = run()
        sys.stdout.flush()
        return code
    except DiffillError as error:
        drop_output()
        if debug:
            traceback.print_exc()
        print("diffill:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        drop_output()
        print("diffill: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        drop_output()
        return 141
    except Exception as error:
        drop_output()
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.strerror and error.filename:  # of a file that the user named
            print(f"diffill: {error.strerror}: {str(error.filename)[:200]}", file=sys.stderr)
            return 2
        told = " ".join(str(error).split())[:200]
        hint = "" if debug else "; --debug shows where, for a bug report"
        print(f"diffill: a fault of its own: {type(error).__name__}: {told}{hint}", file=sys.stderr)
        return 3
    except SystemExit as leave:  # argparse, after --help or --version
        return leave.code if isinstance(leave.code, int) else 0


def drop_output() -> None:
    """Flush stdout; where that fails, send what is left nowhere, or the interpreter's exit would complain."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
