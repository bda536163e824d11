"""The stage grpo as it is run: rewards rise, a killed run goes on exactly, and bad input is told in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from grpo_small import UNSAFE, make_model, make_task_file, recipe, values  # noqa: E402
from killing import Killed, kill_at, same_weights  # noqa: E402
from small import write_recipe  # noqa: E402

from model_runtime.cli import main as diffill  # noqa: E402
from model_runtime.protocol import DiffillError  # noqa: E402
from training.corpus.small_tasks import make_tasks, muddled  # noqa: E402
from training.errors import TrainingError  # noqa: E402
from training.grpo import measure as measuring  # noqa: E402
from training.grpo.command import read_grpo  # noqa: E402
from training.rewards import sandbox  # noqa: E402
from training.stages.command import RECIPES  # noqa: E402
from training.stages.grpo import run_grpo  # noqa: E402

CLOCK = ("seconds", "seconds_per_step", "tokens_per_s")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return make_task_file(tmp_path_factory.mktemp("tasks") / "tasks.jsonl")


def log(out: Path) -> list[dict]:
    """The log without what depends on the clock."""
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in CLOCK} for record in records]


@pytest.fixture(scope="module")
def whole(model, tasks, tmp_path_factory):
    """Runs that were never interrupted, by name."""
    found = {}
    for name, changes in CHANGES.items():
        found[name] = tmp_path_factory.mktemp("whole") / name
        assert run_grpo(recipe(model, tasks, **changes), found[name], "cpu", UNSAFE) == 0
    return found


CHANGES: dict[str, dict] = {
    "coupled": {},
    "lora": {"lora": {"rank": 2, "dropout": 0.2}},
}


@pytest.mark.parametrize(("name", "step"), [("coupled", 1), ("coupled", 4), ("coupled", 7), ("lora", 5)])
def test_killed_and_resumed_is_never_killed(name, step, model, tasks, whole, tmp_path):
    """Also within a generation, whose rollouts are made anew; the reference, which moved at step 3, is as it was."""
    changed = recipe(model, tasks, **CHANGES[name])
    with pytest.raises(Killed):
        run_grpo(changed, tmp_path / "run", "cpu", UNSAFE, on_step=kill_at(step))
    torch.manual_seed(999)
    assert run_grpo(changed, tmp_path / "run", "cpu", UNSAFE) == 0
    assert log(tmp_path / "run") == log(whole[name])
    assert same_weights(tmp_path / "run", whole[name])


def test_what_is_logged_and_drawn(whole):
    steps = [record for record in log(whole["coupled"]) if "reward" in record]
    assert [record["step"] for record in steps] == list(range(1, 9))
    wanted = {"reward", "pass", "form", "entropy", "arness_local", "arness_global", "length", "kl", "clip", "unequal"}
    assert wanted <= steps[0].keys()
    assert steps[0]["kl"] == 0  # the reference is the start
    assert steps[5]["kl"] > 0
    assert steps[0]["reward"] == pytest.approx(0.5 * steps[0]["form"] + 2 * steps[0]["tests"])
    scored = [record for record in log(whole["coupled"]) if "scores" in record]
    assert [record["step"] for record in scored] == [0, 8]
    assert 0 <= scored[0]["scores"]["pass_low"] <= scored[0]["scores"]["pass"] <= scored[0]["scores"]["pass_high"]
    kept = measuring.read_samples(whole["coupled"] / "held-000008.jsonl")
    assert len(kept) == 2
    assert (whole["coupled"] / "curve.svg").read_text().startswith("<?xml")
    made = whole["coupled"] / "used.json"
    assert {"train", "held_out"} == json.loads(made.read_text()).keys()


def test_what_was_trained_is_a_model(whole):
    from model_runtime.engine.engine import Engine
    from model_runtime.protocol import FillRequest

    for name in ("coupled", "lora"):
        engine = Engine.load(sorted((whole[name] / "checkpoints").iterdir())[-1])
        assert engine.fill(FillRequest(text="x = \n", holes=[(4, 4)], length="fixed:2")).end == "complete"


def test_rewards_rise(model, tasks, tmp_path):
    """Names parse and most tokens do not: a model learns which tokens are worth something. Tests weigh nothing here."""
    changes = {"schedule__steps": 24, "optimizer__learning_rate": 0.01, "batch__rows": 32, "batch__micro": 32}
    changes |= {"rollouts__group": 8, "rollouts__micro": 32, "rewards__tests": 0.0, "measure__tasks": 0}
    assert run_grpo(recipe(model, tasks, **changes, checkpoints__every=24), tmp_path / "run", "cpu", UNSAFE) == 0
    form = [record["form"] for record in log(tmp_path / "run")]
    assert sum(form[-4:]) / 4 > sum(form[:4]) / 4 + 0.2


@pytest.mark.parametrize("estimator", ["decoupled", "full_mask", "nemo"])
def test_other_estimators_train(model, tasks, tmp_path, estimator):
    changes = {"objective__estimator": estimator, "objective__pairs": 2, "schedule__steps": 2, "measure__tasks": 0}
    assert run_grpo(recipe(model, tasks, **changes), tmp_path / "run", "cpu", UNSAFE) == 0
    assert all(record["loss"] == record["loss"] for record in log(tmp_path / "run"))


def test_one_iteration_begins_at_ratio_one(model, tasks, tmp_path):
    """What the repository cannot do: one inner iteration with a penalty."""
    changes = {"objective__iterations": 1, "schedule__steps": 2, "measure__tasks": 0}
    assert run_grpo(recipe(model, tasks, **changes), tmp_path / "run", "cpu", UNSAFE) == 0
    assert [record["ratio"] for record in log(tmp_path / "run")] == pytest.approx([1, 1])


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Problems in words, as MBPP has them."""
    path = tmp_path_factory.mktemp("words") / "mbpp.jsonl"
    rows = [
        {"task_id": n, "text": f"Add {n} to a number.", "test_list": [f"assert add(1) == {n + 1}"]} for n in range(6)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "changes",
    [{}, {"rollouts__decoding": "threshold", "rollouts__threshold": 0.001}, {"objective__compat": "apple"}],
    ids=["steps", "threshold", "apple"],
)
def test_answers_to_problems_in_words(model, words, tmp_path, changes):
    """With prompts of different lengths; and as the repository computes it, its defects included."""
    changes = {"rollouts__tokens": 8, "rollouts__steps": 8, "schedule__steps": 2, "tasks__held_out": 0.3} | changes
    changes |= {"rewards__patience": 1000}
    assert run_grpo(recipe(model, words, **changes), tmp_path / "run", "cpu", UNSAFE) == 0
    steps = [record for record in log(tmp_path / "run") if "reward" in record]
    assert all(0 <= record["length"] <= 8 for record in steps)
    if "rollouts__decoding" in changes:
        assert steps[0]["passes"] < 8


