"""Text survives the tokenizer, and nothing in it is taken for a special token."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from world import module

from training.corpus.tokenizer import SPECIAL_TOKENS, encode_plain, load_tokenizer, train_tokenizer

VOCABULARY = 600


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([module(seed, functions=40) for seed in range(20)], VOCABULARY)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [text[start:end] for _, (start, end) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def test_special_ids_and_size(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == VOCABULARY
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert tokenizer.normalizer is None


def test_too_little_text_is_an_error() -> None:
    with pytest.raises(ValueError, match="were asked for"):
        train_tokenizer(["x = 1\n"], VOCABULARY)


def test_lines_indentation_words_and_digits_do_not_mix(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, "if x2:\n\n    return f(a_b, 12345)  # x\r\n\tnaïve = é\u00a0 ") == [
        "if", " x2", ":", "\n", "\n", "    ", "return", " f", "(", "a_b", ",", " 123", "45", ")", "  ", "#",
        " x", "\r\n", "\t", "naïve", " =", " é", "\u00a0", " ",
    ]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.text(" \t\r\n\fab_1(:é\u0301\u3000𝒳<|mask|>", max_size=40))
def test_encoding_loses_nothing_and_gives_no_special_id(tokenizer: Tokenizer, text: str) -> None:
    ids = encode_plain(tokenizer, text)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert all(index >= len(SPECIAL_TOKENS) for index in ids)


def test_a_newline_is_one_token_of_its_own(tokenizer: Tokenizer) -> None:
    newline = tokenizer.token_to_id("Ċ")
    assert encode_plain(tokenizer, "\n\n\n") == [newline] * 3
    assert [token for token in tokenizer.get_vocab() if "Ċ" in token and token not in ("Ċ", "čĊ")] == []


def test_the_spelling_of_a_special_token_is_text_after_loading(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    text = "mask = '<|mask|>' + \"<|endoftext|>\"\n"
    for ids in (loaded.encode(text).ids, encode_plain(loaded, text)):
        assert min(ids) >= len(SPECIAL_TOKENS)
        assert loaded.decode(ids, skip_special_tokens=False) == text
    raw = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert 2 in raw.encode(text).ids, "the file itself must know its special tokens"
