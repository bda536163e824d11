"""`diffill eval run`: a benchmark on a model, resumable; and loading what the command line names."""

from __future__ import annotations

import argparse
import copy
import functools
import hashlib
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from model_runtime.catalog.catalog import find_model
from model_runtime.commands.options import Parser, real_number, whole_number
from model_runtime.protocol import SAMPLERS, RequestError
from training.corpus.store import write_json
from training.evaluation import benchmarks
from training.evaluation.benchmarks.problem import Problem
from training.evaluation.decoders import Decoder, Filling, Sampling, Whole
from training.evaluation.infill import hardware
from training.evaluation.reporting import print_json, print_table, say, share
from training.evaluation.runs import Plan, grade_gold, grade_nothing, read_json, run
from training.evaluation.summary import check_ks, summarize
from training.rewards.pool import RewardPool

EXAMPLES = """\
examples:
  diffill eval run humaneval+ --model ./DiffuCoder-7B-Instruct --data HumanEvalPlus.jsonl --out build/eval/humaneval
  diffill eval run infilling-single-line --model embedded --download --out build/eval/single-line
  diffill eval run mbpp --model build/pipeline/sft --data mbpp.jsonl --max-new-tokens 64 --seeds 0,1,2 --out build/mbpp

The defaults are the paper's: 512 tokens in 512 steps, entropy, top-p 0.95, T = 0.2 (after GRPO: best of 0.2, 0.3, 0.4).
A command that was killed goes on when it is given again.
"""


def numbers(kind: type) -> Any:
    """A parser's type: numbers with commas between them."""

    def read(text: str) -> tuple[Any, ...]:
        try:
            found = tuple(kind(part) for part in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"takes numbers with commas between them, not {text!r}") from None
        if any(not 0 <= value <= 10**6 for value in found) or len(set(found)) < len(found):
            raise argparse.ArgumentTypeError(f"takes different numbers of at least 0, not {text!r}")
        return found

    return read


def add_options(parser: Parser) -> None:
    """What `run` and `report` share: the problems, the model, how it decodes, and where code runs."""
    data = parser.add_argument_group("problems")
    data.add_argument("--data", type=Path, metavar="PATH", help="the benchmark's file (jsonl, json, parquet) or folder")
    data.add_argument("--download", action="store_true", help="fetch it from its owner's place on the Hugging Face Hub")
    data.add_argument("--limit", type=whole_number, metavar="N", help="the first N problems only")
    data.add_argument(
        "--max-prompt", type=whole_number, metavar="N", help="leave out problems of more tokens than that"
    )
    data.add_argument("--language", default="python", help="of SantaCoder-FIM: python, java, javascript (python)")
    group = parser.add_argument_group("decoding")
    group.add_argument("--decoder", choices=("auto", "whole", "engine"), default="auto", help=DECODER_HELP)
    group.add_argument("--prompt", choices=("auto", "chat", "plain"), default="auto", help="(default: chat if it can)")
    group.add_argument("--length", help="of a hole: fixed:N, fixed:oracle, or what the engine knows (auto, fixed:64)")
    group.add_argument("--max-new-tokens", type=whole_number, metavar="N", default=512, help="(default: 512)")
    group.add_argument("--steps", type=whole_number, metavar="N", help="(default: 512; engine: as the sampler needs)")
    group.add_argument("--alg", help="entropy, maskgit_plus, topk_margin, origin; engine: also threshold, its default")
    group.add_argument("--top-p", type=real_number, default=0.95, metavar="P", help="(default: 0.95)")
    group.add_argument("--batch", type=whole_number, default=8, metavar="N", help="samples of a batch (default: 8)")
    group.add_argument("--samples", type=whole_number, default=1, metavar="N", help="a problem and seed (default: 1)")
    group.add_argument("--seeds", type=numbers(int), default=(0,), metavar="A,B,…", help="(default: 0)")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU if there is one)")
    machine.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(default: float32)")
    machine.add_argument("--workers", type=whole_number, default=0, metavar="N", help="sandboxes at once (a core each)")
    machine.add_argument("--unsafe-exec", action="store_true", help="run code of the model with your own rights")


DECODER_HELP = "whole: batches of whole canvases; engine: as editors do (auto: engine for holes, if it must also else)"


def make_parser() -> Parser:
    """The parser of `diffill eval run`."""
    parser = Parser(prog="diffill eval run", epilog=EXAMPLES)
    parser.add_argument("benchmark", metavar="BENCHMARK", help="; ".join(benchmarks.BENCHMARKS))
    parser.add_argument("--model", default="embedded", metavar="NAME|PATH", help="a model or a run (default: embedded)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the run's folder; what is there is kept"
    )
    parser.add_argument("--temperature", type=numbers(float), metavar="A,B,…", help="(default: 0.2; engine: 0)")
    parser.add_argument("--k", type=numbers(int), default=(1,), metavar="A,B,…", help="of pass@k (default: 1)")
    parser.add_argument("--no-gold", action="store_true", help="run neither the benchmark's own answers nor idle ones")
    add_options(parser)
    return parser


