"""Taking a checkpoint's tokenizer: every id that was there stays, and what is added is special."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from world import module

from model_runtime.cli import main
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import RequestError
from training.corpus.special_tokens import add_tokens, rows_needed, save_tokenizer, take_tokenizer
from training.corpus.tokenizer import load_tokenizer

# As Qwen2's tokenizer.json: NFC, the GPT-4 style split, byte-level BPE, special tokens behind the vocabulary.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ORDINARY = ("<|fim_prefix|>", "<tool_call>")  # added, but not special


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator([module(seed, 20) for seed in range(5)], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in ORDINARY])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "Qwen2Tokenizer", "pad_token": "<|endoftext|>", "chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"vocab_size": 640}))
    return folder


ROLES = {"mask": "<|mask|>", "pad": "<|dlm_pad|>", "expand": "<|expand|>", "delete": "<|endoftext|>"}


def test_new_tokens_get_the_next_ids_and_all_others_stay(checkpoint):
    before = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).get_vocab(with_added_tokens=True)
    taken, ids = take_tokenizer(checkpoint, ROLES)
    after = taken.get_vocab(with_added_tokens=True)
    assert {token: after[token] for token in before} == before
    first = max(before.values()) + 1
    assert ids == {"mask": first, "pad": first + 1, "expand": first + 2, "delete": before["<|endoftext|>"]}
    assert rows_needed(taken) == first + 3


def test_adding_again_changes_nothing(checkpoint):
    taken, ids = take_tokenizer(checkpoint, ROLES)
    text = taken.to_str()
    assert add_tokens(taken, ROLES) == ids
    assert taken.to_str() == text


@settings(max_examples=200, deadline=None)
@given(text=st.text() | st.text("<|mask>ax_ \n'1é", max_size=40) | st.sampled_from([*ROLES.values(), *ORDINARY]))
def test_texts_get_the_ids_they_had(checkpoint, text):
    taken, _ = take_tokenizer(checkpoint, ROLES)
    plain = load_tokenizer(checkpoint / "tokenizer.json")
    ids = taken.encode(text, add_special_tokens=False).ids
    assert ids == plain.encode(text, add_special_tokens=False).ids
    assert taken.decode(ids, skip_special_tokens=False) == plain.normalizer.normalize_str(text)


def test_saved_it_loads_in_the_runtime_and_in_transformers(checkpoint, tmp_path):
    from transformers import AutoTokenizer

    taken, ids = take_tokenizer(checkpoint, ROLES)
    save_tokenizer(tmp_path, taken, ids, checkpoint)
    ours = TextTokenizer(tmp_path / "tokenizer.json")
    assert {role: ours.id_of(token) for role, token in ROLES.items()} == ids
    assert ours.decode_bytes(ours.encode("x = '<|mask|>'\n")) == b"x = '<|mask|>'\n"
    assert ids["mask"] not in ours.encode("<|mask|>")
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    assert (theirs.mask_token_id, theirs.pad_token_id) == (ids["mask"], ids["pad"])
    assert theirs.chat_template == "{{ messages }}"
    assert theirs("def f(x):\n")["input_ids"] == ours.encode("def f(x):\n")
    special = json.loads((tmp_path / "special_ids.json").read_text())
    assert special == {f"{role}_token_id": number for role, number in ids.items()}


@pytest.mark.parametrize(
    ("spellings", "message"),
    [
        ({"mask": "<tool_call>"}, "ordinary token"),
        ({"mask": "Ġself"}, "ordinary token"),
        ({"mask": "<|a|>", "pad": "<|a|>"}, "share a spelling"),
        ({"mask": ""}, "is empty"),
        ({"msk": "<|mask|>"}, "did you mean mask"),
    ],
)
def test_what_would_break_ids_is_refused(checkpoint, spellings, message):
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    if spellings.get("mask") == "Ġself":
        spellings = {"mask": max(tokenizer.get_vocab(with_added_tokens=False), key=len)}
    with pytest.raises(RequestError, match=message):
        add_tokens(tokenizer, spellings)


def test_ids_with_a_gap_are_refused(tmp_path):
    values = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 2}, "unk_token": "a"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(RequestError, match="gaps"):
        take_tokenizer(tmp_path, {"mask": "<|mask|>"})


def test_the_command_takes_a_checkpoint(checkpoint, tmp_path, capsys):
    words = ["train", "tokenizer", "--take", str(checkpoint), "--add", "mask", "pad", "expand=<|grow|>"]
    assert main([*words, "--out", str(tmp_path / "t")]) == 0
    assert "has room" in capsys.readouterr().out
    first = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).get_vocab_size()
    assert load_tokenizer(tmp_path / "t" / "tokenizer.json").token_to_id("<|grow|>") == first + 2


def test_the_command_trains_one(tmp_path, capsys):
    for seed in range(6):
        (tmp_path / f"m{seed}.py").write_text(module(seed, 12))
    assert main(["train", "tokenizer", str(tmp_path), "--vocabulary", "500", "--out", str(tmp_path / "t")]) == 0
    tokenizer = load_tokenizer(tmp_path / "t" / "tokenizer.json")
    assert tokenizer.get_vocab_size() == 500
    assert tokenizer.decode(tokenizer.encode(module(9)).ids) == module(9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "t"], "give folders to train on"),
        (["no-such-folder", "--out", "t"], "there is no no-such-folder"),
        (["--take", "no-such-folder", "--out", "t"], "there is no tokenizer"),
        (["--take", "CHECKPOINT", "--add", "maks", "--out", "t"], "did you mean mask?"),
        (["EMPTY", "--out", "t"], "no text to train on"),
    ],
)
def test_bad_use_is_one_sentence(checkpoint, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    places = {"CHECKPOINT": str(checkpoint), "EMPTY": str(tmp_path / "empty")}
    assert main(["train", "tokenizer", *(places.get(word, word) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