def one_by_one(net, row):
    """Greedy decoding by the surest token, one a forward of the whole row."""
    from model_runtime.engine.filters import ban_ids

    ids = torch.tensor([row])
    while (ids == net.config.mask_token_id).any():
        holes = (ids[0] == net.config.mask_token_id).nonzero().flatten()
        with torch.no_grad():
            p_NV = ban_ids(net(ids).logits[0, holes - 1].clone(), net.config).softmax(-1)
        best = int(p_NV.max(-1).values.argmax())
        ids[0, holes[best]] = int(p_NV[best].argmax())
    return ids[0]


def test_threshold_decoding_that_keeps_nothing_is_the_uncached_one(model):
    """Computed anew at every step, one token a step; and fewer steps where less must be sure."""
    from training.grpo.rollouts import stack_left
    from training.grpo.threshold import threshold_generate
    from training.models import read_model

    net = read_model(model).eval()
    mask = net.config.mask_token_id
    rows = [[7, 20, 21, *[mask] * 5, 30], [9, 22, *[mask] * 3, 31, 32], [11, *range(40, 50), mask]]
    ids_BL, present_BL = stack_left(rows, 0)
    found_BL, history, passes = threshold_generate(net, ids_BL, present_BL, threshold=1.0, refresh=1)
    for number, row in enumerate(rows):
        assert torch.equal(found_BL[number, -len(row) :], one_by_one(net, row))
    assert passes == len(history) == 5
    _, _, faster = threshold_generate(net, ids_BL, present_BL, threshold=0.001, refresh=8)
    assert faster < passes


def test_your_own_repository_is_mined(model, tmp_path):
    """A folder with doctests and pytest functions: the infill of a body is graded by them."""
    code = tmp_path / "code"
    (code / "tests").mkdir(parents=True)
    (code / "shop.py").write_text(
        'def total(prices):\n    """Add prices.\n\n    >>> total([1])\n    1\n    >>> total([1, 2])\n    3\n    """\n'
        "    found = 0\n    for price in prices:\n        found += price\n    return found\n\n\n"
        "def double(value):\n    result = value * 2\n    return result\n"
    )
    (code / "tests/test_shop.py").write_text(
        "from shop import double\n\n\ndef test_double():\n    assert double(4) == 8\n    assert double(0) == 0\n"
    )
    path = write_recipe(tmp_path / "recipe.yaml", values(model, None, tasks__held_out=0.0))
    command = ["train", "grpo", "--recipe", str(path), "--tasks", str(code), "--out", str(tmp_path / "run")]
    command += ["--device", "cpu", "--set", "schedule.steps=2", *(["--unsafe-exec"] if UNSAFE else [])]
    assert diffill(command) == 0
    used = json.loads((tmp_path / "run/used.json").read_text())
    assert sorted(name.split("-")[0] for name in used["train"]) == ["shop.double", "shop.total"]


