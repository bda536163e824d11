"""`diffill lsp`: the language server, on standard input and output as editors start it."""

from __future__ import annotations

import importlib

from model_runtime.commands.options import Parser
from model_runtime.protocol import RequestError


def make_parser() -> Parser:
    """Return the parser of `diffill lsp`."""
    parser = Parser(
        prog="diffill lsp",
        description="The language server: an editor starts it and talks to it on standard input and output.",
    )
    parser.add_argument("--stdio", action="store_true", help="standard input and output; the default")
    parser.add_argument("--tcp", metavar="HOST:PORT", help="listen there for one client instead, for debugging")
    return parser


def main(argv: list[str]) -> int:
    """Run `diffill lsp ARGV…` until the client leaves; 0 if it said goodbye."""
    args = make_parser().parse_args(argv)
    if args.tcp and args.stdio:
        raise RequestError("give --stdio or --tcp, not both")
    address = read_address(args.tcp) if args.tcp else None
    return importlib.import_module("lsp_server.start").run(address)


def read_address(text: str) -> tuple[str, int]:
    """HOST:PORT, the host in brackets or not; RequestError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise RequestError(f"--tcp takes HOST:PORT, not {text!r}")
    return host.strip("[]"), int(port)
