"""`diffill train corpus`, `diffill train tokenizer` and `diffill train tasks`."""

from __future__ import annotations

import json
import random
from pathlib import Path

from rich.console import Console

from model_runtime.commands.options import Parser, whole_number
from model_runtime.protocol import RequestError
from training.corpus import report
from training.corpus.clean import decode, reason_in_text
from training.corpus.inputs import fits, folder_files
from training.corpus.pipeline import build_corpus
from training.corpus.recipe import Recipe
from training.corpus.special_tokens import ROLES, model_rows, rows_needed, save_tokenizer, take_tokenizer
from training.corpus.tokenizer import VOCABULARY, train_tokenizer
from training.recipe import nearest, read_recipe
from training.rewards.sandbox import require

RECIPES = Path(__file__).parents[1] / "recipes" / "corpus"
CORPUS_EXAMPLES = """\
examples:
  diffill train corpus standard-library --out build/stdlib
  diffill train corpus my.yaml --out build/my --set seed=1 --set sources.0.weight=2
A build that was stopped goes on when the command is given again.
"""
TOKENIZER_EXAMPLES = """\
examples:
  diffill train tokenizer src lib --vocabulary 8192 --out build/tokenizer
  diffill train tokenizer --take Qwen2.5-Coder-0.5B --add mask pad expand --out build/tokenizer
  diffill train tokenizer --take CHECKPOINT --add 'mask=<|MASK|>' --out build/tokenizer
"""
TASKS_EXAMPLES = """\
examples:
  diffill train tasks --out build/tasks.jsonl
  diffill train tasks --folder . --out build/own.jsonl
"""


def find_recipe(name: str) -> Path:
    """A recipe's path: that of a file, or of one of the shipped recipes by its name."""
    shipped = {path.stem: path for path in RECIPES.glob("*.yaml")}
    if name in shipped and not Path(name).is_file():
        return shipped[name]
    if not Path(name).is_file():
        raise RequestError(f"there is no recipe {name}{nearest(name, shipped)}")
    return Path(name)


