"""`diffill cluster`: a model on a Ray cluster, for `diffill serve --cluster`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from model_runtime.backends.loading import add_loading_options, loading_of
from model_runtime.catalog.catalog import find_model
from model_runtime.cluster import deploying
from model_runtime.commands.options import Parser, real_number, whole_number
from model_runtime.protocol import RequestError

EXAMPLES = """\
examples:
  ray start --head                                      the first machine; others: ray start --address HOST:6379
  diffill cluster deploy --model /models/coder --gpus 1 --replicas 2:8
  diffill serve --cluster auto --host 0.0.0.0 …         the door, on as many machines as it takes (docs/deploy.md)
  diffill cluster deploy --model /models/coder-2 …      another model in its place, without losing a request
  diffill cluster status
  diffill cluster remove
"""


def make_parser() -> Parser:
    """Return the parser of `diffill cluster`."""
    parser = Parser(prog="diffill cluster", description="Run a model on a Ray cluster.", epilog=EXAMPLES)
    parser.add_argument("what", choices=("deploy", "status", "remove"))
    parser.add_argument("--address", metavar="HOST:PORT", default="auto", help="(default: auto, that of this machine)")
    parser.add_argument("--model", metavar="NAME|PATH", default="embedded", help="the same on every machine")
    parser.add_argument("--replicas", metavar="N|MIN:MAX", default="1", help="(default: 1)")
    parser.add_argument("--gpus", type=real_number, default=0.0, help="for each replica; 0.5 lets two share one")
    parser.add_argument("--cpus", type=real_number, default=1.0, help="for each replica (default: 1)")
    parser.add_argument("--together", type=whole_number, default=8, help="fills that share passes (default: 8)")
    parser.add_argument("--busy", type=real_number, default=4.0, help="requests at a replica to scale for (default: 4)")
    parser.add_argument("--keep-context", type=real_number, metavar="MIB", default=64.0, help="(default: 64)")
    add_loading_options(parser)
    return parser


def main(argv: list[str]) -> int:
    """Run `diffill cluster ARGV…` and return the exit code."""
    args = make_parser().parse_args(argv)
    plan = plan_of(args)
    plan.check()
    deploying.join(args.address)
    if args.what == "deploy":
        deploying.deploy(plan)
    elif args.what == "remove":
        deploying.remove()
        return 0
    state = deploying.state()
    print(json.dumps(state))
    return 0 if state else 1


def plan_of(args: argparse.Namespace) -> deploying.Plan:
    """What the options ask for."""
    try:
        least, most = ([int(part) for part in args.replicas.split(":")] * 2)[:2]
    except ValueError:
        raise RequestError(f"--replicas is N or MIN:MAX, not {args.replicas!r}") from None
    if args.replicas.count(":") > 1:
        raise RequestError(f"--replicas is N or MIN:MAX, not {args.replicas!r}")
    model = args.model if args.model == "embedded" else str(Path(find_model(args.model)).resolve())
    return deploying.Plan(
        model, least, most, args.gpus, args.cpus, args.together, args.busy, args.keep_context, loading_of(args)
    )
