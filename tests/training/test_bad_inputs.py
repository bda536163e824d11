"""What goes wrong in training is told in one sentence, and the last checkpoint stays whole."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from small import SHAPE, make_pack, run, values, write_recipe  # noqa: E402

from model_runtime.models.dream import DreamModel  # noqa: E402
from model_runtime.protocol import DiffillError  # noqa: E402
from training.corpus.tokenizer import train_tokenizer  # noqa: E402
from training.errors import TrainingError, memory_told  # noqa: E402
from training.recipe import build  # noqa: E402
from training.stages.recipe import StageRecipe  # noqa: E402

ROOT = Path(__file__).parent.parent.parent


def checkpoints(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": {}}, r"no key 'optimiser'; did you mean optimizer\?"),
        ({"optimizer__lerning_rate": 1}, r"optimizer: there is no key 'lerning_rate'; did you mean learning_rate\?"),
        ({"loss__weight": "1/T"}, r"weight is one of 1/t, uniform, linear, cart"),
        ({"schedule__epochs": 2}, "either steps or epochs"),
        ({"noise__truncate": 1.5}, "truncate lies between 0 and 1"),
        ({"batch__micro": 0}, "rows and micro are at least 1"),
        ({"data__mixture": [{"from_step": 0, "weights": {"mad": 1}}]}, "names mad, which is not in packs"),
        ({"data__length": "long"}, "data: length takes a whole number"),
        ({"shape": SHAPE}, "begins either with init"),
    ],
)
def test_a_recipe_is_checked_before_anything_else(pack, changes, message):
    with pytest.raises(DiffillError, match=message):
        build(StageRecipe, values("adapt", pack, init="x", **changes))


def test_a_loss_that_is_no_number_stops_the_run(pack, causal, tmp_path):
    def explode(record):
        if record["step"] == 3:
            raise Killed

    class Killed(Exception):
        pass

    with pytest.raises(Killed):
        run("adapt", pack, tmp_path / "run", on_step=explode, init=str(causal))
    before = checkpoints(tmp_path / "run")
    real = DreamModel.forward

    def broken(self, *args, **kwargs):
        output = real(self, *args, **kwargs)
        output.logits = output.logits * float("nan")
        return output

    DreamModel.forward = broken
    try:
        with pytest.raises(TrainingError, match=r"the loss is nan at step 3; the last checkpoint, step-00000002, is"):
            run("adapt", pack, tmp_path / "run", init=str(causal))
    finally:
        DreamModel.forward = real
    assert checkpoints(tmp_path / "run") == before
    assert run("adapt", pack, tmp_path / "run", init=str(causal)) == 0


def test_an_absurd_rate_is_told(pack, causal, tmp_path):
    with pytest.raises(TrainingError, match=r"(loss|norm) is (nan|inf) at step \d+; .*lower optimizer.learning_rate"):
        run("adapt", pack, tmp_path / "run", init=str(causal), optimizer__learning_rate=1e30, schedule__steps=50)


def test_an_empty_corpus(pack, causal, tmp_path):
    with pytest.raises(TrainingError, match="there is no corpus at"):
        run("adapt", tmp_path, tmp_path / "run", init=str(causal))
    small = tmp_path / "small"
    shutil.copytree(pack, small)
    np.save(small / "documents.npy", np.zeros(61, np.int64))
    with pytest.raises(TrainingError, match=r"the corpus .* is too small: 54 tokens do not fill a row of 64"):
        run("adapt", small, tmp_path / "run", init=str(causal), data__length=64)
    report = json.loads((small / "report.json").read_text())
    (small / "report.json").write_text(json.dumps(report | {"validation_from": 0}))
    with pytest.raises(TrainingError, match="is empty"):
        run("adapt", small, tmp_path / "run", init=str(causal))


def test_ids_beyond_the_vocabulary(pack, causal, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(pack, bad)
    (file,) = bad.glob("tokens*.npy")
    tokens = np.load(file)
    tokens[::7] = 60_000
    np.save(file, tokens)
    with pytest.raises(TrainingError, match="the data holds token 60000, the model's vocabulary has 384 rows"):
        run("adapt", bad, tmp_path / "run", init=str(causal))


def test_a_corpus_of_another_tokenizer(causal, tmp_path):
    other = make_pack(tmp_path / "other", tokenizer=train_tokenizer(["abc def ghi jkl"] * 3, 270))
    with pytest.raises(TrainingError, match="made with another tokenizer"):
        run("adapt", other, tmp_path / "run", init=str(causal))


def test_a_mask_that_is_missing(pack, causal, tmp_path):
    for stage in ("midtrain", "sft"):
        with pytest.raises(TrainingError, match="has no mask_token_id: it is a causal model; run the stage adapt"):
            run(stage, pack, tmp_path / "run", init=str(causal))


def test_a_tokenizer_larger_than_the_model(pack, causal, tmp_path):
    odd = tmp_path / "odd"
    shutil.copytree(sorted((causal / "checkpoints").iterdir())[-1], odd)
    train_tokenizer([(ROOT / "training/trainer.py").read_text()] * 3, 500).save(str(odd / "tokenizer.json"))
    with pytest.raises(TrainingError, match="the tokenizer has 500 ids, the model's vocabulary 384"):
        run("adapt", pack, tmp_path / "run", init=str(odd))


def test_no_model_and_a_foreign_one(pack, causal, tmp_path):
    with pytest.raises(TrainingError, match=r"is no model: it has no config\.json"):
        run("adapt", pack, tmp_path / "run", init=str(tmp_path))
    foreign = tmp_path / "foreign"
    shutil.copytree(sorted((causal / "checkpoints").iterdir())[-1], foreign)
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    with pytest.raises(TrainingError, match="names the model type 'llama'; supported are qwen2 and Dream"):
        run("adapt", pack, tmp_path / "run", init=str(foreign))
    (foreign / "config.json").write_text(json.dumps(config | {"rope_parameters": {"rope_type": "yarn"}}))
    with pytest.raises(TrainingError, match="scaled rotary embeddings are not supported"):
        run("adapt", pack, tmp_path / "run", init=str(foreign))


def test_rows_that_do_not_divide(pack, causal, tmp_path):
    with pytest.raises(TrainingError, match=r"batch\.rows 5 is no multiple of batch\.micro 2 times 1 processes"):
        run("adapt", pack, tmp_path / "run", init=str(causal), batch__rows=5)


def test_a_full_disk_leaves_the_last_checkpoint(pack, causal, tmp_path):
    """A limit on the size of files stands for the full disk: the weights fit no more."""
    recipe = values("adapt", pack, init=str(causal), scoring__every=0)
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    command = [sys.executable, "-m", "model_runtime", "train", "adapt", "--device", "cpu"]
    command += ["--recipe", str(path), "--out", str(tmp_path / "run")]
    first = [*command, "--set", "schedule.horizon=6", "--set", "schedule.steps=6"]

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    assert run("adapt", pack, tmp_path / "run", init=str(causal), scoring__every=0, schedule__horizon=6) == 0
    shutil.rmtree(tmp_path / "run/checkpoints/step-00000006")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(first, cwd=ROOT, env=environment, capture_output=True, text=True, preexec_fn=small_files)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert re.fullmatch(
        r"diffill: step-00000006 cannot be saved: the disk is full; the last checkpoint, step-00000004, is intact", last
    ), done.stderr
    assert checkpoints(tmp_path / "run") == ["step-00000004"]
    done = subprocess.run(first, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert checkpoints(tmp_path / "run") == ["step-00000004", "step-00000006"]


def test_memory_that_runs_out_names_the_knobs():
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    ):
        with (
            pytest.raises(TrainingError, match=r"lower batch\.micro \(now 8\), data\.length \(now 4096\), or set grad"),
            memory_told(8, 4096, False),
        ):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), memory_told(8, 4096, False):
        raise RuntimeError("shapes do not fit")


def test_memory_really_runs_out(pack, causal, tmp_path):
    """A step that needs far more than the address space it may have."""
    recipe = values("adapt", pack, init=str(causal), batch={"rows": 8192, "micro": 8192}, data__length=128)
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    command = [sys.executable, "-m", "model_runtime", "train", "adapt", "--device", "cpu"]
    command += ["--recipe", str(path), "--out", str(tmp_path / "run")]

    def little():
        resource.setrlimit(resource.RLIMIT_AS, (5 << 30, 5 << 30))

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, preexec_fn=little)
    assert done.returncode == 2, done.stderr
    assert "memory ran out: lower batch.micro (now 8192), data.length (now 128)" in done.stderr.splitlines()[-1]


def test_conversations_of_unknown_fields(pack, causal, tmp_path):
    run("adapt", pack, tmp_path / "adapt", init=str(causal))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "?"}\n')
    with pytest.raises(TrainingError, match=r"bad\.jsonl, record 1 is no conversation: it has question"):
        run("sft", pack, tmp_path / "run", init=str(tmp_path / "adapt"), data__conversations=[str(bad)])
    bad.write_text("{\n")
    with pytest.raises(TrainingError, match="is not jsonl"):
        run("sft", pack, tmp_path / "run", init=str(tmp_path / "adapt"), data__conversations=[str(bad)])
    with pytest.raises(TrainingError, match=r"none of .* conversations fits in 16 tokens"):
        run("sft", pack, tmp_path / "run", init=str(tmp_path / "adapt"), data__length=16)
