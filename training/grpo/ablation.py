"""Coupled-GRPO against its baselines on the same seeds: runs, a table and a picture. What is done is not done again.

python -m training.grpo.ablation --out build/ablation
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_runtime.commands.machine import processor
from training.corpus.small_tasks import main as make_small_tasks
from training.evaluation.passk import bootstrap
from training.grpo.command import read_grpo
from training.grpo.curves import draw_rewards
from training.grpo.grading import Known
from training.grpo.measure import RESAMPLES, read_samples
from training.grpo.problems import lay_out_tasks, load_tasks
from training.grpo.rollouts import stack_left
from training.grpo.variance import variance_ratio
from training.logs import read_log
from training.models import read_files, read_model, token_ids
from training.stages.command import read_stage
from training.stages.grpo import run_grpo
from training.stages.stage import run_stage, text_tokenizer

ESTIMATORS = "coupled", "decoupled", "full_mask"
LATE = 20  # the last optimizer steps whose rewards are averaged


def prepare(out: Path) -> None:
    """Tasks, and the model that all runs begin with."""
    if not (out / "tasks.jsonl").is_file():
        make_small_tasks(["--out", str(out / "tasks.jsonl"), "--muddled", str(out / "muddled"), "--documents", "4000"])
    pack = out / "muddled"
    start = read_stage("ablation/start", "adapt", [f"tokenizer={pack}", f"data.packs.muddled={pack}"])
    if code := run_stage(start, out / "start"):
        raise SystemExit(code)


def run_one(out: Path, estimator: str, seed: int, more: Sequence[str], unsafe: bool, known: Known) -> Path:
    """A run, if it is not there whole; its folder."""
    folder = out / f"{estimator}-{seed}"
    settings = [f"init={out / 'start'}", f"tasks.path={out / 'tasks.jsonl'}"]
    recipe = read_grpo("ablation/grpo", [*settings, f"objective.estimator={estimator}", f"seed={seed}", *more])
    if code := run_grpo(recipe, folder, unsafe=unsafe, known=known):
        raise SystemExit(code)
    return folder


def results(folders: Sequence[Path], seed: int = 0) -> dict[str, Any]:
    """Of an estimator's runs: rewards of late rollouts by seed, and the held-out figures before and after.

    A task's pass rate is its mean over samples and seeds; the interval comes from resampling tasks.
    """
    logs = [read_log(folder / "log.jsonl") for folder in folders]
    rewards = [[record["reward"] for record in log if "reward" in record] for log in logs]
    found: dict[str, Any] = {"reward_late": [round(float(np.mean(some[-LATE:])), 3) for some in rewards]}
    found["reward_mean"] = [round(float(np.mean(some)), 3) for some in rewards]
    for name, place in (("before", 0), ("after", -1)):
        scores = [[record["scores"] for record in log if "scores" in record][place] for log in logs]
        samples = [read_samples(sorted(folder.glob("held-*.jsonl"))[place]) for folder in folders]
        by_task: dict[str, list[float]] = {}
        for record in (record for some in samples for record in some):
            by_task.setdefault(record["id"], []).append(record["pass"])
        means = [statistics.mean(values) for values in by_task.values()]
        share = bootstrap(means, seed, RESAMPLES)
        keys = ("form", "arness_local", "arness_global", "length")
        found[name] = {key: round(statistics.mean(s[key] for s in scores), 3) for key in keys}
        found[name] |= {
            "pass": round(statistics.mean(means), 3),
            "interval": [round(share.low, 3), round(share.high, 3)],
            "by_seed": [round(s["pass"], 3) for s in scores],
        }
    return found


def measure_variance(out: Path) -> dict[str, float]:
    """The variance ratio of the start on the held-out tasks' own bodies."""
    model, files = read_model(out / "start").eval(), read_files(sorted((out / "start/checkpoints").iterdir())[-1])
    ids, tokenizer = token_ids(model, files), text_tokenizer(files)
    tasks = [
        task for task in load_tasks(out / "tasks.jsonl", "repo", out, False) if getattr(task, "split", "") != "train"
    ]
    problems, _ = lay_out_tasks(tasks, tokenizer, ids, read_grpo("ablation/grpo", []).tasks, 0)
    rows = [[*p.before, *tokenizer.encode(getattr(p.task, "body", "")), *p.after] for p in problems]
    ids_BL, present_BL = stack_left(rows, ids.pad)
    completion_BL = torch.zeros_like(present_BL)
    for row, problem in enumerate(problems):
        start = ids_BL.shape[1] - len(rows[row]) + len(problem.before)
        completion_BL[row, start : start + problem.length] = True
    assert ids.mask is not None
    found = variance_ratio(model, ids_BL, present_BL, completion_BL, ids.mask)
    return {name: round(value, 3) for name, value in found.items()}


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "| | late reward | held-out pass %, before | after (95 %) | by seed | local AR-ness, before, after | global |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found["estimators"].items():
        before, after = one["before"], one["after"]
        low, high = (f"{100 * value:.0f}" for value in after["interval"])
        lines.append(
            f"| {name} | {statistics.mean(one['reward_late']):.2f} | {100 * before['pass']:.1f} | "
            f"{100 * after['pass']:.1f} ({low} to {high}) | {', '.join(f'{100 * v:.0f}' for v in after['by_seed'])} | "
            f"{before['arness_local']:.2f}, {after['arness_local']:.2f} | "
            f"{before['arness_global']:.2f}, {after['arness_global']:.2f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.grpo.ablation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=Path("build/ablation"), metavar="DIR")
    parser.add_argument("--seeds", default="0,1,2", metavar="A,B,…")
    parser.add_argument("--estimators", default=",".join(ESTIMATORS), metavar="A,B,…")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of ablation/grpo"
    )
    parser.add_argument("--unsafe-exec", action="store_true")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    prepare(args.out)
    seeds, estimators = [int(seed) for seed in args.seeds.split(",")], args.estimators.split(",")
    folders: dict[str, list[Path]] = {name: [] for name in estimators}
    for seed in seeds:  # seed by seed, so that a run that is stopped early compares like with like
        known: Known = OrderedDict()  # another seed may cut other holes into the same tasks
        for name in estimators:
            folders[name].append(run_one(args.out, name, seed, args.set, args.unsafe_exec, known))
    found = {
        "machine": processor(),
        "seeds": seeds,
        "variance_ratio": measure_variance(args.out),
        "estimators": {name: results(some) for name, some in folders.items()},
    }
    draw_rewards(
        [(name, [folder / "log.jsonl" for folder in some]) for name, some in folders.items()], args.out / "ablation.svg"
    )
    (args.out / "ablation.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    print(f"variance of coupled over decoupled: {json.dumps(found['variance_ratio'])}")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
