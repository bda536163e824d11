"""Whatever goes wrong is one sentence and an exit code; where it came from is told when asked."""

from __future__ import annotations

import json

import pytest

from model_runtime import cli
from model_runtime.cli import main


def sentence(capsys) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("diffill: ")
    return err


def test_a_model_of_no_known_family(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    (tmp_path / "a.py").write_text("x = <FILL>\n")
    assert main(["fill", str(tmp_path / "a.py"), "--model", str(tmp_path)]) == 2
    said = sentence(capsys)
    assert "'gpt2' (GPT2LMHeadModel), of no supported family: looked for" in said or "has no tokenizer" in said
    assert main(["models", "info", str(tmp_path)]) == 2
    assert "of no supported family: looked for Dream" in sentence(capsys)


@pytest.mark.parametrize("debug", [["--debug"], []])
def test_where_an_error_came_from_is_told_when_asked(tmp_path, capsys, debug):
    assert main(["models", "info", str(tmp_path), *debug]) == 2
    err = capsys.readouterr().err
    assert ("Traceback" in err) == bool(debug)
    assert err.rstrip().splitlines()[-1].startswith("diffill: ")


def test_a_fault_of_our_own_is_one_sentence_too(monkeypatch, capsys):
    def broken(argv):
        raise TypeError("of two\nlines")

    monkeypatch.setattr(cli, "dispatch", broken)
    assert main(["models", "list"]) == 3
    assert (
        sentence(capsys)
        == "diffill: a fault of its own: TypeError: of two lines; --debug shows where, for a bug report\n"
    )
    monkeypatch.setenv("DIFFILL_DEBUG", "1")
    assert main(["models", "list"]) == 3
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["models import NAME", "models convert embedded --out NAME", "serve --audit NAME"])
def test_a_name_that_the_system_does_not_take_is_one_sentence(command, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFILL_RUNTIME_DIR", str(tmp_path))
    assert main(command.replace("NAME", str(tmp_path / ("x" * 300))).split()) == 2
    assert "File name too long" in sentence(capsys)


@pytest.mark.parametrize(
    "command",
    ["models import PATH", "tokens list --file PATH", "serve --tokens PATH --port 0", "serve --token-file PATH"],
)
def test_a_home_that_nobody_has_is_one_sentence(command, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFILL_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("DIFFILL_TOKEN", raising=False)
    assert main(command.replace("PATH", "~nobody-of-this-name/file").split()) == 2
    assert "~nobody-of-this-name/file: there is no home folder of that name" in sentence(capsys)
