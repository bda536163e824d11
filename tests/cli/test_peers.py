"""The comparison with other programs: what is typed, what is told, and the GPU's command on a processor."""

from __future__ import annotations

import itertools
import json
import sys

import pytest

pytest.importorskip("torch")

from benchmarks import gpu, report
from benchmarks.peers.__main__ import ratios, summary
from benchmarks.peers.cases import AFTER, BEFORE, MIDDLE, PREFIX, SUFFIX, typed
from benchmarks.precisions import compare
from model_runtime.catalog.catalog import EMBEDDED
from model_runtime.models.tokenizer import TextTokenizer


def test_keys_type_one_character_more_each():
    cases = typed(TextTokenizer(EMBEDDED / "tokenizer.json"), 4, 0.4)
    for one, other in itertools.pairwise(cases):
        assert other.at == one.at + 1
        assert other.text[: one.at] == one.text[: one.at]
        assert other.text[other.at :] == one.text[one.at :]
    plain = cases[0].plain
    assert (plain[0], plain[-1]) == (PREFIX, MIDDLE)
    split = plain.index(SUFFIX, BEFORE - 40)
    assert BEFORE - 8 <= split <= BEFORE + 2
    assert AFTER - 8 <= len(plain) - split - 2 <= AFTER
    assert sorted(cases[0].suffix_first) == sorted(plain)


def test_ratios_are_medians_within_a_turn():
    rows = {
        "llama q4_0 key": [(100.0, 90.0), (300.0, 90.0), (90.0, 90.0)],
        "ours int8 key 8": [(50.0, 30.0), (100.0, 45.0), (90.0, 90.0)],
    }
    found = ratios("0.5b", rows)
    assert found == {"key: int8 over q4_0": {"ratio": 2.0, "cpu_ratio": 2.0, "wanted": 1.7}}
    assert summary(rows)["ours int8 key 8"] == {"ms": 90.0, "cpu_ms": 45.0, "runs_ms": [50.0, 100.0, 90.0]}


def test_differences_from_float32():
    def row(precision, shift, orders):
        scored = [[-1.0 - shift, -2.0, -3.0], [-3.0, -1.0, -2.0 - shift]]
        return {"model": "embedded", "precision": precision, "log_probs": scored, "orders": orders}

    rows = [row("fp32", 0.0, [[[0, 7], [1, 8], [2, 9]]]), row("nf4", 0.5, [[[0, 7], [2, 9], [1, 8]]])]
    compare(rows)
    assert (rows[0]["error"], rows[0]["first_difference"], rows[0]["ar_ness_drift"]) == (0.0, [None], 0.0)
    assert 0.3 < rows[1]["error"] < 0.4
    assert rows[1]["first_difference"] == [2]
    assert rows[1]["ar_ness_drift"] == round(2 / 3 - 1, 3)


def test_sections_are_replaced():
    assert report.put("a <!-- x -->old<!-- /x --> b", "x", "new") == "a <!-- x -->\nnew\n<!-- /x --> b"
    with pytest.raises(ValueError, match="<!-- y -->"):
        report.put("a", "y", "new")
    page = report.PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- /peers -->") == page.count("<!-- /precisions -->") == 1


def test_the_gpus_command_on_a_processor(tmp_path, monkeypatch, capsys):
    options = ["--shape", "tiny", "--device", "cpu", "--precisions", "fp32", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["gpu", *options])
    monkeypatch.setattr(gpu, "TOKENS_A_STEP", (8,))
    monkeypatch.setattr(gpu, "CACHED", 64)
    assert gpu.main() == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    (row,) = told["rows"]
    assert row["window_ms"] > 0
    assert row["full_floor_ms"] > 0
    assert row["tokens_s_8"] > 0


def test_a_gpu_that_is_not_there_is_told(tmp_path, monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = ["--shape", "tiny", "--precisions", "bf16,nf4", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["gpu", *options])
    assert gpu.main() == 1
    notes = json.loads(capsys.readouterr().out.splitlines()[-1])["notes"]
    assert len(notes) == 2
    assert all("take --device cpu" in note for note in notes)
