"""`diffill doctor` on tiny real models, whole and damaged."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest

from model_runtime.cli import main
from model_runtime.commands import machine


@pytest.fixture
def folder(tiny_models, tmp_path):
    """A copy of the tiny context_blind model, to be damaged at will."""
    return shutil.copytree(tiny_models["context_blind"].folder, tmp_path / "model")


@pytest.fixture
def doctor(folder, monkeypatch, capsys):
    """A function that runs `diffill doctor --json` on the folder, torch not asked; (exit code, report)."""
    monkeypatch.setattr(machine, "ask_torch", lambda: {"works": True, "version": "9.9", "devices": []})

    def run(model=folder):
        code = main(["doctor", "--model", str(model), "--json"])
        out, err = capsys.readouterr()
        assert err == ""
        return code, json.loads(out)

    return run


def write_sums(folder):
    """Write the SHA256SUMS of the folder's files."""
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums))


def the_problem(code, report):
    """The one problem of a report that is not healthy, a sentence with a remedy."""
    assert (code, report["healthy"], len(report["problems"])) == (1, False, 1), report["problems"]
    sentence = report["problems"][0]
    assert "\n" not in sentence
    assert ";" in sentence or "give" in sentence
    return sentence


def test_a_healthy_installation(doctor, folder):
    write_sums(folder)
    code, report = doctor()
    assert (code, report["healthy"], report["problems"]) == (0, True, [])
    assert report["versions"]["diffill"]
    assert report["versions"]["onnxruntime"]
    assert report["hardware"]["cores"] >= 1
    assert set(report["hardware"]) >= {"platform", "processor", "features", "memory_bytes", "memory_free_bytes"}
    assert report["model"]["checksums"] == "match"
    assert report["model"]["files"]["model.onnx"] == (folder / "model.onnx").stat().st_size
    assert report["fill"]["end"] == "complete"
    assert {"load_ms", "first_ms", "ms", "steps", "tokens"} <= set(report["fill"])


def test_without_checksums_none_are_compared(doctor):
    code, report = doctor()
    assert (code, report["model"]["checksums"]) == (0, None)


def test_a_person_reads_sentences(folder, monkeypatch, capsys):
    monkeypatch.setattr(machine, "is_installed", lambda package: False)
    assert main(["doctor", "--model", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "advice: torch is not installed: " in out
    assert " ms for 16 tokens in " in out
    assert out.splitlines()[-1] == "Everything works."
    (folder / "tokenizer.json").unlink()
    assert main(["doctor", "--model", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "problem: " in out
    assert out.splitlines()[-1] == "Something is broken."


def test_a_damaged_file_differs_from_its_checksum(doctor, folder):
    write_sums(folder)
    with (folder / "tokenizer.json").open("ab") as file:
        file.write(b"\n")
    code, report = doctor()
    assert "tokenizer.json is damaged" in the_problem(code, report)
    assert report["model"]["checksums"] == "differ"


def test_a_missing_file_is_missed_by_its_checksum(doctor, folder):
    write_sums(folder)
    (folder / "model.safetensors").unlink()
    assert "model.safetensors is missing" in the_problem(*doctor())


def test_a_line_that_is_no_checksum(doctor, folder):
    (folder / "SHA256SUMS").write_text("nonsense\n")
    assert "no checksum" in the_problem(*doctor())


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_a_problem(doctor, folder, file):
    (folder / file).unlink()
    assert f"no {file}" in the_problem(*doctor())


def test_missing_weights_are_a_problem(doctor, folder):
    for path in folder.glob("model.*"):
        path.unlink()
    assert "no model.onnx" in the_problem(*doctor())


def test_truncated_weights_fail_the_fill(doctor, folder):
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, report = doctor()
    assert "a fill failed" in the_problem(code, report)
    assert "fill" not in report


def test_a_corrupt_config_is_a_problem(doctor, folder):
    (folder / "config.json").write_text('{"model_type":')
    assert "config.json cannot be read" in the_problem(*doctor())


def test_an_unknown_model_is_a_problem_and_the_rest_is_told(doctor):
    code, report = doctor("nonesuch")
    assert "there is no model 'nonesuch'" in the_problem(code, report)
    assert report["versions"]["python"]


def test_a_missing_package_is_a_problem(doctor, monkeypatch):
    found = {**machine.versions(), "tokenizers": None}
    monkeypatch.setattr(machine, "versions", lambda: found)
    assert "tokenizers is not installed" in the_problem(*doctor())


def test_a_broken_torch_breaks_no_doctor_and_none_is_imported(folder, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise OSError('a library of torch is missing')\n")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'broken')!r}); from model_runtime.cli import main; "
        "code = main(sys.argv[1:]); print('torch' in sys.modules); sys.exit(code)"
    )
    command = [sys.executable, "-c", script, "doctor", "--model", str(folder), "--json"]
    environment = {**machine.os.environ, "PYTHONPATH": str(tmp_path / "broken")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    report, imported = done.stdout.splitlines()
    assert "a library of torch is missing" in the_problem(done.returncode, json.loads(report))
    assert imported == "False"


def test_torch_answers_from_a_process_of_its_own():
    pytest.importorskip("torch")
    found = machine.ask_torch()
    assert found["works"], found
    assert isinstance(found["devices"], list)
    assert "no answer" in machine.ask_torch(timeout_s=0.001)["error"]


def test_sizes_are_readable():
    assert [machine.readable(size) for size in (None, 12, 1500, 26_800_000, 25.3e9)] == [
        *("unknown", "12 bytes", "1.5 kB", "26.8 MB", "25.3 GB")
    ]


def test_bad_use_is_one_sentence(capsys):
    assert main(["doctor", "--loudly"]) == 2
    assert capsys.readouterr().err == "diffill: unrecognized arguments: --loudly\n"


@pytest.fixture
def places(monkeypatch, tmp_path):
    """A runtime folder and a store of the test's own."""
    monkeypatch.setenv("DIFFILL_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("DIFFILL_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path


def test_the_daemon_is_looked_for(doctor, places):
    code, report = doctor()
    assert code == 0
    assert report["daemon"]["running"] is False
    assert report["daemon"]["folder"] == str(places / "run")


def test_a_download_that_is_not_whole_is_named(doctor, places):
    (places / "models" / ".dreamon-7b.partial").mkdir(parents=True)
    code, report = doctor()
    assert code == 0
    assert report["store"]["partial"] == ["dreamon-7b"]
    assert any("diffill models pull dreamon-7b goes on" in sentence for sentence in report["advice"])


def test_a_fetched_model_is_compared_with_what_was_fetched(doctor, places, folder):
    from model_runtime.catalog.pull import import_folder

    shutil.copytree(import_folder(folder, "mine"), places / "copy")
    assert doctor("mine")[1]["model"]["checksums"] == "match"
    weights = places / "models" / "mine" / "config.json"
    weights.write_bytes(weights.read_bytes() + b" ")
    assert "diffill models remove mine" in the_problem(*doctor("mine"))


def test_an_accelerator_that_torch_cannot_use_is_a_problem(doctor, places, monkeypatch):
    from model_runtime.commands import checkup

    monkeypatch.setattr(checkup, "device_memory", lambda: 8 << 30)
    assert "torch cannot use" in the_problem(*doctor())
