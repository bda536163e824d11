"""`diffill models` on tiny real models."""

import json
import shutil
import subprocess
import sys

import pytest

from model_runtime.catalog import catalog
from model_runtime.cli import main
from model_runtime.commands.describing import count_parameters


@pytest.fixture
def folder(tiny_models, tmp_path):
    """A copy of the tiny context_blind model, to be changed at will."""
    return shutil.copytree(tiny_models["context_blind"].folder, tmp_path / "a model")


def info(folder, capsys):
    """What `diffill models info FOLDER --json` prints."""
    assert main(["models", "info", str(folder), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments):
    """The one sentence on stderr of a command that ends with 2."""
    assert main(["models", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("diffill: ")
    assert err.count("\n") == 1
    return err


def change(folder, **values):
    """Write `values` into the folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_info_says_what_the_folder_holds(folder, tiny_models, capsys):
    one, model = info(folder, capsys), tiny_models["context_blind"].model
    assert one["parameters"] == sum(p.numel() for p in model.parameters())
    assert (one["name"], one["architecture"], one["layers"]) == ("tiny-context_blind", "Dream", 2)
    assert (one["width"], one["heads"], one["key_value_heads"]) == (32, 4, 2)
    sizes = model.config.vocab_size, model.config.tokenizer_size, model.config.max_position_embeddings
    assert (one["vocabulary"], one["tokenizer_size"], one["context_length"]) == sizes
    assert (one["attention"], one["shift"], one["backends"]) == ("context_blind", True, ["onnx", "torch"])
    assert one["special_tokens"]["mask"] == {"id": 2, "text": "<|mask|>"}
    assert one["special_tokens"]["expand"] == {"id": 3, "text": "<|expand|>"}
    decoding = {name: one["decoding"][name] for name in ("sampler", "threshold", "length", "start_masks")}
    assert decoding == {"sampler": "threshold", "threshold": 0.9, "length": "expand", "start_masks": 4}
    assert (one["family"], one["infills"], one["chat"]) == ("Dream", True, None)
    assert one["files"]["model.onnx"] == (folder / "model.onnx").stat().st_size
    assert one["size_bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert (one["card"], one["license"]) == (None, None)


def test_info_for_a_person_has_the_same_facts(folder, capsys):
    assert main(["models", "info", str(folder)]) == 0
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["model"].endswith("tiny-context_blind")
    assert lines["mask token"].endswith("2  <|mask|>")
    assert lines["decoding"].endswith("sampler threshold at 0.9, length expand, from 4 masks")
    assert "file model.onnx" in lines


def test_a_model_that_cannot_resize_holes_is_probed(folder, capsys):
    change(folder, expand_token_id=None, attention="full", shift=False)
    one = info(folder, capsys)
    assert (one["decoding"]["length"], one["decoding"]["start_masks"]) == ("probe", None)
    assert (one["attention"], one["shift"]) == ("full", False)
    assert "expand" not in one["special_tokens"]


def test_parameters_of_an_untied_head(tmp_path):
    dream = pytest.importorskip("model_runtime.models.dream")
    shape = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2}
    model = dream.DreamModel(dream.DreamConfig(**shape, **heads, tie_word_embeddings=False))
    counted = count_parameters({**shape, **heads, "tie_word_embeddings": False}, tmp_path)
    assert counted == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "card", ["# A model\n\n**Licence:** Apache-2.0.\n", "---\nlicense: Apache-2.0\n---\n", "| Licence | Apache-2.0 |\n"]
)
def test_the_licence_comes_from_the_model_card(folder, card, capsys):
    (folder / "MODEL_CARD.md").write_text(card)
    one = info(folder, capsys)
    assert one["license"] == "Apache-2.0"
    assert one["card"] == str(folder / "MODEL_CARD.md")


def test_list_names_the_embedded_model_first(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DIFFILL_MODELS_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(catalog, "EMBEDDED", folder)
    assert main(["models", "list"]) == 0
    headings, embedded, *_ = capsys.readouterr().out.splitlines()
    assert headings.split() == ["name", "parameters", "size", "licence", "here", "this", "machine"]
    assert embedded.startswith("embedded ")
    assert main(["models", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed[0]["name"] == "embedded"
    assert [one["name"] for one in listed if one["installed"]] == ["embedded"]


def test_what_is_no_model_is_one_sentence(folder, tmp_path, capsys):
    assert "there is no model 'nonesuch'" in refused(capsys, "info", "nonesuch")
    assert "there is no model 'xxx" in refused(capsys, "info", "x" * 5000)
    assert "there is no model '~nobody" in refused(capsys, "info", "~nobody-of-this-name/model")
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refused(capsys, "info", tmp_path / "empty")
    assert "there is no model" in refused(capsys, "info", folder / "config.json")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", '{"model_type": "Dre'),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "Llama"}'),
        ("config.json", "\0\1\2"),
        ("tokenizer.json", '{"added_tokens": [{}]}'),
        ("tokenizer.json", "[1, 2"),
    ],
)
def test_a_damaged_file_is_named_in_one_sentence(folder, file, content, capsys):
    (folder / file).write_text(content)
    assert file in refused(capsys, "info", folder)


def test_a_config_without_a_size_is_refused(folder, capsys):
    change(folder, intermediate_size="large")
    assert "intermediate_size" in refused(capsys, "info", folder)


def test_bad_use_is_one_sentence(capsys):
    refused(capsys)
    refused(capsys, "info")
    refused(capsys, "info", "a", "b")
    refused(capsys, "describe", "embedded")


def test_describing_a_model_loads_none(folder):
    script = (
        "import sys; from model_runtime.cli import main; code = main(sys.argv[1:]); "
        "print([m for m in ('onnxruntime', 'torch', 'transformers') if m in sys.modules]); sys.exit(code)"
    )
    command = [sys.executable, "-c", script, "models", "info", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr
