"""The options of `diffill serve`, and which of them go together."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from model_runtime.backends.loading import add_loading_options
from model_runtime.commands.options import Parser, real_number, whole_number
from model_runtime.daemon.accounts import Accounts, default_file
from model_runtime.daemon.addresses import HOST, is_loopback
from model_runtime.daemon.tls import PASSPHRASE, Identity
from model_runtime.home import at_home
from model_runtime.protocol import RequestError

if TYPE_CHECKING:
    from model_runtime.daemon.server import Sharing

EXAMPLES = """\
examples:
  diffill serve              in the foreground; editors start it by themselves
  diffill serve --port 8012 --token-file ~/.diffill-token
                             for editors that are told an address and a token once, and ask as they ask llama.cpp
  diffill serve --host 0.0.0.0 --port 8443 --tls-certificate chain.pem --tls-key key.pem --audit audit.jsonl
                             for a team, each with a token of `diffill tokens create NAME`
  diffill serve --token      the token of the one that runs
  diffill serve --status     what the one that runs is doing
  diffill serve --stop       end it, and give its memory back

exit codes: 0 done, 1 none runs (--status, --token), 2 bad use, or one runs already
"""
MOST_CONTEXT_MIB, MOST_GRACE_S, MOST_TOGETHER = 1 << 20, 3600.0, 64
IDLE_EXIT_S = 1800.0


def make_parser() -> Parser:
    """Return the parser of `diffill serve`."""
    parser = Parser(
        prog="diffill serve",
        description="Keep a model loaded for every editor of this user, on a loopback port that asks for a token.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--port", type=whole_number, metavar="N", default=0, help="(default: any that is free)")
    parser.add_argument(
        "--model", metavar="NAME|PATH", default="embedded", help="for requests that name none (default: embedded)"
    )
    parser.add_argument(
        "--idle-unload",
        type=real_number,
        metavar="S",
        default=600.0,
        help="give the model's memory back after this time without a fill (default: 600)",
    )
    parser.add_argument(
        "--idle-exit",
        type=real_number,
        metavar="S",
        help="leave after this time without a client (default: 1800; with --port: never)",
    )
    parser.add_argument(
        "--keep-context",
        type=real_number,
        metavar="MIB",
        default=64.0,
        help="memory for context that is encoded already, 0 encodes it all at every key (default: 64)",
    )
    parser.add_argument(
        "--drafts",
        choices=("on", "off"),
        default="off",
        help="on starts a fill from what typing left of a suggestion that it contradicts (default: off)",
    )
    parser.add_argument(
        "--together",
        type=whole_number,
        metavar="N",
        default=1,
        help="let so many fills run at once and share passes of the model (default: 1; docs/deploy.md)",
    )
    parser.add_argument(
        "--allow-origin", metavar="ORIGIN", action="append", default=[], help="let pages of this origin connect"
    )
    parser.add_argument(
        "--token-file", metavar="FILE", help="ask for the token in this file; it is made if there is none"
    )
    parser.add_argument(
        "--grace",
        type=real_number,
        metavar="S",
        default=10.0,
        help="when it is ended, let fills that run go on for so long (default: 10)",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="ask the model of diffill cluster on the Ray cluster there (auto: this machine's) instead of an own one",
    )
    add_loading_options(parser)
    team = parser.add_argument_group("for a team (docs/team-server.md)")
    team.add_argument(
        "--host",
        metavar="ADDRESS",
        default=HOST,
        help="beyond this machine only with TLS or a proxy (default: 127.0.0.1)",
    )
    team.add_argument("--tls-certificate", metavar="FILE", help="its chain, in PEM; SIGHUP reads it and the key again")
    team.add_argument(
        "--tls-key", metavar="FILE", help=f"its key, in PEM; an encrypted one's passphrase is {PASSPHRASE}"
    )
    team.add_argument(
        "--behind-proxy",
        action="store_true",
        help="a proxy in front speaks TLS and alone can connect: take clients' addresses from it",
    )
    team.add_argument(
        "--tokens",
        metavar="FILE",
        nargs="?",
        const=str(default_file()),
        help="ask for the named tokens of `diffill tokens` too (default for a team: its file)",
    )
    team.add_argument("--audit", metavar="FILE", help="write who asked for how much there, and no source text")
    parser.add_argument("--ready", action="store_true", help='print "ready" once it listens, then nothing')
    asking = parser.add_mutually_exclusive_group()
    asking.add_argument("--status", action="store_true", help="print what the daemon that runs is doing, as JSON")
    asking.add_argument("--token", action="store_true", help="print the token of the daemon that runs")
    asking.add_argument("--stop", action="store_true", help="end the daemon that runs")
    asking.add_argument("--log", action="store_true", help="print the end of the daemon's log")
    return parser


def check(args: argparse.Namespace) -> None:
    """Raise RequestError with one sentence for the first option that is out of its range, or lacks another."""
    if not 0 <= args.port <= 65535:
        raise RequestError(f"--port lies between 0 and 65535, not at {args.port}")
    for name in ("idle_unload", "idle_exit"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            raise RequestError(f"--{name.replace('_', '-')} is above 0 seconds, not {getattr(args, name):g}")
    if not 0 <= args.keep_context <= MOST_CONTEXT_MIB:
        raise RequestError(f"--keep-context lies between 0 and {MOST_CONTEXT_MIB} MiB, not at {args.keep_context:g}")
    if not 1 <= args.together <= MOST_TOGETHER:
        raise RequestError(f"--together lies between 1 and {MOST_TOGETHER}, not at {args.together}")
    if not 0 <= args.grace <= MOST_GRACE_S:
        raise RequestError(f"--grace lies between 0 and {MOST_GRACE_S} seconds, not at {args.grace:g}")
    if (args.tls_certificate is None) != (args.tls_key is None):
        raise RequestError("--tls-certificate and --tls-key belong together")
    if args.tls_certificate is not None and args.behind_proxy:
        raise RequestError("--behind-proxy says that the proxy speaks TLS: leave the certificate to it")
    if not is_loopback(args.host) and args.tls_certificate is None and not args.behind_proxy:
        raise RequestError(
            f"on {args.host} other machines can connect: give --tls-certificate and --tls-key, "
            "or --behind-proxy where a proxy in front speaks TLS"
        )


def is_shared(args: argparse.Namespace) -> bool:
    """Whether others than this machine's user are to connect."""
    return args.behind_proxy or not is_loopback(args.host)


def sharing_of(args: argparse.Namespace) -> Sharing:
    """Tokens, audit log and certificate; RequestError with one sentence if one of them cannot be used."""
    from model_runtime.daemon.audit import Audit
    from model_runtime.daemon.server import Sharing

    identity = None
    if args.tls_certificate is not None:
        identity = Identity(at_home(args.tls_certificate).absolute(), at_home(args.tls_key).absolute())
        identity.context()
    tokens = args.tokens or (str(default_file()) if is_shared(args) else None)
    return Sharing(
        None if tokens is None else Accounts(at_home(tokens)),
        None if args.audit is None else Audit(at_home(args.audit)),
        identity,
        args.behind_proxy,
    )
