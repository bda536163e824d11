"""`diffill bench` on tiny real models: the shape of what it reports; never how fast it was."""

import json
import shutil
import sys

import pytest

from model_runtime.cli import main
from model_runtime.commands import bench, bench_cases, machine
from model_runtime.commands.bench_command import measure_command, measured
from model_runtime.engine.engine import Engine
from model_runtime.protocol import DiffillError

SMALL = ("--holes", "4", "--contexts", "32", "--repeats", "1")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """One thread for torch, whose waiting threads would spin in this process, and as many as before afterwards."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    monkeypatch.setattr(bench_cases, "default_threads", lambda: 1)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tiny_models, tmp_path):
    """A copy of the tiny context_blind model, to be changed at will."""
    return shutil.copytree(tiny_models["context_blind"].folder, tmp_path / "model")


def ran(capsys, *arguments):
    """(What was printed above the last line, the last line as JSON) of `diffill bench ARGUMENTS`."""
    assert main(["bench", *map(str, arguments)]) == 0
    *above, last = capsys.readouterr().out.splitlines()
    return "\n".join(above), json.loads(last)


def ways(report, hole):
    """(backend, method, steps asked) of the rows of one hole."""
    return [(row["backend"], row["method"], row["steps_asked"]) for row in report["rows"] if row["hole"] == hole]


def test_quick_reports_the_headline_and_the_whole_command(folder, tmp_path, capsys):
    above, report = ran(capsys, "--model", folder, "--quick", *SMALL, "--json", tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text()) == report
    assert ways(report, 4) == [
        ("onnx", "cached", 4),
        ("onnx", "uncached", 4),
        ("onnx", "threshold", None),
        ("torch", "diffusion_generate", 4),
    ]
    assert all(row["ms"] > 0 and len(row["runs_ms"]) == 1 for row in report["rows"])
    assert all(1 <= row["steps"] <= 4 and row["context"] == 32 for row in report["rows"])
    found = report["headline"]
    assert (found["hole"], found["context"], found["backend"]) == (4, 32, "onnx")
    assert found["cached_over_uncached"]["ratio"] > 0
    assert found["threshold_over_generate"]["ratio"] > 0
    assert (found["cached_over_uncached"]["wanted"], found["threshold_over_generate"]["wanted"]) == (3, 15)
    assert report["command"]["wall_s"] > 0
    assert report["command"]["peak_bytes"] > 1e6
    assert report["command"]["heavy_modules"] == []
    assert report["versions"]["onnxruntime"]
    assert report["hardware"]["cores"] >= 1
    assert {"date", "model", "code", "threads", "devices", "repeats"} <= set(report)
    assert "onnx threshold" in above
    assert "(wanted 15x)" in above


def test_every_way_is_measured_at_every_point(tiny_models, monkeypatch, capsys):
    monkeypatch.setattr(bench, "whole_command", lambda *_: None)
    folder = tiny_models["full"].folder
    above, report = ran(capsys, "--model", folder, "--holes", "9,4", "--contexts", "260", "--repeats", "2")
    one_backend = [(method, steps) for steps in (1, 4) for method in ("cached", "uncached")] + [("threshold", None)]
    expected = [(backend, *way) for backend in ("onnx", "torch") for way in one_backend]
    assert ways(report, 4) == [*expected, ("torch", "diffusion_generate", 4)]
    assert {steps for _, _, steps in ways(report, 9)} == {1, 8, 9, None}
    for row in report["rows"]:
        assert len(row["runs_ms"]) == 2
        assert row["steps"] == (row["steps_asked"] or row["steps"])
        assert (row["over_uncached"] is not None) == (row["method"] == "cached")
        assert (row["over_generate"] is not None) == (row["method"] != "diffusion_generate")
        assert 257 <= row["context_tokens"] <= 261
    assert "note: contexts beyond the model's window of 256 tokens" in above


def test_without_weights_for_torch_its_rows_are_left_out(folder, monkeypatch, capsys):
    monkeypatch.setattr(bench, "whole_command", lambda *_: None)
    (folder / "model.safetensors").unlink()
    above, report = ran(capsys, "--model", folder, *SMALL)
    assert {row["backend"] for row in report["rows"]} == {"onnx"}
    assert report["headline"]["threshold_over_generate"]["ratio"] is None
    assert "threshold over diffusion_generate not measured" in above
    assert "the model has no model.safetensors" in above


def test_without_torch_its_rows_are_left_out(folder, monkeypatch, capsys):
    monkeypatch.setattr(bench, "whole_command", lambda *_: None)
    monkeypatch.setattr(machine, "is_installed", lambda package: False)
    above, report = ran(capsys, "--model", folder, *SMALL)
    assert {row["backend"] for row in report["rows"]} == {"onnx"}
    assert "it is not installed" in above


def test_without_a_graph_torch_is_measured(folder, monkeypatch, capsys):
    monkeypatch.setattr(bench, "whole_command", lambda *_: None)
    (folder / "model.onnx").unlink()
    _, report = ran(capsys, "--model", folder, "--quick", *SMALL)
    assert [method for _, method, _ in ways(report, 4)] == ["cached", "uncached", "threshold", "diffusion_generate"]
    assert report["headline"]["backend"] == "torch"


@pytest.mark.parametrize("context", [16, 64, 200])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_case_has_the_tokens_that_were_asked_for(tiny_models, context, share):
    engine = Engine.load(tiny_models["context_blind"].folder)
    name, code = bench_cases.read_code()
    case = bench_cases.make_case(engine, code, 12, context, share)
    assert name in bench_cases.SOURCES
    assert context - 4 <= case.context_tokens <= context + 1
    assert case.text in code
    assert case.text[case.span[0] - 1] == "\n"
    assert len(engine.tokenizer.encode(case.text[slice(*case.span)])) <= 12
    assert len(case.layout.masked) >= 12
    assert len(case.layout.ids) == case.context_tokens + len(case.layout.masked)


def test_whole_sequence_decoding_sees_what_the_engine_shows_the_model(tiny_models):
    torch = pytest.importorskip("torch")
    model = tiny_models["context_blind"].model
    segments = torch.tensor([[0, 0, 0, -1, -1, -1, 1, 1]])
    ids = torch.tensor([[1, 10, 11, 12, 2, 2, 13, 14]])
    seen = bench_cases.SegmentedModel(model, segments)
    with torch.no_grad():
        assert torch.equal(seen(ids).logits, model(ids, segments=segments).logits)
        assert not torch.allclose(seen(ids).logits, model(ids).logits)
    assert (seen.config.attention, seen.config.mask_token_id) == ("full", 2)
    assert model.config.attention == "context_blind"


def test_ratios_are_medians_within_repeats():
    slow, fast = {"runs_ms": [30.0, 400.0, 20.0]}, {"runs_ms": [10.0, 200.0, 2.0]}
    assert bench.ratio(slow, fast) == 3.0
    assert bench.ratio(slow, slow) is None
    assert bench.ratio(None, fast) is None


def test_a_command_that_fails_is_told(folder, tmp_path, monkeypatch, capsys):
    with pytest.raises(DiffillError, match=r"ended with 3 \(no\)"):
        measured([sys.executable, "-c", "import sys; print('no', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(DiffillError, match="ended with 2"):
        measure_command(tmp_path / "nowhere", "a\nb\n", (2, 3), 4, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--repeats", "0"), "--repeats is at least 1"),
        (("--holes", "0"), "numbers from 1"),
        (("--holes", "a"), "whole number"),
        (("--contexts", "9000000"), "more than bench has code for"),
        (("--quick", "--full"), "not allowed with"),
        (("--json", "nowhere/bench.json"), "there is no folder nowhere"),
        (("--model", "nonesuch"), "there is no model 'nonesuch'"),
    ],
)
def test_bad_use_is_one_sentence(tiny_models, arguments, said, capsys):
    model = () if "--model" in arguments else ("--model", str(tiny_models["full"].folder))
    assert main(["bench", *model, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.splitlines()[-1]


def test_a_corrupt_model_is_one_sentence(folder, capsys):
    (folder / "model.onnx").write_bytes(b"no graph")
    assert main(["bench", "--model", str(folder), *SMALL]) == 2
    assert "model.onnx is not a readable ONNX model" in capsys.readouterr().err