def test_holes_of_lines_are_cut_out_of_the_body():
    """The file is the same around another hole, and every line comes up."""
    from training.corpus.tasks import Task
    from training.grpo.problems import narrowed

    body = "    a = 1\n\n    if a:\n        a = 2\n    return a"
    names = ("package", "licence", "module", "path", "function", "split", "shown")
    holes = set()
    for number in range(60):
        task = Task(
            id=str(number), prefix="def f():\n", body=body, suffix="\n\nf()\n", tests=(), **dict.fromkeys(names, "")
        )
        found = narrowed(task, 0)
        assert found.prefix + found.body + found.suffix == task.prefix + task.body + task.suffix
        assert found.body.strip()
        assert found.prefix.endswith("\n")
        assert found.suffix.startswith("\n")
        holes.add(found.body)
    assert len(holes) == 10  # runs of four lines; the blank one is never at an end
    assert body in holes


# Small tasks


def test_small_tasks_pass_with_their_own_body_and_hold_combinations_out():
    made = make_tasks()
    assert len({task.id for task in made}) == len({task.prefix for task in made}) == len(made) == 48
    for task in made:
        space: dict = {}
        exec(task.prefix + task.body + task.suffix, space)
        assert all(eval(test.source, space) == test.expected for test in task.tests)
        assert len({str(test.expected) for test in task.tests}) > 1
    held = [task for task in made if task.split == "held_out"]
    assert len(held) == 16
    known = [task for task in made if task.split == "train"]
    for task in held:
        wording = task.prefix.split('"""')[1]
        assert any(other.function == task.function for other in known)
        assert any(wording in other.prefix and other.body == task.body for other in known)


def test_muddled_functions_seldom_do_what_they_say():
    """Two in five, and one in eight of the others by chance: nearly half."""
    said = {task.prefix: task.body for task in make_tasks()}
    heads = [text[: text.index("\n    return") + len("\n    return")] for text in muddled(400)]
    right = sum(said[head] == text[len(head) :].rstrip() for head, text in zip(heads, muddled(400), strict=True))
    assert 140 < right < 240


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollouts__group": 1}, "group is at least 2, not 1"),
        ({"batch__rows": 10}, "no whole number of groups of 4"),
        ({"objective__estimater": "coupled"}, r"no key 'estimater'; did you mean estimator\?"),
        ({"objective__levels": [0.0, 0.8]}, "levels rise within 0 and 1"),
        ({"objective__compat": "apple", "objective__iterations": 1}, "does not work in the DiffuCoder repository"),
        ({"objective__compat": "apple", "objective__estimator": "nemo"}, "of the coupled estimator with one pair"),
        ({"parallel": "fsdp2"}, "same number of steps on each process"),
        ({"reference__mix": 0}, "mix above 0"),
    ],
)
def test_a_recipe_is_checked_before_anything_else(model, tasks, changes, message):
    with pytest.raises(DiffillError, match=message):
        recipe(model, tasks, **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there are no tasks at"),
        ("", "holds no tasks"),
        ("{not json\n", "line 1 is no task"),
        ('{"question": "add"}\n', "it has question; mined tasks, MBPP and AceCode are known"),
        ('{"prefix": "", "suffix": "", "tests": [{"kind": "value"}]}\n', "line 1 is no task"),
        ('{"task_id": 1, "text": "Add.", "test_list": []}\n', "the problem 1 has no tests"),
    ],
)
def test_tasks_that_are_none(model, tmp_path, text, message):
    path = tmp_path / "tasks.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DiffillError, match=message) as failed:
        run_grpo(recipe(model, path), tmp_path / "run", "cpu", UNSAFE)
    assert "\n" not in str(failed.value)


def test_no_tasks_at_all(model, tmp_path):
    with pytest.raises(TrainingError, match="give --tasks PATH"):
        run_grpo(recipe(model, None), tmp_path / "run", "cpu", UNSAFE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DiffillError, match="no tasks were found in"):
        run_grpo(recipe(model, tmp_path / "empty"), tmp_path / "run", "cpu", UNSAFE)


