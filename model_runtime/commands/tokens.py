"""`diffill tokens`: the named tokens of a server that several people share."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from model_runtime.commands.options import Parser, whole_number
from model_runtime.daemon import accounts
from model_runtime.home import at_home

EXAMPLES = """\
examples:
  diffill tokens create ann                    prints Ann's token, this once
  diffill tokens create ci --per-minute 60 --at-once 2
  diffill tokens list
  diffill tokens revoke ann                    holds at once, also for connections that are open

A server asks for them after `diffill serve --tokens`; docs/team-server.md tells more.

exit codes: 0 done, 2 bad use
"""


def make_parser() -> Parser:
    """Return the parser of `diffill tokens`."""
    parser = Parser(
        prog="diffill tokens",
        description="Make, list and revoke the named tokens of a server that several people share.",
        epilog=EXAMPLES,
    )
    actions = parser.add_subparsers(dest="action", metavar="create|list|revoke", required=True, parser_class=Parser)
    create = actions.add_parser("create", help="make a token and print it; only its digest is kept")
    create.add_argument("name", metavar="NAME", help="whose it is, as the audit log says")
    create.add_argument(
        "--per-minute", type=whole_number, metavar="N", default=600, help="requests a minute (default: 600)"
    )
    create.add_argument("--at-once", type=whole_number, metavar="N", default=8, help="requests at a time (default: 8)")
    listing = actions.add_parser("list", help="names, dates and limits")
    listing.add_argument("--json", action="store_true", help="as JSON")
    revoke = actions.add_parser("revoke", help="take a token away")
    revoke.add_argument("name", metavar="NAME")
    for one in (create, listing, revoke):
        one.add_argument("--file", metavar="FILE", help=f"where the tokens are (default: {accounts.default_file()})")
    return parser


def main(argv: list[str]) -> int:
    """Run `diffill tokens ARGV…` and return the exit code."""
    args = make_parser().parse_args(argv)
    path = accounts.default_file() if args.file is None else at_home(args.file)
    if args.action == "create":
        print(accounts.create(path, args.name, args.per_minute, args.at_once))
    elif args.action == "revoke":
        accounts.revoke(path, args.name)
    else:
        show(accounts.read_accounts(path), args)
    return 0


def show(found: list[accounts.Account], args: argparse.Namespace) -> None:
    """Print accounts: nothing of their tokens."""
    rows = [{name: value for name, value in asdict(one).items() if name != "sha256"} for one in found]
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    width = max([len(one.name) for one in found], default=0)
    for one in found:
        print(f"{one.name:<{width}}  {one.created}  {one.per_minute} a minute, {one.at_once} at a time")
    if not found:
        print("no tokens")
