"""Measuring what is kept between keystrokes: the tables are of the fills that were made."""

from __future__ import annotations

import json

import pytest

from model_runtime.engine.engine import Engine
from training.evaluation import keystrokes
from training.evaluation.lengths import request_for

LAST = {"context": "the same text with `cache` off", "start": "the first line moves", "drafts": "contradictions in"}


def test_every_key_of_a_line_is_a_request():
    text = "".join(f"value_{n} = {n}\n" for n in range(10))
    requests = list(keystrokes.typed_requests(text, 2))
    lines = text.splitlines()
    assert len(requests) == len(lines[2]) + len(lines[7])
    for request in requests:
        [(at, end)] = request.holes
        typed = request.text[:at].rpartition("\n")[2]
        assert at == end
        assert lines[2].startswith(typed) or lines[7].startswith(typed)
        assert request.text[at] == "\n"


def test_what_is_right_before_the_first_wrong_character():
    assert keystrokes.likeness("a = 1", "a = 1")[::2] == (True, 5)
    assert keystrokes.likeness("a = 2", "a = 1")[::2] == (False, 4)
    assert keystrokes.likeness("", "a = 1")[::2] == (False, 0)
    assert keystrokes.likeness("a = 12", "a = 1")[::2] == (False, 5)


@pytest.mark.parametrize("what", LAST)
def test_a_command_prints_tables_and_ends_with_json(what, tiny_models, monkeypatch, capsys):
    pytest.importorskip("toolz")
    load, folder = Engine.load, tiny_models["context_blind"].folder
    monkeypatch.setattr(
        keystrokes.Engine, "load", lambda model, threads, keep_bytes: load(folder, keep_bytes=keep_bytes)
    )
    monkeypatch.setattr(keystrokes, "FILES", (("toolz", "toolz/utils.py"),))
    monkeypatch.setattr(keystrokes, "LINES", 1)
    monkeypatch.setattr(keystrokes, "TOKENS", 4)
    monkeypatch.setattr(keystrokes, "request_for", lambda hole, **o: request_for(hole, max_tokens=4, **o))
    assert keystrokes.main([what, "--count", "1"]) == 0
    out = capsys.readouterr().out
    assert LAST[what] in out
    found = json.loads(out.splitlines()[-1])
    assert (found["what"], found["count"], found["model"]) == (what, 1, "tiny-context_blind")
    if what == "context":
        assert found["typing"]["toolz/utils.py"]["same"] == 1.0
        assert found["same"] == 1


def test_what_cannot_be_measured_is_said(capsys):
    assert keystrokes.main(["start", "--count", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