def test_without_a_sandbox_nothing_runs(model, tasks, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sandbox.shutil, "which", lambda _: None)
    sandbox.why_not.cache_clear()
    path = write_recipe(tmp_path / "recipe.yaml", values(model, tasks))
    try:
        assert diffill(["train", "grpo", "--recipe", str(path), "--out", str(tmp_path / "run")]) == 2
    finally:
        sandbox.why_not.cache_clear()
    told = capsys.readouterr().err
    assert "bubblewrap is missing" in told
    assert "--unsafe-exec" in told
    assert not (tmp_path / "run").exists()


def test_equal_rewards_stop_a_run_that_learns_nothing(model, tasks, tmp_path):
    """Every completion is the same at temperature 0."""
    changes = {"rollouts__temperature": 0.0, "rewards__patience": 2, "measure__tasks": 0}
    with pytest.raises(TrainingError, match="in 2 generations all completions of a problem got the same reward"):
        run_grpo(recipe(model, tasks, **changes), tmp_path / "run", "cpu", UNSAFE)
    assert all(record["loss"] == pytest.approx(0, abs=1e-3) for record in log(tmp_path / "run"))


def test_a_model_without_a_mask(model, tasks, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"mask_token_id": None}))
    with pytest.raises(TrainingError, match="has no mask_token_id"):
        run_grpo(recipe(broken, tasks), tmp_path / "run", "cpu", UNSAFE)
    (broken / "config.json").write_text(json.dumps(config | {"mask_token_id": config["vocab_size"] - 1}))
    with pytest.raises(TrainingError, match=r"has no token .*they do not belong together"):
        run_grpo(recipe(broken, tasks), tmp_path / "run", "cpu", UNSAFE)


def test_tasks_whose_own_bodies_fail(model, tmp_path):
    path = make_task_file(tmp_path / "tasks.jsonl")
    path.write_text(path.read_text().replace('"prefix": "', '"prefix": "import not_installed_here\\n'))
    with pytest.raises(TrainingError, match=r"own bodies fail their tests here.*tasks\.packages"):
        run_grpo(recipe(model, path), tmp_path / "run", "cpu", UNSAFE)


def test_another_recipe_or_other_tasks_are_refused(model, tasks, whole, tmp_path):
    shutil.copytree(whole["coupled"], tmp_path / "run")
    with pytest.raises(TrainingError, match=r"by another recipe: objective\.beta"):
        run_grpo(recipe(model, tasks, objective__beta=0.1), tmp_path / "run", "cpu", UNSAFE)


# Recipes


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("grpo.yaml")), ids=lambda path: path.parent.name)
def test_every_recipe_can_be_read(path):
    assert read_grpo(str(path.relative_to(RECIPES).with_suffix("")), []).stage == "grpo"
    with pytest.raises(DiffillError, match="is a recipe of the stage sft, not grpo"):
        read_grpo("tiny/sft", [])


def test_the_pipelines_recipe_runs(model, tasks, tmp_path):
    """As `make pipeline` runs it, shorter."""
    command = ["train", "grpo", "--recipe", "tiny/grpo", "--init", str(model), "--tasks", str(tasks), "--device", "cpu"]
    command += ["--out", str(tmp_path / "run"), *(["--unsafe-exec"] if UNSAFE else [])]
    for change in ("schedule.steps=2", "batch.rows=8", "batch.micro=8", "measure.tasks=2", "precision=float32"):
        command += ["--set", change]
    assert diffill(command) == 0
    assert [record["step"] for record in log(tmp_path / "run") if "reward" in record] == [1, 2]
    assert diffill(command) == 0  # it is done, and says so
    assert len(log(tmp_path / "run")) == 4


def test_the_papers_and_the_repositorys_figures():
    paper, repo = (read_grpo(f"diffucoder-7b/{kind}/grpo", []) for kind in ("paper", "repo"))
    assert (paper.rollouts.group, paper.objective.iterations, paper.objective.beta) == (10, 2, 0.01)
    assert (paper.rollouts.temperature, repo.rollouts.temperature) == (1.2, 1.0)
    assert (paper.tasks.selection, repo.tasks.selection) == ("paper", "repo")
    assert (paper.objective.advantage, repo.objective.advantage) == ("mean", "leave_one_out")
    assert (paper.objective.compat, repo.objective.compat) == ("none", "apple")
    assert (paper.reference.sync, paper.optimizer.learning_rate, paper.prompts) == (64, 1e-6, 8)
    assert paper.rollouts.steps == paper.rollouts.tokens == 256
