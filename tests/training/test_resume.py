"""A run that was killed and goes on is the run that was never killed, to the bit."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from killing import Killed, kill_at, same_weights, weights  # noqa: E402
from small import SHAPE, run, values, write_recipe  # noqa: E402

from model_runtime.protocol import DiffillError  # noqa: E402
from training.recipe import build  # noqa: E402
from training.stages.recipe import StageRecipe  # noqa: E402
from training.stages.stage import run_stage  # noqa: E402

KEPT = ("step", "tokens", "loss", "nats", "norm", "rate", "opened", "scores")
ROOT = Path(__file__).parent.parent.parent


def figures(out: Path) -> list[dict]:
    """The log without what depends on the clock."""
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: record[key] for key in KEPT if key in record} for record in records]


SETTINGS = {
    "base": {"shape": SHAPE},
    "adapt": {"anneal_steps": 4, "data__workers": 1},
    "lora": {"lora": {"rank": 2, "dropout": 0.2}},  # draws random numbers in the forward
    "qlora": {"lora": {"rank": 2, "bits": 4}},
}


@pytest.fixture(scope="module")
def settings(pack, causal):
    settings = {name: dict(one) for name, one in SETTINGS.items()}
    settings["base"]["tokenizer"] = str(pack)
    settings["adapt"]["init"] = settings["lora"]["init"] = settings["qlora"]["init"] = str(causal)
    return settings


@pytest.fixture(scope="module")
def whole(tmp_path_factory, pack, settings):
    """Runs that were never interrupted."""
    folders = {}
    for name, one in settings.items():
        folders[name] = tmp_path_factory.mktemp("whole") / name
        assert run("adapt" if "lora" in name else name, pack, folders[name], **one) == 0
    return folders


@pytest.mark.parametrize(
    ("name", "step"),
    [("base", 3), ("adapt", 1), ("adapt", 2), ("adapt", 3), ("adapt", 5), ("adapt", 6), ("lora", 5), ("qlora", 3)],
)
def test_killed_and_resumed_is_never_killed(name, step, pack, settings, whole, tmp_path):
    stage, one = "adapt" if "lora" in name else name, settings[name]
    with pytest.raises(Killed):
        run(stage, pack, tmp_path / "run", on_step=kill_at(step), **one)
    torch.manual_seed(999)  # another process would have other random numbers
    assert run(stage, pack, tmp_path / "run", **one) == 0
    assert figures(tmp_path / "run") == figures(whole[name])
    assert same_weights(tmp_path / "run", whole[name])


def test_sigterm_saves_and_leaves_with_143(pack, causal, settings, whole, tmp_path):
    recipe = values("adapt", pack, **settings["adapt"])
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    command = [sys.executable, "-m", "model_runtime", "train", "adapt", "--device", "cpu"]
    command += ["--recipe", str(path), "--out", str(tmp_path / "run"), "--set", "logging.every=1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    longer = {"schedule__steps": 80, "checkpoints__every": 100, "scoring__every": 0}  # the signal meets it at work
    command += [part for key, value in longer.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if re.match(r"step 4/", line):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stderr.read()
    assert process.returncode == 143, rest
    saved = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert len(saved) == 1
    step = int(saved[0].name[5:])
    assert 4 <= step < 80
    assert json.loads((saved[0] / "trainer" / "progress.json").read_text())["step"] == step
    assert f"stopped at step {step}" in rest
    assert run("adapt", pack, tmp_path / "run", **settings["adapt"], **longer) == 0
    assert run("adapt", pack, tmp_path / "whole", **settings["adapt"], **longer) == 0
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")


def test_the_last_checkpoints_are_kept_and_are_models(whole):
    from model_runtime.engine.engine import Engine
    from model_runtime.protocol import FillRequest

    kept = sorted((whole["adapt"] / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-00000004", "step-00000006"]
    for folder in kept:
        files = {path.name for path in folder.iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json", "recipe.yaml", "trainer"} <= files
        engine = Engine.load(folder)
        assert engine.fill(FillRequest(text="x = \n", holes=[(4, 4)], length="fixed:2")).end == "complete"


def test_adapters_become_plain_weights(pack, whole, settings, tmp_path):
    """The merged model is the one that was trained: its loss is what a new run on its weights begins with."""
    for name in ("lora", "qlora"):
        begun, trained = weights(Path(settings["adapt"]["init"])), weights(whole[name])
        grown = {key: value[: len(begun[key])] for key, value in trained.items()}
        changed = {key for key, value in begun.items() if not torch.equal(value, grown[key])}
        assert any("q_proj" in key for key in changed)
        if name == "lora":
            assert not any("norm" in key or "bias" in key for key in changed)
            table = "model.embed_tokens.weight"
            rows = (begun[table] != grown[table]).any(1).nonzero().flatten().tolist()
            assert set(rows) <= {1, 2, 3, 4, *range(340, 384)}  # special tokens alone
        scores = [record["scores"] for record in figures(whole[name]) if "scores" in record][-1]
        from training.models import read_model

        model = read_model(whole[name])
        assert model.config.mask_token_id is not None
        assert scores["bits_per_byte"] == pytest.approx(measured(model, pack), rel=1e-3)


def measured(model, pack) -> float:
    """Bits a byte of a model on the pack's validation rows, as a run measures them."""
    from accelerate import Accelerator

    from training.models import read_files, token_ids
    from training.stages.stage import make_scorer, read_data, text_tokenizer

    recipe = build(StageRecipe, values("adapt", pack, init="x"))
    files = read_files(Path(pack))
    from training.models import adapt_vocabulary

    adapt_vocabulary(model, files)
    tokenizer, ids = text_tokenizer(files), token_ids(model, files)
    _, held, _ = read_data(recipe, model, files, tokenizer, ids)
    return make_scorer(recipe, model, held, tokenizer, ids)(model, Accelerator(cpu=True))["bits_per_byte"]


