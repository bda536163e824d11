"""The report: every measurement on a model with random weights and on the embedded one, its pictures and its page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("matplotlib")

from random_model import make_model

from model_runtime.cli import main
from training.evaluation import figures, page, report
from training.evaluation.benchmarks import find_benchmark, read_problems
from training.evaluation.decoders import Filling, Sampling, Whole
from training.evaluation.traces import first_steps, traces
from training.rewards import sandbox

needs_sandbox = pytest.mark.skipif(sandbox.why_not() is not None, reason=str(sandbox.why_not()))
OWN = Path(__file__).parents[3] / "examples/evaluation"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "random")


def given(*arguments: object) -> int:
    return main(["eval", "report", *map(str, arguments)])


@needs_sandbox
def test_a_report_of_two_models(model, tmp_path, capsys):
    out = tmp_path / "report"
    asked = ["humaneval", "--data", OWN / "humaneval.jsonl", "--out", out, "--limit", "2", "--samples", "2"]
    asked += ["--temperature", "0.2,1.2", "--max-new-tokens", "8", "--workers", "1", "--device", "cpu"]
    models = ["--model", f"a={model}", "--model", f"b <i>={model}"]
    assert given(*asked, *models) == 0
    listed = [Path(line) for line in capsys.readouterr().out.split()]
    assert [path.name for path in listed][:2] == ["report.html", "report.json"]
    for name in report.PICTURES:
        assert (out / f"{name}.png").read_bytes().startswith(PNG)
    text = (out / "report.html").read_text()
    assert text.count('src="data:image/png;base64,') == len(report.PICTURES)
    assert not re.search(r'(src|href)="(?!data:)', text)  # nothing is fetched from elsewhere
    assert "b <i>" not in text
    assert "b &lt;i&gt;" in text
    found = json.loads((out / "report.json").read_text())
    assert set(found) == {"a", "b <i>"}
    assert set(found["a"]["sweep"]) == {"0.2", "1.2"}
    assert set(found["a"]["steps"]) == {"8", "4", "2", "1"}
    for name in ("pass@2", "parses", "arness", "order_distance"):  # one model twice
        assert found["a"]["sweep"]["1.2"][name] == found["b <i>"]["sweep"]["1.2"][name]
    before = (out / "a/sweep/samples.jsonl").read_bytes()
    assert given(*asked, *models[:2]) == 0  # all is there already
    assert (out / "a/sweep/samples.jsonl").read_bytes() == before


@needs_sandbox
def test_a_report_of_the_embedded_model_on_holes(tmp_path):
    out = tmp_path / "report"
    asked = ["infilling-single-line", "--data", OWN / "infilling-single-line.jsonl", "--out", out, "--limit", "3"]
    assert given(*asked, "--samples", "2", "--temperature", "0.5", "--workers", "1") == 0
    found = json.loads((out / "report.json").read_text())["embedded"]
    assert found["length"] == "fixed:oracle"
    assert found["sweep"]["0.5"]["tokens_a_step"] == 1
    assert set(found["first_step"]) == {"first_4", "others"}


def test_the_first_step_by_either_decoder_is_what_the_model_says(model):
    """With masks alone behind the prefix both look at the same canvas."""
    (problem,) = read_problems(find_benchmark("infilling-single-line"), OWN / "infilling-single-line.jsonl")[:1]
    sampling = Sampling(max_new_tokens=8, steps=8, length="fixed:5")
    rows = [first_steps(decoder, [problem])[0] for decoder in (Whole(model, sampling, "cpu"), Filling(model, sampling))]
    for row in rows:
        assert len(row["entropy"]) == len(row["confidence"]) >= 5
        assert all(0 < value <= 1 for value in row["confidence"])
        assert all(0 <= value <= np.log(400) for value in row["entropy"])


def test_traces_say_when_each_position_was_revealed(model):
    (problem,) = read_problems(find_benchmark("humaneval"), OWN / "humaneval.jsonl")[:1]
    (trace,) = traces(Whole(model, Sampling(max_new_tokens=6, steps=6), "cpu"), [problem], 0.0)
    assert len(trace.steps) == len(trace.pieces) == 6
    assert max(trace.steps) == 6
    assert sorted(trace.steps)[0] >= 1


def test_a_decoding_is_shown_with_its_text_and_nothing_of_it_is_markup():
    trace = {"pieces": ["a<b", "\n", "end"], "steps": [2, 1, 3], "shown": 2, "behind": "\n"}
    shown = page.decoding(trace, "one\ntwo\nthree\nfour\nfive", "after")
    text = re.sub(r"<[^>]*>", "", shown)
    assert text == "two\nthree\nfour\nfivea&lt;b⏎\n\nafter"
    first, last = (shown[shown.index(f'" title="step {step}"') - 7 :][:7] for step in (1, 2))
    assert page.RAMP.index(first) < page.RAMP.index(last)


def test_how_l_shaped_a_first_step_is():
    rows = [{"confidence": [1.0, 0.5, 0.5, 0.0, 0.1, 0.3]}]
    assert figures.sink(rows) == {"first_4": 0.5, "others": pytest.approx(0.2)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "a=x", "--model", "a=y"], "two models have the same label"),
        (["--model", "=x"], "--model takes LABEL=PATH"),
        (["--model", "../x=y"], "names a folder of the report"),
        (["--model", "absent"], "there is no model 'absent'"),
        (["--temperature", "x"], "takes numbers with commas"),
    ],
)
def test_bad_use_of_the_report_is_one_sentence(arguments, message, tmp_path, capsys):
    asked = ["humaneval", "--data", OWN / "humaneval.jsonl", "--out", tmp_path / "o", "--unsafe-exec"]
    assert given(*asked, *arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