def corpus(arguments: list[str]) -> int:
    """Run `diffill train corpus`: build a corpus and print what became of the texts."""
    parser = Parser(
        prog="diffill train corpus",
        description="Collect, clean, deduplicate and pack a corpus as a recipe says.",
        epilog=CORPUS_EXAMPLES,
    )
    parser.add_argument("recipe", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key; repeatable")
    parser.add_argument("--workers", type=whole_number, default=0, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--cluster", action="store_true", help="run as datatrove pipelines, as the key cluster says")
    args = parser.parse_args(arguments)
    if args.workers < 0:
        raise RequestError(f"--workers is 0 or more, not {args.workers}")
    recipe = read_recipe(find_recipe(args.recipe), Recipe, args.set)
    if args.cluster:
        from training.corpus.cluster import build_on_cluster

        facts = build_on_cluster(recipe, args.out)
        if facts is None:
            print(f"the jobs are queued; the corpus will lie in {args.out}")
            return 0
    else:
        facts = build_corpus(recipe, args.out, args.workers)
    console = Console()
    console.print(*report.tables(facts), sep="\n")
    for name, why in facts["left_out"].items():
        console.print(f"left out: {name}: {why}", highlight=False)
    rate = facts["validation"]["bytes_per_token"]
    console.print(f"{rate:.3f} bytes a token in validation; the report is {args.out / 'report.html'}", highlight=False)
    return 0


def tokenizer(arguments: list[str]) -> int:
    """Run `diffill train tokenizer`: train one on folders, or take a checkpoint's and add tokens."""
    parser = Parser(
        prog="diffill train tokenizer",
        description="Train a tokenizer on the Python files of folders, or take a checkpoint's and add the tokens\n"
        "of masked diffusion without moving an id.",
        epilog=TOKENIZER_EXAMPLES,
    )
    parser.add_argument("folders", nargs="*", type=Path, help="folders or files to train on")
    parser.add_argument("--vocabulary", type=whole_number, default=VOCABULARY, metavar="N", help="ids (default: 8192)")
    parser.add_argument("--include", action="append", metavar="PATTERN", help="file names (default: *.py)")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="order of the files (0)")
    parser.add_argument("--take", type=Path, metavar="CHECKPOINT", help="a folder with tokenizer.json, or that file")
    parser.add_argument(
        "--add", nargs="+", default=["mask", "pad"], metavar="ROLE[=TEXT]", help=f"of {', '.join(ROLES)} (mask pad)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write")
    args = parser.parse_args(arguments)
    if (args.take is None) == (not args.folders):
        raise RequestError("give folders to train on, or --take CHECKPOINT, and not both")
    if args.take is not None:
        spellings = {}
        for given in args.add:
            role, _, spelling = given.partition("=")
            spellings[role] = spelling or ROLES.get(role, "")
        taken, ids = take_tokenizer(args.take, spellings)
        save_tokenizer(args.out, taken, ids, args.take)
        needed, rows = rows_needed(taken), model_rows(args.take)
        print(f"{json.dumps(ids)}; {needed} ids")
        if rows is not None:
            room = "has room" if rows >= needed else f"must grow to {needed} rows"
            print(f"the model's embedding of {rows} rows {room}")
        return 0
    texts = read_texts(args.folders, tuple(args.include or ("*.py",)))
    random.Random(args.seed).shuffle(texts)
    try:
        trained = train_tokenizer(texts, args.vocabulary)
    except ValueError as error:
        raise RequestError(f"no tokenizer: {error}; set --vocabulary lower or give more texts") from error
    names = {"mask": "<|mask|>", "pad": "<|pad|>", "expand": "<|expand|>"}
    vocabulary = trained.get_vocab(with_added_tokens=True)
    save_tokenizer(args.out, trained, {role: vocabulary[name] for role, name in names.items()})
    print(f"{trained.get_vocab_size()} ids from {len(texts)} files")
    return 0


def tasks(arguments: list[str]) -> int:
    """Run `diffill train tasks`: mine verified tasks from doctests."""
    from training.corpus import tasks as miner

    parser = Parser(
        prog="diffill train tasks",
        description="Mine tasks from doctests: a function's body is the hole, one example is shown, the others are\n"
        "its hidden tests. Each is verified in a sandbox: the original passes, a stub fails.",
        epilog=TASKS_EXAMPLES,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="jsonl to write")
    parser.add_argument("--folder", type=Path, help="mine this folder (default: what is installed)")
    parser.add_argument("--package", action="append", default=[], metavar="NAME", help="only this one; repeatable")
    parser.add_argument("--limit", type=whole_number, metavar="N", help="verify at most N")
    parser.add_argument("--per-package", type=whole_number, default=50, metavar="N", help="of one package (50)")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="which are chosen (0)")
    parser.add_argument("--workers", type=whole_number, default=0, metavar="N", help="sandboxes (one a core)")
    parser.add_argument("--unsafe-exec", action="store_true", help="without bubblewrap, run code with your own rights")
    args = parser.parse_args(arguments)
    for name in ("limit", "per_package"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise RequestError(f"--{name.replace('_', '-')} is 1 or more")
    if args.workers < 0:
        raise RequestError(f"--workers is 0 or more, not {args.workers}")
    if args.folder is not None and args.package:
        raise RequestError("give --folder or --package, not both")
    require(args.unsafe_exec)
    places = miner.installed_places(args.package) if args.folder is None else miner.folder_places(args.folder)
    found, counts = miner.mine(places, args.limit, args.per_package, args.seed, args.workers, args.unsafe_exec)
    if not found:
        told = ", ".join(f"{n} {what}" for what, n in counts.items()) or "no doctest"
        raise RequestError(f"no task was found ({told})")
    miner.write_tasks(args.out, found)
    for what, count in counts.items():
        print(f"{count:6,} {what}")
    held_out = sum(task.split == "held_out" for task in found)
    print(f"{len(found) - held_out} tasks to train on, {held_out} held out: {args.out}")
    return 0


def read_texts(paths: list[Path], include: tuple[str, ...]) -> list[str]:
    """The texts under `paths` that are no tables, no generated code and not minified."""
    texts = []
    for path in paths:
        if not path.exists():
            raise RequestError(f"there is no {path}")
        files = [path]
        if path.is_dir():
            files = [path / name for name in folder_files(path) if fits(name, include)]
        for file in files:
            try:
                text = decode(file.read_bytes())
            except OSError as error:
                raise RequestError(f"{file} cannot be read: {error.strerror}") from error
            if text and reason_in_text(text) is None:
                texts.append(text)
    if not texts:
        raise RequestError(f"there is no text to train on in {', '.join(map(str, paths))}")
    return texts
