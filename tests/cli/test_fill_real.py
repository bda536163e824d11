"""`python -m model_runtime fill` as a user runs it: a process of its own, the embedded model, no network."""

import json
import os
import subprocess
import sys

import pytest

CODE = "def area(width, height):\n    return <FILL>\n\n\nprint(area(2, 3))\n"
HEAVY = ("torch", "transformers", "accelerate", "bitsandbytes")


def run(*arguments, cwd, program=("-m", "model_runtime")):
    """Run the command in `cwd`; return (exit code, stdout as bytes, stderr)."""
    # A proxy that answers nothing: whatever would use the network fails.
    environment = {**os.environ, "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, *program, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, env=environment, timeout=120)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.fixture
def folder(tmp_path):
    """A folder with it.py, which has one marker."""
    (tmp_path / "it.py").write_bytes(CODE.encode())
    return tmp_path


def test_a_fill_prints_a_diff_and_the_model_steps_and_milliseconds(folder):
    code, out, err = run("fill", "it.py", "--length", "fixed:8", cwd=folder)
    assert code == 0, err
    lines = out.decode().splitlines()
    assert lines[:4] == ["--- a/it.py", "+++ b/it.py", lines[2], " def area(width, height):"]
    assert "-    return <FILL>" in lines
    assert any(line.startswith("+    return") for line in lines)
    assert err.startswith("diffill: embedded")
    assert " ms, confidence 0." in err
    assert (folder / "it.py").read_bytes() == CODE.encode()


def test_the_same_seed_gives_the_same_file_through_every_output(folder):
    before, after = CODE.split("<FILL>")
    options = ("fill", "it.py", "--length", "fixed:8", "--temperature", "0.8", "--seed", "3")
    code, out, err = run(*options, "--json", cwd=folder)
    assert code == 0, err
    result = json.loads(out)
    filled = (before + result["holes"][0]["text"] + after).encode()
    assert result["seed"] == 3
    assert {"load", "encode", "denoise", "total"} <= set(result["timing_ms"])
    assert run(*options, "--stdout", cwd=folder)[:2] == (0, filled)
    assert run(*options, "--write", "--trace", cwd=folder)[:2] == (0, b"")
    assert (folder / "it.py").read_bytes() == filled


def test_several_holes_and_a_range_are_filled_together(folder):
    arguments = ("--at", "2:12", "--lines", "5:5", "--length", "fixed:4", "--json")
    code, out, err = run("fill", "it.py", *arguments, cwd=folder)
    assert code == 0, err
    assert [hole["start"] for hole in json.loads(out)["holes"]] == [36, CODE.index("print")]


def test_line_ends_and_byte_order_mark_outside_the_hole_stay(folder):
    raw = b"\xef\xbb\xbf" + CODE.replace("\n", "\r\n").encode()
    (folder / "it.py").write_bytes(raw)
    code, _, err = run("fill", "it.py", "--length", "fixed:8", "--write", cwd=folder)
    assert code == 0, err
    before, after = raw.split(b"<FILL>")
    written = (folder / "it.py").read_bytes()
    assert written.startswith(before)
    assert written.endswith(after)
    assert written.replace(b"\r\n", b"").count(b"\n") == 0


def test_the_embedded_model_needs_no_torch(folder):
    script = (
        "import sys; from model_runtime.cli import main; code = main(sys.argv[1:]); "
        f"print([name for name in {HEAVY!r} if name in sys.modules]); sys.exit(code)"
    )
    arguments = ("fill", "it.py", "--length", "fixed:4", "--stdout")
    code, out, err = run(*arguments, cwd=folder, program=("-c", script))
    assert code == 0, err
    assert out.decode().splitlines()[-1] == "[]"


def test_version_and_refusals_load_no_engine(folder):
    script = (
        "import sys; from model_runtime.cli import main; code = main(sys.argv[1:]); "
        "print([m for m in ('numpy', 'onnxruntime', 'tokenizers', 'rich') if m in sys.modules]); sys.exit(code)"
    )
    code, out, _ = run("--version", cwd=folder, program=("-c", script))
    assert (code, out.decode().splitlines()[-1]) == (0, "[]")
    code, out, _ = run("fill", "it.py", "--at", "99:1", cwd=folder, program=("-c", script))
    assert (code, out.decode().splitlines()[-1]) == (2, "[]")


@pytest.mark.parametrize("model", ["nonesuch", "./nowhere"])
def test_an_unknown_model_is_one_sentence(folder, model):
    code, out, err = run("fill", "it.py", "--model", model, "--write", cwd=folder)
    assert (code, out) == (2, b"")
    assert err.startswith("diffill: ")
    assert err.count("\n") == 1
    assert (folder / "it.py").read_bytes() == CODE.encode()


def test_a_bad_option_is_one_sentence(folder):
    assert run("fill", "it.py", "--steps", "0", cwd=folder) == (2, b"", "diffill: steps is at least 1, not 0\n")
