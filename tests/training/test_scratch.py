"""A run trains, goes on after a stop, and starts from the weights of another; its card adds up what it cost."""

import json
from pathlib import Path

import pytest
import torch

from model_runtime.models.dream import DreamConfig, DreamModel
from training.corpus.build import build
from training.corpus.sources import SourceFile
from training.corpus.tokenizer import load_tokenizer
from training.objectives.holes import InfillShape
from training.objectives.muon import orthogonalise
from training.release import facts_of_run
from training.stages import scratch
from training.stages.carrying import Earlier, earlier_of
from training.stages.infill import Recipe, load_recipe
from training.stages.scratch import train
from training.stages.shapes import Trial, choose, speed

RECIPE = Recipe(
    model={
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "attention": "context_blind",
        "shift": True,
    },
    rows={"row_length": 96, "stretch": 48, "suffix": 16, "max_hole": 24},
    batch_size=2,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of a few made-up modules."""
    root = tmp_path_factory.mktemp("corpus")
    files = []
    for n in range(12):
        lines = [f"def take_{n}_{i}(value_{i}, other):\n    return value_{i} + other * {n + i}\n" for i in range(20)]
        (root / f"m{n}.py").write_text("\n\n".join(lines))
        files.append(SourceFile("p", f"p/m{n}.py", "code", "MIT", root / f"m{n}.py"))
    # near duplicates by design: what is dropped is not the subject here
    build(root / "pack", files, {}, vocabulary=330, workers=1)
    return root / "pack"


def run(corpus: Path, out: Path, minutes: float, source: Path | None = None) -> Path:
    return train(RECIPE, corpus, out, minutes, "cpu", workers=0, source=source)


def state(run: Path) -> dict:
    return torch.load(run / "checkpoint/trainer.pt", weights_only=True)


def test_a_run_starts_from_the_weights_of_another(corpus: Path, tmp_path: Path) -> None:
    first = run(corpus, tmp_path / "first", 0.005)
    cost = state(tmp_path / "first")
    assert cost["step"] > 0
    assert cost["earlier"] == vars(Earlier())
    second = run(corpus, tmp_path / "second", 0.0, source=first)  # no time: the weights as they came
    old, new = (DreamModel.from_pretrained(folder, dtype=torch.float32).state_dict() for folder in (first, second))
    assert all(torch.equal(old[name], new[name]) for name in old)
    start, end = (json.loads(line) for line in (tmp_path / "second/log.jsonl").read_text().splitlines())
    assert start["held_out"] == end["held_out"]
    expected = {"steps": cost["step"], "seconds": cost["spent"], "tokens": cost["tokens"], "runs": 1}
    assert state(tmp_path / "second")["earlier"] == expected

    run(corpus, tmp_path / "second", 0.005)  # goes on: the option is not needed again
    now = state(tmp_path / "second")
    assert now["step"] > 0
    assert now["earlier"] == expected
    card = facts_of_run(tmp_path / "second", corpus, now, DreamModel.from_pretrained(second))
    assert card["steps"] == cost["step"] + now["step"]
    assert card["tokens_seen"] == cost["tokens"] + now["tokens"]
    assert card["minutes"] == pytest.approx((cost["spent"] + now["spent"]) / 60, abs=0.06)
    assert card["runs"] == 2

    # a released model tells by its card
    (tmp_path / "second/checkpoint/trainer.pt").unlink()
    (tmp_path / "second/checkpoint/card.json").write_text(json.dumps(card))
    told = earlier_of(tmp_path / "second/checkpoint")
    assert (told.steps, told.tokens, told.runs) == (card["steps"], card["tokens_seen"], 2)


def test_weights_that_do_not_fit_are_refused(corpus: Path, tmp_path: Path) -> None:
    first = run(corpus, tmp_path / "first", 0.0)
    wider = Recipe(**{**vars(RECIPE), "model": {**RECIPE.model, "hidden_size": 32}})
    with pytest.raises(ValueError, match="another shape"):
        train(wider, corpus, tmp_path / "wider", 0.0, "cpu", 0, first)
    tokenizer = load_tokenizer(first / "tokenizer.json")
    tokenizer.add_tokens(["more"])
    tokenizer.save(str(first / "tokenizer.json"))
    with pytest.raises(ValueError, match="another vocabulary"):
        run(corpus, tmp_path / "other", 0.0, source=first)


def test_full_attention_goes_on_from_a_causal_start(corpus: Path, tmp_path: Path) -> None:
    causal = Recipe(**{**vars(RECIPE), "rows": {"layout": "causal", "row_length": 48, "stretch": 48}})
    model = {**RECIPE.model, "attention": "full"}
    full = Recipe(**{**vars(RECIPE), "model": model, "rows": {"layout": "canvas", "row_length": 64, "stretch": 48}})
    start = train(causal, corpus, tmp_path / "causal", 0.003, "cpu", 0)
    train(full, corpus, tmp_path / "full", 0.003, "cpu", 0, start)
    for name, absent in (("causal", "masked_nats"), ("full", "next_nats")):
        held_out = json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1])["held_out"]
        assert held_out.pop(absent) == 0
        assert all(0 < nats < 9 for nats in held_out.values())
    with pytest.raises(ValueError, match="hanging, canvas, causal"):
        train(Recipe(**{**vars(RECIPE), "rows": {"layout": "ring"}}), corpus, tmp_path / "ring", 0.0, "cpu", 0)


def test_shapes_are_tried_and_the_choice_is_kept(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shapes = [{"hidden_size": 8}, {"hidden_size": 24, "num_hidden_layers": 2}]
    recipe = Recipe(**{**vars(RECIPE), "shapes": shapes})
    train(recipe, corpus, tmp_path / "run", 0.01, "cpu", 0)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tried")]
    assert len(told) == 2
    chosen = json.loads(state(tmp_path / "run")["recipe"])["model"]
    assert chosen in [{**RECIPE.model, **shape} for shape in shapes]
    before = state(tmp_path / "run")["step"]
    train(recipe, corpus, tmp_path / "run", 0.02, "cpu", 0)  # goes on with the same shape
    assert "tried" not in capsys.readouterr().out
    assert state(tmp_path / "run")["step"] > before
    assert json.loads(state(tmp_path / "run")["recipe"])["model"] == chosen


def test_more_time_and_speed_call_for_more_parameters() -> None:
    small, large = Trial({}, 5_000_000, 10_000.0), Trial({}, 20_000_000, 3_000.0)
    assert choose([small, large], 60.0) is small
    assert choose([small, large], 1e8) is large
    assert choose([small, Trial({}, 5_000_000, 20_000.0)], 60.0).tokens_per_second == 20_000.0


def test_speed_counts_what_comes_after_the_warm_up() -> None:
    now = iter(range(1000))
    # each step takes two ticks of a clock that goes on with every look
    assert speed(lambda: 10, 30.0, lambda: float(next(now))) == pytest.approx(10.0, rel=0.2)


def test_the_recipes_are_whole() -> None:
    for name, least, most in (("cpu", 3e6, 7e6), ("more", 3e6, 7e6), ("gpu", 15e6, 20e6)):
        recipe = load_recipe(Path(scratch.__file__).parents[1] / f"recipes/embedded/{name}.yaml")
        for shape in [{}, *recipe.shapes]:
            config = DreamConfig(vocab_size=8192, **{**recipe.model, **shape})
            with torch.device("meta"):
                count = sum(p.numel() for p in DreamModel(config).parameters())
            assert least < count < most, shape
            assert config.hidden_size % config.num_attention_heads == 0
        InfillShape(**recipe.rows)


@pytest.mark.parametrize("half", [False, True])
def test_an_update_keeps_its_directions_and_loses_its_sizes(half: bool) -> None:
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(3, 24, 24)).Q[:, :, :16] for _ in range(2))
    sizes = torch.linspace(0.1, 1, 16)
    made = orthogonalise(left * sizes @ right.mT, half=half)
    within = left.mT @ made @ right
    assert (within.diagonal(dim1=1, dim2=2) - 1).abs().max() < 0.4  # the quintic settles around one, not on it
    assert (within - torch.diag_embed(within.diagonal(dim1=1, dim2=2))).abs().max() < 0.05
