"""`diffill models`: which models there are, what one of them is, and how they come and go."""

from __future__ import annotations

import json

from model_runtime.catalog import store
from model_runtime.catalog.entries import BY_NAME
from model_runtime.commands.convert import add_convert, converted, run_convert
from model_runtime.commands.describing import all_models, describe, described, listed, memories, offered, told_offer
from model_runtime.commands.options import Parser
from model_runtime.commands.pull import add_actions, run_action

EXAMPLES = """\
examples:
  diffill models list                      the models that have a name, and whether they fit this machine
  diffill models info embedded             the model that comes with diffill
  diffill models info dream-coder-7b-base  licence, size and memory before anything is fetched
  diffill models pull open-dcoder-0.5b     fetch a model; HF_ENDPOINT names a mirror, HF_TOKEN a token
  diffill models verify open-dcoder-0.5b   are its files what was fetched?
  diffill models import ./my-model         a folder with config.json, tokenizer and weights, without a network
  diffill models convert ./my-model        8 bits for a CPU, which needs no torch to run
  diffill models remove open-dcoder-0.5b

Wherever a command takes --model, a folder's path will do. A path with a slash
is never taken for a name. Models are kept in DIFFILL_MODELS_DIR, or the user's data folder.
"""


def make_parser() -> Parser:
    """Return the parser of `diffill models`."""
    parser = Parser(prog="diffill models", description="List, describe, fetch and convert models.", epilog=EXAMPLES)
    names = "list|info|pull|import|verify|remove|convert"
    actions = parser.add_subparsers(dest="action", metavar=names, required=True)
    listing = actions.add_parser("list", help="the models that have a name")
    info = actions.add_parser("info", help="what a model is, and how it is best decoded")
    info.add_argument("model", metavar="NAME|PATH", help="a model's name or folder")
    for action in (listing, info):
        action.add_argument("--json", action="store_true", help="print JSON")
    add_actions(actions)
    add_convert(actions)
    return parser


def main(argv: list[str]) -> int:
    """Run `diffill models ARGV…` and return the exit code."""
    args = make_parser().parse_args(argv)
    if args.action == "list":
        about = all_models()
        print(json.dumps(about) if args.json else listed(about))
    elif args.action == "info":
        if args.model in BY_NAME and store.stored(args.model) is None:
            one = offered(BY_NAME[args.model], memories())
            print(json.dumps(one) if args.json else told_offer(one))
        else:
            one = describe(args.model)
            print(json.dumps(one) if args.json else described(one))
    elif args.action == "convert":
        made = run_convert(args)
        print(json.dumps(made) if args.json else converted(made))
    else:
        return run_action(args)
    return 0