def main(argv: list[str]) -> int:
    """Run `diffill eval run ARGV…` and return the exit code."""
    args = make_parser().parse_args(argv)
    check_ks(args.k, args.samples * len(args.seeds))
    summary = evaluate(args, args.model, args.out, args.temperature, tuple(args.k))
    print_summary(summary, Console())
    print_json(
        {
            name: summary[name]
            for name in ("benchmark", "model", "temperatures", "best", "gold", "nothing")
            if name in summary
        }
    )
    return 0


def evaluate(
    args: argparse.Namespace,
    model: str,
    out: Path,
    temperatures: tuple[float, ...] | None,
    ks: tuple[int, ...],
    **changes: Any,
) -> dict[str, Any]:
    """The summary of a run with the options of the command line, `changes` in their place; made, or gone on with."""
    options = argparse.Namespace(**{**vars(args), **changes})
    check_options(options)
    with RewardPool(options.workers, options.unsafe_exec) as pool:  # first: where nothing may run, nothing is made
        problems, data = read_data(options)
        folder = model_folder(model)
        kind, sampling = decide(options, folder, problems)
        decoder = load(kind, folder, sampling, options)
        if options.max_prompt is not None:
            problems = short_problems(problems, decoder, options.max_prompt)
        if temperatures is None:
            temperatures = (0.0,) if kind == "engine" else (0.2,)
        plan = Plan(
            benchmark=options.benchmark,
            data=benchmarks.fingerprint(data),
            problems=len(problems),
            model=str(model),
            weights=weights_of(folder),
            decoder=kind,
            chat=sampling.chat,
            length=sampling.length,
            temperatures=temperatures,
            seeds=tuple(options.seeds),
            samples=options.samples,
            max_new_tokens=sampling.max_new_tokens,
            steps=sampling.steps,
            alg=sampling.alg,
            top_p=sampling.top_p,
            batch=options.batch,
        )
        about = {"hardware": hardware(), "date": date.today().isoformat(), "data": data.name}
        out_console = Console(stderr=True)
        with Progress(console=out_console, transient=True, disable=not out_console.is_terminal) as bar:
            task = bar.add_task(out.name)
            rows = run(plan, problems, decoder, pool, out, about, lambda n, of: bar.update(task, completed=n, total=of))
            bounds = {} if options.no_gold else {"gold": grade_gold(problems, pool, out / "gold.json")}
            if bounds and problems[0].shape == "infill":
                bounds["nothing"] = grade_nothing(problems, pool, out / "nothing.json")
    summary = {"benchmark": plan.benchmark, "model": plan.model, "about": about, **summarize(rows, ks, bounds)}
    write_json(out / "summary.json", summary)
    return summary


