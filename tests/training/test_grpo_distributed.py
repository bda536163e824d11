"""Two processes that torchrun starts roll out, grade and learn what one does; sharded and replicated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from grpo_small import UNSAFE, make_model, make_task_file, recipe, values  # noqa: E402
from small import write_recipe  # noqa: E402
from test_distributed import start  # noqa: E402

from training.recipe import read_yaml  # noqa: E402
from training.stages.grpo import run_grpo  # noqa: E402

CHANGES = {"schedule__steps": 4, "rollouts__steps": 2, "reference__sync": 2, "measure__tasks": 3}
SAME = ("loss", "reward", "pass", "form", "kl", "entropy", "unequal", "tokens", "norm")


def records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_processes_learn_what_one_learns(tmp_path, parallel):
    """Rollouts are sharded, rewards gathered: a group may lie on both processes (3 groups of 4 in 6 and 6 rows)."""
    model, tasks = make_model(tmp_path / "model"), make_task_file(tmp_path / "tasks.jsonl", 6, 3)
    changes = CHANGES | {"batch__rows": 12, "batch__micro": 3, "rollouts__micro": 3, "parallel": parallel}
    assert run_grpo(recipe(model, tasks, **changes), tmp_path / "one", "cpu", UNSAFE) == 0
    path = write_recipe(tmp_path / "recipe.yaml", values(model, tasks, **changes))
    done = start(2, "grpo", path, tmp_path / "two", *(["--unsafe-exec"] if UNSAFE else []))
    assert done.returncode == 0, done.stderr
    assert read_yaml(tmp_path / "two/recipe.yaml")["made"]["processes"] == 2
    for one, two in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        assert one.keys() == two.keys()
        assert two.get("scores") == pytest.approx(one.get("scores"), abs=1e-5)
        for name in SAME:
            assert two.get(name) == pytest.approx(one.get(name), abs=1e-4), name
    saved = sorted((tmp_path / "two/checkpoints").iterdir())[-1] / "trainer"
    assert len(list(saved.glob("reference-*.pt"))) == (2 if parallel == "fsdp2" else 1)
