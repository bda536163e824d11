"""Every config that is no masked diffusion model gets one sentence."""

from __future__ import annotations

import json

import pytest

from model_runtime.models.families import read_facts
from model_runtime.protocol import ModelError

GOOD = {
    "model_type": "Dream",
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "mask_token_id": 99,
    "bos_token_id": 98,
    "pad_token_id": 97,
}


def facts_of(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    return read_facts(folder)


def test_a_published_config(tmp_path):
    facts = facts_of(tmp_path, GOOD)
    assert facts.name == tmp_path.name
    assert (facts.mask_id, facts.bos_id, facts.pad_id) == (99, 98, 97)
    assert (facts.vocabulary, facts.tokenizer_size, facts.context_length) == (100, 100, 512)
    assert (facts.layers, facts.kv_heads, facts.head_width) == (2, 2, 16)
    assert facts.shift
    assert not facts.context_blind
    assert facts.expand_id is None
    assert facts.delete_id is None


def test_what_a_config_of_our_own_adds(tmp_path):
    decoding = {"name": "small", "context_length": 256, "threshold": 0.8, "start_masks": 6}
    ours = {"attention": "context_blind", "shift": False, "expand_token_id": 0, "delete_token_id": 4}
    facts = facts_of(tmp_path, GOOD | ours | {"tokenizer_size": 90, "diffill": decoding})
    assert (facts.name, facts.context_length, facts.threshold, facts.start_masks) == ("small", 256, 0.8, 6)
    assert facts.context_blind
    assert not facts.shift
    assert (facts.expand_id, facts.delete_id, facts.tokenizer_size) == (0, 4, 90)


def test_without_key_value_heads_every_head_has_its_own(tmp_path):
    assert facts_of(tmp_path, GOOD | {"num_key_value_heads": None}).kv_heads == 4
    assert facts_of(tmp_path, {k: v for k, v in GOOD.items() if k != "num_key_value_heads"}).kv_heads == 4


def refused(folder) -> str:
    with pytest.raises(ModelError) as error:
        read_facts(folder)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert str(folder) in sentence
    return sentence


def test_no_config(tmp_path):
    assert "is not a model: it has no config.json" in refused(tmp_path)


def test_a_folder_in_the_place_of_the_config(tmp_path):
    (tmp_path / "config.json").mkdir()
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe{}", b"model_type: Dream"])
def test_not_json(tmp_path, data):
    (tmp_path / "config.json").write_bytes(data)
    assert "cannot be read as JSON" in refused(tmp_path)


@pytest.mark.parametrize("data", ["[]", "3", "null", '"Dream"'])
def test_not_an_object(tmp_path, data):
    (tmp_path / "config.json").write_text(data)
    assert "is not a JSON object" in refused(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "qwen3"}, "model type 'qwen3'"),
        ({"model_type": "qwen2", "mask_token_id": None}, "for Qwen2 a mask token <M>"),
        ({"model_type": "llama"}, "StableDiffcoderForCausalLM"),
        ({"model_type": None}, "model type None"),
        ({"mask_token_id": None}, "names no mask_token_id"),
        ({"mask_token_id": 100}, "mask_token_id 100"),
        ({"mask_token_id": -1}, "mask_token_id -1"),
        ({"mask_token_id": "99"}, "mask_token_id '99'"),
        ({"mask_token_id": 9.5}, "mask_token_id 9.5"),
        ({"mask_token_id": [99]}, "mask_token_id"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"vocab_size": "100"}, "vocab_size"),
        ({"vocab_size": True}, "vocab_size"),
        ({"hidden_size": -64}, "hidden_size"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_attention_heads": 5}, "num_attention_heads"),  # 64 is no multiple
        ({"num_key_value_heads": -1}, "num_key_value_heads"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),  # 4 heads share no 3
        ({"num_key_value_heads": "2"}, "num_key_value_heads"),
        ({"bos_token_id": 100}, "bos_token_id"),
        ({"bos_token_id": [1, 2]}, "bos_token_id"),
        ({"pad_token_id": -1}, "pad_token_id"),
        ({"expand_token_id": 1000}, "expand_token_id"),
        ({"delete_token_id": "x"}, "delete_token_id"),
        ({"tokenizer_size": -3}, "tokenizer_size"),
        ({"max_position_embeddings": 0}, "max_position_embeddings"),
        ({"max_position_embeddings": "long"}, "max_position_embeddings"),
        ({"attention": "causal"}, "attention"),
        ({"shift": "yes"}, "shift"),
        ({"diffill": []}, "diffill"),
        ({"diffill": {"context_length": -1}}, "context_length"),
        ({"diffill": {"start_masks": 0}}, "start_masks"),
        ({"diffill": {"threshold": 2}}, "threshold"),
        ({"diffill": {"threshold": "sure"}}, "threshold"),
        ({"diffill": {"name": 3}}, "name"),
        ({"diffill": {"probe_bias": 3}}, "probe_bias"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_named(tmp_path, changes, says):
    (tmp_path / "config.json").write_text(json.dumps(GOOD | changes))
    assert says in refused(tmp_path)


@pytest.mark.parametrize("key", ["model_type", "mask_token_id", "vocab_size", "hidden_size", "num_hidden_layers"])
def test_a_missing_value_is_named(tmp_path, key):
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in GOOD.items() if k != key}))
    assert key.split("_")[0] in refused(tmp_path)