def check_options(options: argparse.Namespace) -> None:
    """RequestError for a number out of its range."""
    for name in ("limit", "max_prompt", "max_new_tokens", "steps", "batch", "samples"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise RequestError(f"--{name.replace('_', '-')} is at least 1, not {value}")
    if not 0 < options.top_p <= 1:
        raise RequestError(f"--top-p lies above 0 and not above 1, not at {options.top_p}")
    if options.workers < 0:
        raise RequestError(f"--workers is at least 0, not {options.workers}")


def read_data(options: argparse.Namespace) -> tuple[list[Problem], Path]:
    """The problems that the options ask for, and where they are."""
    benchmark = benchmarks.find_benchmark(options.benchmark)
    if (options.data is None) == (not options.download):
        raise RequestError(f"{benchmark.name} is not part of diffill: give its file with --data, or --download")
    path = benchmarks.fetch(benchmark) if options.download else options.data
    return benchmarks.read_problems(benchmark, path, (options.language,))[: options.limit], path


def model_folder(model: str) -> Path:
    """The folder with the config.json that a name, a folder or a run means."""
    from training.models import model_folder as inner

    return inner(find_model(model))


def decide(options: argparse.Namespace, folder: Path, problems: list[Problem]) -> tuple[str, Sampling]:
    """Which decoder, and how it samples, where the options leave it open."""
    from model_runtime.models.families import read_facts

    infill = problems[0].shape == "infill"
    blind, kind = read_facts(folder).context_blind, options.decoder
    if kind == "auto":
        kind = "engine" if infill or blind else "whole"
    if kind == "whole" and blind:
        raise RequestError(f"{folder.name} has no full attention, which --decoder whole needs: use --decoder engine")
    can_chat = kind == "whole" and not infill
    if options.prompt == "chat" and not can_chat:
        raise RequestError("--prompt chat is for --decoder whole and benchmarks that are not about holes")
    chat = can_chat and options.prompt != "plain"
    if options.prompt == "auto":
        chat = chat and has_template(folder)
    alg = options.alg or ("threshold" if kind == "engine" else "entropy")
    known = SAMPLERS if kind == "engine" else tuple(name for name in SAMPLERS if name != "threshold")
    if alg not in known:
        raise RequestError(f"--alg is one of {', '.join(known)} for --decoder {kind}, not {alg!r}")
    length = options.length or ("auto" if kind == "engine" else "fixed:64")
    steps = options.steps or (None if kind == "engine" else 512)
    top_p = options.top_p if options.top_p < 1 else None
    return kind, Sampling(options.max_new_tokens, steps, alg, top_p, length, chat)


def has_template(folder: Path) -> bool:
    """Whether a model comes with a chat template, in a file of its own or in the tokenizer's settings."""
    settings = folder / "tokenizer_config.json"
    return (folder / "chat_template.jinja").is_file() or (settings.is_file() and "chat_template" in read_json(settings))


def load(kind: str, folder: Path, sampling: Sampling, options: argparse.Namespace) -> Decoder:
    """The decoder with its model loaded; the last model stays loaded, for a report asks for it again and again."""
    decoder = copy.copy(loaded(kind, folder, options.device, options.dtype))
    decoder.sampling = sampling
    return decoder


@functools.lru_cache(maxsize=1)
def loaded(kind: str, folder: Path, device: str | None, dtype: str) -> Whole | Filling:
    """A decoder that samples somehow."""
    return Filling(folder, Sampling()) if kind == "engine" else Whole(folder, Sampling(), device, dtype)


def short_problems(problems: list[Problem], decoder: Decoder, most: int) -> list[Problem]:
    """Those whose prompt and suffix have at most so many tokens; RequestError where there are none."""
    encode = decoder.tokenizer.encode
    kept = [p for p in problems if len(encode(p.prompt)) + len(encode(p.suffix)) <= most]
    if not kept:
        raise RequestError(f"no problem has a prompt of at most {most} tokens: raise --max-prompt")
    return kept


def weights_of(folder: Path) -> str:
    """A fingerprint of a model: its config and tokenizer, and names, sizes and heads of its weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.suffix in (".json", ".safetensors", ".onnx", ".npz"):
            digest.update(f"{path.name} {path.stat().st_size}".encode())
            with path.open("rb") as file:
                digest.update(file.read(1 << 24))
    return digest.hexdigest()[:16]


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print a table with a row for each temperature, and what holds for all."""
    lines = []
    for temperature, found in summary["temperatures"].items():
        told = {f"{name} %": percent(value) for name, value in found.items() if name.startswith("pass@")}
        told |= {f"{name} %": percent(value) for name, value in found.get("suites", {}).items()}
        told |= {f"{name} %": percent(found[name]) for name in ("exact", "echo", "parses") if name in found}
        if "gap_mean" in found:
            told["length gap"] = f"{found['gap_mean']:+.1f} ({found['gap_absolute']:.1f})"
        slow = found["ms_per_accepted_character"]
        told |= {"ms": f"{found['ms_median']:.0f}", "ms/accepted char": "-" if slow is None else f"{slow:.1f}"}
        local = found.get("arness", {}).get("local_set_over_T", {}).get("1")
        total = found.get("arness", {}).get("global", {}).get("1")
        told |= {
            "local@1": f"{local['mean']:.2f}" if local else "-",
            "global@1": f"{total['mean']:.2f}" if total else "-",
        }
        lines.append((f"T = {temperature}", *told.values()))
        heads = (f"{summary['benchmark']}, {Path(summary['model']).name}", *told)
    print_table(heads, lines, console)
    counts = next(iter(summary["temperatures"].values()))
    about = summary["about"]
    say(
        f"{counts['problems']} problems, {counts['samples']} samples a row; {about['hardware']}; {about['date']}",
        console,
    )
    if "gold" in summary:
        say(f"gold ceiling: {percent(summary['gold'])} % of the benchmark's own answers pass here", console)
    if "nothing" in summary:
        say(f"floor: {percent(summary['nothing'])} % of the holes pass with no more than `pass` in them", console)
    if "best" in summary:
        say(f"T = {summary['best']['temperature']} is {summary['best']['note']}", console)


def percent(found: dict[str, float]) -> str:
    """A share in per cent, with its interval."""
    return share({"x": found["mean"], "x_95": (found["low"], found["high"])}, "x")
