"""Two processes that torchrun starts learn what one process learns: DDP and FSDP2, over gloo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from safetensors.torch import load_file  # noqa: E402
from small import SHAPE, make_pack, values, write_recipe  # noqa: E402

from training.recipe import build, read_yaml  # noqa: E402
from training.stages.recipe import StageRecipe  # noqa: E402
from training.stages.stage import run_stage  # noqa: E402

ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(processes: int, stage: str, recipe: Path, out: Path, *more: str) -> subprocess.CompletedProcess:
    """`torchrun … diffill train STAGE …`."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    launcher += [f"--master-port={free_port()}", "-m", "model_runtime"]
    command = [*launcher, "train", stage, "--device", "cpu", "--recipe", str(recipe), "--out", str(out), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def losses(out: Path) -> list[float]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def scores(out: Path) -> dict[str, float]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [record["scores"] for record in records if "scores" in record][-1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A pack, a causal model, and an adaptation of it on one process."""
    folder = tmp_path_factory.mktemp("one")
    pack = make_pack(folder / "pack")
    run_stage(build(StageRecipe, values("base", pack, shape=SHAPE, tokenizer=str(pack))), folder / "base", "cpu")
    recipe = values("adapt", pack, init=str(folder / "base"), anneal_steps=4, batch__micro=1)
    run_stage(build(StageRecipe, recipe), folder / "adapt", "cpu")
    return folder, recipe


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_processes_learn_what_one_learns(made, tmp_path, parallel):
    folder, recipe = made
    path = write_recipe(tmp_path / "recipe.yaml", recipe | {"parallel": parallel})
    done = start(2, "adapt", path, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert read_yaml(tmp_path / "run/recipe.yaml")["made"]["processes"] == 2
    assert losses(tmp_path / "run") == pytest.approx(losses(folder / "adapt"), abs=1e-5)
    assert scores(tmp_path / "run") == pytest.approx(scores(folder / "adapt"), abs=1e-4)
    last = "checkpoints/step-00000006/model.safetensors"
    one, two = load_file(folder / "adapt" / last), load_file(tmp_path / "run" / last)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5), name


def test_two_sharded_processes_are_continued_by_one(made, tmp_path):
    """A sharded checkpoint is read by another number of processes; and two go on where two were stopped."""
    folder, recipe = made
    path = write_recipe(tmp_path / "recipe.yaml", recipe | {"parallel": "fsdp2"})
    saved = tmp_path / "run/checkpoints"
    done = start(2, "adapt", path, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    for place in saved.iterdir():
        if place.name != "step-00000004":
            for file in sorted(place.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            place.rmdir()
    assert run_stage(build(StageRecipe, recipe), tmp_path / "run", "cpu") == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(folder / "adapt"), abs=1e-5)


def test_processes_that_did_not_come_about_are_an_error(made, tmp_path, monkeypatch):
    """A launcher that starts one process and says nothing."""
    from training import parallel
    from training.errors import TrainingError

    class One:
        num_processes = 1

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(parallel, "Accelerator", lambda **_: One())
    with pytest.raises(TrainingError, match="2 processes were asked for, 1 take part"):
        parallel.start_processes("cpu", "float32")