def test_weights_alone_begin_a_new_run(pack, settings, whole, tmp_path):
    recipe = build(StageRecipe, values("adapt", pack, **settings["adapt"]))
    assert run_stage(recipe, tmp_path / "run", "cpu", weights_from=whole["adapt"]) == 0
    first = figures(tmp_path / "run")[0]
    assert first["step"] == 1
    assert first["loss"] != figures(whole["adapt"])[0]["loss"]
    with pytest.raises(DiffillError, match="holds a run already"):
        run_stage(recipe, tmp_path / "run", "cpu", weights_from=whole["adapt"])


def test_another_recipe_does_not_go_on_with_a_checkpoint(pack, settings, whole, tmp_path):
    shutil.copytree(whole["adapt"], tmp_path / "run")
    changed = settings["adapt"] | {"optimizer__learning_rate": 0.1}
    with pytest.raises(DiffillError, match=r"another recipe: optimizer\.learning_rate differ"):
        run("adapt", pack, tmp_path / "run", **changed)
    free = settings["adapt"] | {"batch__micro": 4, "checkpoints__every": 3, "gradient_checkpointing": True}
    assert run("adapt", pack, tmp_path / "run", **free) == 0  # nothing that changes what is learned


def test_a_corpus_that_changed_does_not_go_on(pack, settings, tmp_path):
    copy = tmp_path / "pack"
    shutil.copytree(pack, copy)
    with pytest.raises(Killed):
        run("adapt", copy, tmp_path / "run", on_step=kill_at(3), **settings["adapt"])
    report = copy / "report.json"
    report.write_text(report.read_text() + " ")
    with pytest.raises(DiffillError, match="trained on other data: made has changed"):
        run("adapt", copy, tmp_path / "run", **settings["adapt"])


def test_micro_batches_and_gradient_checkpointing_change_nothing(pack, settings, whole, tmp_path):
    other = settings["adapt"] | {"batch__micro": 4, "gradient_checkpointing": True}
    assert run("adapt", pack, tmp_path / "run", **other) == 0
    for one, two in zip(figures(tmp_path / "run"), figures(whole["adapt"]), strict=True):
        if "loss" in one:
            assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
