"""What a run tells while it goes on: log.jsonl always; a progress bar, TensorBoard and Weights & Biases if wanted."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.checkpoints import append_json
from training.errors import TrainingError
from training.jsonl import read_jsonl
from training.stages.recipe import Logging

Record = dict[str, Any]
SENT = (
    *("loss", "nats", "norm", "rate", "tokens_per_s", "opened"),
    *("reward", "pass", "form", "kl", "clip", "entropy", "length", "arness_local", "arness_global", "unequal"),
)


class Logs:
    """The logs of the main process; on others every method does nothing."""

    def __init__(self, folder: Path, logging: Logging, main: bool, title: str, steps: int, step: int, settings: Any):
        self.path, self.main, self.steps = folder / "log.jsonl", main, steps
        self.board: Any = None
        self.wandb: Any = None
        self.progress: Progress | None = None
        if not main:
            return
        if logging.tensorboard:
            self.board = start_tensorboard(folder / "tensorboard", step)
        if logging.wandb is not None:
            self.wandb = start_wandb(folder, logging.wandb, settings)
        console = Console(stderr=True)
        if console.is_terminal:
            self.progress = Progress(
                TextColumn(title),
                BarColumn(20),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=True, compact=True),
                TextColumn("{task.fields[text]}"),
                console=console,
            )
            self.progress.start()
            self.task = self.progress.add_task(title, total=steps, completed=step, text="")

    def step(self, record: Record, shown: bool) -> None:
        """A step's record; `shown` lets the console have it too."""
        if not self.main:
            return
        append_json(self.path, record)
        self.send(record, SENT)
        names = ("reward", "pass", "kl") if "reward" in record else ("loss", "nats")
        text = "  ".join(f"{name} {record[name]:.3f}" for name in names) + f"  {record['tokens_per_s']:,} tokens/s"
        if self.progress is not None:
            self.progress.update(self.task, completed=record["step"], text=text)
        elif shown:
            left = (self.steps - record["step"]) * record["seconds_per_step"]
            print(f"step {record['step']}/{self.steps}  {text}  {clock(left)} left", file=sys.stderr, flush=True)

    def scores(self, step: int, tokens: int, scores: dict[str, float]) -> None:
        """What was measured on validation documents."""
        if not self.main:
            return
        append_json(self.path, {"step": step, "tokens": tokens, "scores": scores})
        # rollouts have figures of the same names at the same steps
        named = {f"held/{name}" if name in SENT else name: value for name, value in scores.items()}
        self.send({"step": step, **named}, tuple(named))
        self.say(f"step {step}  " + "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))

    def send(self, record: Record, names: tuple[str, ...]) -> None:
        """Give figures to the services that were asked for."""
        values = {name: record[name] for name in names if record.get(name) is not None}
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, record["step"])
        if self.wandb is not None:
            self.wandb.log(values, step=record["step"])

    def say(self, text: str) -> None:
        """A line for the reader, above the bar if there is one."""
        if self.main:
            if self.progress is not None:
                self.progress.console.print(text, markup=False, highlight=False)
            else:
                print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Stop the bar, flush the services."""
        if self.progress is not None:
            self.progress.stop()
        if self.board is not None:
            self.board.close()
        if self.wandb is not None:
            self.wandb.finish()


def start_tensorboard(folder: Path, step: int) -> Any:
    """A TensorBoard writer; what was written beyond `step`, before a resume, is hidden."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise TrainingError("logging.tensorboard needs tensorboard: pip install 'diffill[track]'") from None
    return SummaryWriter(str(folder), purge_step=step + 1)


def start_wandb(folder: Path, project: str, settings: Any) -> Any:
    """A Weights & Biases run; WANDB_MODE=offline keeps it on this machine."""
    try:
        import wandb
    except ModuleNotFoundError:
        raise TrainingError("logging.wandb needs wandb: pip install 'diffill[track]'") from None
    return wandb.init(project=project, dir=str(folder), config=settings, resume="allow", id=folder.name)


def forget_after(path: Path, step: int) -> None:
    """Drop the records beyond `step`, which a killed run wrote after its last checkpoint."""
    if not path.exists():
        return
    kept = [line for line in path.read_text("utf-8").splitlines() if record_step(line) <= step]
    partial = path.with_name(path.name + ".new")
    partial.write_text("".join(line + "\n" for line in kept), "utf-8")
    partial.replace(path)


def record_step(line: str) -> float:
    """The step of a record; a line that was cut off counts as beyond every step."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


def read_log(path: Path) -> list[Record]:
    """The records of a log."""
    return read_jsonl(path)


def clock(seconds: float) -> str:
    """A duration as 1:02:03."""
    return time.strftime("%-H:%M:%S" if seconds >= 3600 else "%-M:%S", time.gmtime(seconds))
