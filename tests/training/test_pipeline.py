"""The whole pipeline, small: base, adapt, midtrain, sft, export, fill; and the pieces that its stages stand on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small import SHAPE, run

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from model_runtime.cli import main as diffill  # noqa: E402
from model_runtime.models.tokenizer import TextTokenizer  # noqa: E402
from model_runtime.protocol import DiffillError  # noqa: E402
from training.conversations import Exchange, lay_out  # noqa: E402
from training.errors import TrainingError  # noqa: E402
from training.models import ADDED, adapt_vocabulary, new_model, read_files, read_model, write_model  # noqa: E402
from training.plan import KNOWN, make_plan, read_cluster  # noqa: E402
from training.recipe import build  # noqa: E402
from training.run import rate_at  # noqa: E402
from training.stages.command import RECIPES, find_recipe, read_stage  # noqa: E402
from training.stages.recipe import Data, Schedule, Shape, StageRecipe  # noqa: E402

STAGES = ("base", "adapt", "midtrain", "sft")


def log(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def stages(tmp_path_factory, pack):
    """The recipes of tiny/, shortened, from the command line; the folder of their runs."""
    folder = tmp_path_factory.mktemp("pipeline")
    before = {"adapt": "base", "midtrain": "adapt", "sft": "midtrain"}
    shape = [f"shape.{key}={value}" for key, value in SHAPE.items()]
    for stage in STAGES:
        changes = ["schedule.steps=30", "data.length=96", "data.workers=1", "scoring.every=10", "scoring.rows=4"]
        changes += ["scoring.holes=4", "batch.micro=4", "checkpoints.every=20", "precision=float32"]
        if stage == "base":
            changes += [f"tokenizer={pack}", *shape]
        else:
            changes += [f"init={folder / before[stage]}"]
        if stage == "adapt":
            changes += ["anneal_steps=10"]
        changes += [f"data.functions={pack}", "data.length=192"] if stage == "sft" else [f"data.packs.library={pack}"]
        command = ["train", stage, "--recipe", f"tiny/{stage}", "--out", str(folder / stage), "--device", "cpu"]
        assert diffill(command + [part for change in changes for part in ("--set", change)]) == 0
    return folder


def test_every_stage_learns(stages):
    for stage in STAGES:
        records = log(stages / stage)
        losses = [record["nats"] for record in records if "nats" in record]
        assert losses[-1] < losses[0], stage
        scores = [record["scores"]["bits_per_byte"] for record in records if "scores" in record]
        assert len(scores) == 3, stage
        assert scores[-1] < scores[0], stage
        assert (stages / stage / "curve.svg").stat().st_size > 1000
    opened = [record["opened"] for record in log(stages / "adapt") if "opened" in record]
    assert opened[0] == 1.0  # logged at step 10, the last of the annealing
    assert {record["opened"] for record in log(stages / "base") if "opened" in record} == {0.0}


def test_the_resolved_recipe_lies_beside_the_checkpoint(stages):
    from training.recipe import read_yaml

    for stage in STAGES:
        (place,) = (stages / stage / "checkpoints").iterdir()
        saved = read_yaml(place / "recipe.yaml")
        made = saved.pop("made")
        assert saved["schedule"]["steps"] == 30
        assert made["steps"] == 30
        assert made["data"]
        assert all(len(digest) == 16 for digest in made["data"].values())
        assert "commit" in made
        assert build(StageRecipe, saved).stage == stage  # it can be run again


def test_score_measures_what_the_run_did(stages, pack, capsys):
    runs = [str(stages / stage) for stage in ("base", "adapt")]
    command = ["train", "score", *runs, "--pack", str(pack), "--length", "96", "--rows", "4", "--holes", "4"]
    assert diffill([*command, "--device", "cpu"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    for stage, one in zip(("base", "adapt"), found, strict=True):
        last = [record["scores"] for record in log(stages / stage) if "scores" in record][-1]
        assert one["bits_per_byte"] == pytest.approx(last["bits_per_byte"], rel=1e-4)


def test_what_was_trained_fills_a_hole(stages, tmp_path, capsys):
    assert diffill(["train", "export", str(stages / "midtrain"), "--out", str(tmp_path / "model"), "--onnx"]) == 0
    source = tmp_path / "code.py"
    source.write_text("def total_1(left, right):\n    if <FILL> is None:\n        return left\n")
    for backend in ("torch", "onnx"):
        capsys.readouterr()
        command = ["fill", str(source), "--model", str(tmp_path / "model"), "--backend", backend, "--json"]
        assert diffill([*command, "--length", "fixed:2"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert "complete" in json.dumps(answer)
    assert diffill(["models", "info", str(tmp_path / "model")]) == 0
    assert diffill(["train", "export", str(stages / "midtrain"), "--out", str(tmp_path / "model")]) == 2  # exists


def test_the_base_model_is_a_qwen2_checkpoint(stages):
    transformers = pytest.importorskip("transformers")
    (place,) = (stages / "base" / "checkpoints").iterdir()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(place).eval()
    assert type(theirs).__name__ == "Qwen2ForCausalLM"
    ours = read_model(place).eval()
    ids = torch.randint(0, 340, (2, 20))
    causal = torch.ones(20, 20, dtype=torch.bool).tril()[None, None]
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, ours(ids, attention_mask=causal).logits, atol=1e-5)
    (place,) = (stages / "sft" / "checkpoints").iterdir()
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    assert tokenizer.mask_token == "<|mask|>"
    made = lay_out(Exchange("Add two numbers.", ""), TextTokenizer(place / "tokenizer.json"), Data(length=8).system)
    asked = [{"role": "user", "content": "Add two numbers."}]
    template = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    assert tokenizer(template, add_special_tokens=False).input_ids == made.prompt


# Models


@pytest.mark.parametrize("tied", [True, False])
def test_adaptation_keeps_what_the_causal_model_knew(pack, tmp_path, tied):
    torch.manual_seed(0)
    files = read_files(pack)
    before = files.tokenizer.get_vocab(with_added_tokens=True)
    model = new_model(Shape(**SHAPE | {"tie_word_embeddings": tied}), files)
    ids = torch.randint(5, 340, (2, 20))
    causal = torch.ones(20, 20, dtype=torch.bool).tril()[None, None]
    with torch.no_grad():
        old = model(ids, attention_mask=causal).logits
    adapt_vocabulary(model, files)
    after = files.tokenizer.get_vocab(with_added_tokens=True)
    assert before.items() <= after.items()
    assert set(ADDED) - {"<|beginoftext|>"} <= after.keys()  # it has a <|bos|> of its own
    assert model.config.mask_token_id == after["<|mask|>"]
    fresh = [after[token] for token in after.keys() - before.keys()]
    kept = [i for i in range(340) if i not in fresh]
    with torch.no_grad():
        new = model(ids, attention_mask=causal).logits
    assert torch.allclose(new[..., kept], old[..., kept], atol=1e-5)
    (tmp_path / "model").mkdir()
    write_model(tmp_path / "model", model, model.state_dict(), files, False, torch.float32)
    with torch.no_grad():
        assert torch.equal(read_model(tmp_path / "model")(ids, attention_mask=causal).logits, new)


def test_new_tokens_of_a_qwen_tokenizer_get_dreams_ids(tmp_path):
    """151,665 ids of which the last are special: what is added is where Dream has it."""
    from tokenizers import AddedToken, Tokenizer, models

    letters = {f"t{n}": n for n in range(151_643)}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="t0"))
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(19))]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    files = read_files(tmp_path)
    model = new_model(Shape(8, 8, 1, 1), files)
    adapt_vocabulary(model, files)
    assert files.id_of("<|endoftext|>") == 151_643
    assert (files.id_of("<|beginoftext|>"), files.id_of("<|mask|>"), files.id_of("<|dlm_pad|>")) == (
        151_665,
        151_666,
        151_667,
    )


# Schedules, early stop, logs


def test_the_rate_warms_up_and_falls_to_its_floor():
    schedule = Schedule(steps=100, warmup=0.1, floor=0.2)
    rates = [rate_at(step, 100, schedule) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == 1
    assert rates[100] == pytest.approx(0.2)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rate_at(55, 100, schedule) == pytest.approx(0.6)
    assert rate_at(5, 100, Schedule(steps=100, warmup=20)) == pytest.approx(6 / 21)


def test_a_run_stops_when_its_figure_gets_no_better(pack, stages, tmp_path):
    rule = {"figure": "bits_per_byte", "goal": "min", "patience": 2, "margin": 100.0}  # never that much better
    changes = {"init": str(stages / "adapt"), "early_stop": rule, "scoring__every": 2, "schedule__steps": 40}
    assert run("midtrain", pack, tmp_path / "run", **changes) == 0
    steps = [record["step"] for record in log(tmp_path / "run")]
    assert max(steps) == 6  # the first is the best, two more were no better
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == ["step-00000002", "step-00000004", "step-00000006"]  # the best beside the last two
    assert json.loads((tmp_path / "run/best.json").read_text())["checkpoint"] == "step-00000002"
    assert run("midtrain", pack, tmp_path / "run", **changes) == 0  # it stays stopped
    assert max(record["step"] for record in log(tmp_path / "run")) == 6
    wrong = changes | {"early_stop": rule | {"figure": "humaneval"}}
    with pytest.raises(TrainingError, match=r"figure is one of bits_per_byte, bits_per_byte@0\.5, infill_exact"):
        run("midtrain", pack, tmp_path / "other", **wrong)


def test_tensorboard_has_the_figures(pack, stages, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run("midtrain", pack, tmp_path / "run", init=str(stages / "adapt"), logging__tensorboard=True)
    board = events.EventAccumulator(str(tmp_path / "run/tensorboard"))
    board.Reload()
    losses = [record["loss"] for record in log(tmp_path / "run") if "loss" in record]
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(losses, rel=1e-5)
    assert [event.step for event in board.Scalars("bits_per_byte")] == [3, 6]


def test_holes_that_grow_make_a_model_that_can_expand(pack, stages, tmp_path):
    from model_runtime.models.families import read_facts

    run("midtrain", pack, tmp_path / "run", init=str(stages / "adapt"), resizing={"share": 1.0, "max_delete": 4})
    facts = read_facts(sorted((tmp_path / "run/checkpoints").iterdir())[-1])
    assert facts.expand_id is not None
    assert facts.delete_id is not None
    (plain,) = (stages / "adapt" / "checkpoints").iterdir()
    assert read_facts(plain).expand_id is None


def test_compiled_blocks_learn_the_same(pack, stages, tmp_path):
    changes = {"init": str(stages / "adapt"), "schedule__steps": 2, "scoring__every": 0, "scoring__holes": 0}
    run("midtrain", pack, tmp_path / "plain", **changes)
    run("midtrain", pack, tmp_path / "compiled", compile=True, **changes)
    one, two = ([r["loss"] for r in log(tmp_path / name) if "loss" in r] for name in ("plain", "compiled"))
    assert one == pytest.approx(two, rel=1e-4)


# Recipes and plans

OURS = [path for path in sorted(RECIPES.rglob("*.yaml")) if path.stem in (*STAGES, "qlora-7b")]


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(RECIPES).with_suffix("")))
def test_every_recipe_can_be_read(path):
    recipe = read_stage(str(path.relative_to(RECIPES).with_suffix("")), None, [])
    assert recipe.stage == path.stem or path.stem == "qlora-7b"


def test_a_recipe_that_is_not_there_names_the_nearest():
    with pytest.raises(DiffillError, match=r"no recipe 'tiny/adept'; did you mean tiny/adapt\?"):
        find_recipe("tiny/adept")
    with pytest.raises(DiffillError, match="is a recipe of the stage adapt, not sft"):
        read_stage("tiny/adapt", "sft", [])


@pytest.mark.parametrize("kind", ["paper", "repo"])
def test_the_papers_figures_of_stage_one(kind):
    recipe = read_stage(f"diffucoder-7b/{kind}/adapt", "adapt", [])
    plan = make_plan(recipe, *read_cluster("10x8xH100"), 0.26)
    assert plan.parameters == 7_615_616_512  # what the checkpoint's card says
    assert plan.tokens_per_step == 655_360
    assert plan.tokens == 65_536_000_000
    assert 38 < plan.hours < 43  # about 40 in the paper
    assert plan.memory < plan.memory_has
    assert (recipe.optimizer.learning_rate, recipe.schedule.warmup, recipe.schedule.floor) == (2e-5, 20_000, 0.1)
    assert (recipe.anneal_steps, recipe.data.length, recipe.batch.micro) == (10_000, 4096, 2)
    assert (recipe.noise.truncate, recipe.noise.keep_prefix) == (0.01, 0.01)
    assert recipe.loss.normalise == {"paper": "token", "repo": "masked"}[kind]


def test_sizes_that_are_known_count_as_models_do():
    from training.models import rounded
    from training.plan import Size

    size = Size(rounded(340), 64, 64, 2, 4, 2, True)
    shape = Shape(64, 64, 2, 4, 2)
    from tokenizers import AddedToken, Tokenizer, models

    tokenizer = Tokenizer(models.WordLevel({f"t{n}": n for n in range(339)}, unk_token="t0"))
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    from training.models import Files

    model = new_model(shape, Files(tokenizer, {}))
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert KNOWN["Qwen2.5-Coder-0.5B"].parameters == 494_032_768


@pytest.mark.parametrize(
    ("text", "message"),
    [("ten", "NODESxGPUSxKIND"), ("8xH1000", r"no figures of the GPU 'H1000'; did you mean H100\?")],
)
def test_a_cluster_that_makes_no_sense(text, message):
    with pytest.raises(DiffillError, match=message):
        read_cluster(text)


def test_a_plan_needs_a_size_and_rows():
    with pytest.raises(DiffillError, match="--rows"):
        make_plan(read_stage("diffucoder-7b/paper/sft", None, ["init=Qwen2.5-Coder-7B"]), 64, "H100", 0.26)
    with pytest.raises(DiffillError, match="the size of nowhere is not known"):
        make_plan(read_stage("tiny/adapt", None, ["init=nowhere"]), 1, "H100", 0.26)


def test_bench_measures_both_loops(pack, capsys):
    shape = [f"shape.{key}={value}" for key, value in SHAPE.items()]
    changes = ["init=null", f"tokenizer={pack}", "data.length=64", "data.workers=0", *shape]
    command = ["train", "bench", "--recipe", "tiny/adapt", "--device", "cpu", "--steps", "2", "--repeats", "1"]
    assert diffill(command + [part for change in changes for part in ("--set", change)]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["tokens_per_step"] == 512
    assert found["tokens_per_s"] > 0
    assert found["tokens_per_s_plain"] > 0
    assert 0 <= found["waiting_for_data"] <= 1
