"""`diffill eval` as a user gives it: on a model with random weights, and on the embedded one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")


from random_model import make_model

from model_runtime.cli import main
from training.evaluation import eval_run
from training.evaluation.benchmarks import find_benchmark, read_problems
from training.evaluation.decoders import Sampling, Whole
from training.rewards import sandbox

needs_sandbox = pytest.mark.skipif(sandbox.why_not() is not None, reason=str(sandbox.why_not()))
OWN = Path(__file__).parents[3] / "examples/evaluation"
SHORT = ("--max-new-tokens", "6", "--steps", "6", "--limit", "2", "--workers", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "random")


def samples(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def given(*arguments: object) -> int:
    return main(["eval", *map(str, arguments)])


@needs_sandbox
@pytest.mark.parametrize(
    ("name", "file"), [("humaneval+", "humaneval-plus"), ("mbpp", "mbpp"), ("bigcodebench-instruct", "bigcodebench")]
)
def test_a_chat_benchmark(model, name, file, tmp_path, capsys):
    out = tmp_path / "run"
    asked = ["run", name, "--model", model, "--data", OWN / f"{file}.jsonl", "--out", out, *SHORT]
    asked += ["--samples", 2, "--seeds", "0,1", "--temperature", "0.2,0.9", "--k", "1,4", "--batch", 3]
    assert given(*asked) == 0
    printed = capsys.readouterr().out
    summary = json.loads(printed.splitlines()[-1])
    assert summary["temperatures"]["0.2"]["pass@4"]["mean"] == 0
    assert summary["gold"]["mean"] == 1
    rows = samples(out)
    assert len(rows) == 2 * 2 * 2 * 2
    assert all(len(row["order"]) == 6 for row in rows)
    assert json.loads((out / "run.json").read_text())["plan"]["chat"]
    before = (out / "samples.jsonl").read_bytes()
    assert given(*asked) == 0  # nothing is left to do
    assert (out / "samples.jsonl").read_bytes() == before


@needs_sandbox
def test_holes_by_whole_sequence_decoding_and_by_the_engine(model, tmp_path, capsys):
    data = OWN / "infilling-single-line.jsonl"
    for name, extra in (
        ("whole", ["--length", "fixed:oracle"]),
        ("engine", ["--length", "fixed:oracle", "--alg", "entropy"]),
    ):
        out = tmp_path / name
        asked = ["run", "infilling-single-line", "--model", model, "--data", data, "--out", out, *SHORT]
        assert given(*asked, "--decoder", name, "--temperature", "0", *extra) == 0
        rows = samples(out)
        assert len(rows) == 2
        assert {"exact", "gap", "echo"} <= set(rows[0])
    assert [row["gap"] for row in samples(tmp_path / "whole")] == [0, 0]
    for row in samples(tmp_path / "engine"):
        assert row["text"].endswith("\n")  # the end of the line was left outside of the hole
    capsys.readouterr()
    assert given("compare", tmp_path / "whole", tmp_path / "engine") == 0
    assert "no difference is shown" in capsys.readouterr().out


@needs_sandbox
def test_the_embedded_model_fills_lines(tmp_path, capsys):
    data = OWN / "infilling-single-line.jsonl"
    asked = [
        "run",
        "infilling-single-line",
        "--data",
        data,
        "--out",
        tmp_path / "run",
        "--limit",
        "3",
        "--workers",
        "1",
    ]
    assert given(*asked) == 0
    assert json.loads((tmp_path / "run/run.json").read_text())["plan"]["decoder"] == "engine"
    printed = capsys.readouterr().out
    assert "gold ceiling: 100.0" in printed
    assert "floor: 0.0 (0.0 to 0.0) % of the holes pass" in printed


def test_a_batch_draws_the_same_again_and_padding_changes_nothing(model):
    problems = read_problems(find_benchmark("humaneval"), OWN / "humaneval.jsonl")[:3]
    decoder = Whole(model, Sampling(max_new_tokens=6, steps=6, top_p=None), "cpu")
    warm = [decoder.write(problems, 1.0, seed) for seed in ("a", "a", "b")]
    texts = [[sample.text for sample in written] for written in warm]
    assert texts[0] == texts[1] != texts[2]
    alone = [decoder.write([problem], 0.0, "a")[0].text for problem in problems]
    assert [sample.text for sample in decoder.write(problems, 0.0, "a")] == alone


def test_an_answer_ends_at_the_first_token_that_is_no_text(model, monkeypatch):
    decoder = Whole(model, Sampling(max_new_tokens=6, steps=6), "cpu")
    (problem,) = read_problems(find_benchmark("humaneval"), OWN / "humaneval.jsonl")[:1]
    (free,) = decoder.write([problem], 0.0, "a")
    assert free.tokens == 6
    decoder.stops = set(range(decoder.facts.vocabulary))
    assert decoder.write([problem], 0.0, "a")[0].text == ""
    hole = replace(problem, shape="infill", suffix="\n")
    decoder.sampling = replace(decoder.sampling, length="fixed:6")
    assert decoder.write([hole], 0.0, "a")[0].tokens == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "the following arguments are required: BENCHMARK, --out"),
        (["run", "humanevl", "--data", "x", "--out", "o"], "did you mean humaneval?"),
        (["run", "humaneval", "--out", "o"], "is not part of diffill: give its file with --data, or --download"),
        (["run", "humaneval", "--data", "absent.jsonl", "--out", "o"], "there is no file absent.jsonl"),
        (["run", "humaneval", "--data", "x", "--out", "o", "--k", "10"], "pass@10 needs at least 10 samples"),
        (["run", "humaneval", "--data", "x", "--out", "o", "--k", "1,1"], "takes different numbers"),
        (["run", "humaneval", "--data", "x", "--out", "o", "--seeds", "a"], "takes numbers with commas between them"),
        (["run", "humaneval", "--data", "x", "--out", "o", "--samples", "0"], "pass@1 needs at least 1 samples"),
        (["run", "humaneval", "--data", "x", "--out", "o", "--batch", "0"], "--batch is at least 1, not 0"),
        (["run", "humaneval", "--data", "x", "--out", "o", "--top-p", "0"], "--top-p lies above 0"),
        (["run", "humaneval", "--data", "DATA", "--out", "o", "--model", "absent"], "there is no model 'absent'"),
        (["run", "humaneval", "--data", "DATA", "--out", "o", "--decoder", "whole"], "has no full attention"),
        (["run", "humaneval", "--data", "DATA", "--out", "o", "--prompt", "chat"], "--prompt chat is for"),
        (["run", "humaneval", "--data", "DATA", "--out", "o", "--alg", "greedy"], "--alg is one of threshold"),
        (
            ["run", "humaneval", "--data", "DATA", "--out", "o", "--max-prompt", "2"],
            "no problem has a prompt of at most 2",
        ),
        (["compare", "a", "b"], "is no run of diffill eval"),
        (["measure"], "there is no part 'measure'; the parts are run, compare, report, list"),
        ([], "give a part"),
    ],
)
def test_bad_use_is_one_sentence(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [str(OWN / "humaneval.jsonl") if word == "DATA" else word for word in arguments]
    arguments += ["--unsafe-exec"] if arguments and arguments[0] == "run" and len(arguments) > 1 else []
    assert given(*arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_canvases_longer_than_the_model_are_refused(model, tmp_path, capsys):
    asked = ["run", "mbpp", "--model", model, "--data", OWN / "mbpp.jsonl", "--out", tmp_path / "o", "--unsafe-exec"]
    assert given(*asked, "--max-new-tokens", "1024") == 2
    assert "was trained on 1024: lower --max-new-tokens" in capsys.readouterr().err


def test_without_a_sandbox_nothing_runs_unless_unsafe_is_asked_for(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sandbox, "why_not", lambda: "bubblewrap is missing: install it")
    asked = ["run", "santacoder-fim", "--model", model, "--data", OWN / "santacoder-fim.jsonl", "--out", tmp_path / "o"]
    assert given(*asked, *SHORT) == 2
    assert "bubblewrap is missing: install it; --unsafe-exec" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    assert given(*asked, *SHORT, "--unsafe-exec") == 0


def test_what_is_listed_can_be_run(capsys):
    assert given("list") == 0
    listed = capsys.readouterr().out
    for name in ("humaneval+", "infilling-random-span-light", "bigcodebench-instruct-hard", "diffill train tasks"):
        assert name in listed
    assert given("--help") == 0
    assert "compare" in capsys.readouterr().out


def test_a_download_that_fails_is_one_sentence(monkeypatch):
    import huggingface_hub

    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(
        eval_run.RequestError, match=r"openai/openai_humaneval could not be downloaded \(no route to host\)"
    ):
        eval_run.benchmarks.fetch(find_benchmark("humaneval"))
