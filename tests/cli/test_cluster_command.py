"""`diffill cluster` where it can be told without a cluster."""

from __future__ import annotations

import sys

import pytest

from model_runtime.cli import main


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--replicas", "0"], "--replicas is MIN or MIN:MAX from 1, not 0:0"),
        (["--replicas", "4:2"], "not 4:2"),
        (["--replicas", "1:2:3"], "--replicas is N or MIN:MAX, not '1:2:3'"),
        (["--replicas", "many"], "--replicas is N or MIN:MAX, not 'many'"),
        (["--gpus", "-1"], "--gpus is not negative, as -1 is"),
        (["--together", "0"], "--together is at least 1"),
        (["--model", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_a_plan_that_cannot_be_is_one_sentence(arguments, sentence, capsys):
    assert main(["cluster", "deploy", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("diffill: ")
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("what", ["deploy", "status", "remove"])
def test_without_ray_it_says_how_to_get_it(what, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["cluster", what]) == 2
    assert capsys.readouterr().err == "diffill: a cluster needs Ray: pip install 'diffill[cluster]'\n"


@pytest.mark.parametrize("together", ["0", "65"])
def test_how_many_fills_a_server_runs_at_once(together, capsys):
    assert main(["serve", "--together", together]) == 2
    assert capsys.readouterr().err == f"diffill: --together lies between 1 and 64, not at {together}\n"
