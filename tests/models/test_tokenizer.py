"""Text to ids and back without loss, whatever the text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from model_runtime.models.tokenizer import TextTokenizer, byte_alphabet
from model_runtime.protocol import ModelError

SPECIAL = ("<|pad|>", "<|bos|>", "<|mask|>", "<|expand|>", "<|endoftext|>")
TEXTS = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [
                *SPECIAL,
                "\r\n",
                "\n",
                "\t",
                "    ",
                "\ufeff",
                "é",
                "e\u0301",
                "🙂",
                "👩‍👩‍👧",
                "größer",
                "print_area(",
                " ",
            ]
        )
    ).map("".join),
)


def test_the_alphabet_names_every_byte_once():
    alphabet = byte_alphabet()
    assert sorted(alphabet.values()) == list(range(256))
    assert len(alphabet) == 256
    # as GPT-2 wrote them down: space, newline, tab, and what prints
    assert (alphabet["Ġ"], alphabet["Ċ"], alphabet["ĉ"], alphabet["a"], alphabet["é"]) == (32, 10, 9, 97, 0xE9)


def test_the_alphabet_is_the_librarys():
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(byte_alphabet()) == set(ByteLevel.alphabet())


@given(TEXTS)
def test_nothing_is_lost(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids).decode() == text
    assert set(ids) <= set(tokenizer.text_ids)


@given(st.lists(st.integers(5, 379)))
def test_bytes_are_those_of_the_library(tokenizer, ids):
    library = tokenizer._tokenizer.decode(ids)
    assert tokenizer.decode_bytes(ids).decode(errors="replace") == library


@pytest.mark.parametrize("spelling", SPECIAL)
def test_the_spelling_of_a_special_token_is_plain_text(tokenizer, spelling):
    number = tokenizer.id_of(spelling)
    assert number == SPECIAL.index(spelling)
    assert tokenizer.token_bytes[number] == b""
    assert number not in tokenizer.text_ids
    for text in (spelling, f"x = '{spelling}'\n", spelling * 3):
        assert number not in tokenizer.encode(text)
        assert tokenizer.decode_bytes(tokenizer.encode(text)).decode() == text


def test_every_id_is_special_or_has_bytes(tokenizer):
    assert tokenizer.size == 380
    assert tokenizer.text_ids == list(range(len(SPECIAL), 380))
    assert len({tokenizer.token_bytes[i] for i in tokenizer.text_ids}) == len(tokenizer.text_ids)
    assert {bytes([byte]) for byte in range(256)} <= set(tokenizer.token_bytes)
    assert tokenizer.token_bytes[tokenizer.newline_id] == b"\n"


@given(st.one_of(st.binary(min_size=1, max_size=3), st.sampled_from([b"print", b"re", " größer".encode(), b"    "])))
def test_tokens_by_their_first_and_last_bytes(tokenizer, piece):
    starting, ending = tokenizer.starting_with(piece), tokenizer.ending_with(piece)
    for i in tokenizer.text_ids:
        assert (i in starting) == (tokenizer.token_bytes[i][: len(piece)] == piece)
        assert (i in ending) == (tokenizer.token_bytes[i][-len(piece) :] == piece)


def test_added_tokens_that_are_not_special_are_text(tokenizer_path, tmp_path):
    """Their content is text and not the alphabet: "é" is two bytes, though the alphabet has it for byte 0xE9."""
    library = Tokenizer.from_file(str(tokenizer_path))
    added = ["<tool>", "é", "Ġ", "two words"]
    library.add_tokens([AddedToken(content, special=False, normalized=False) for content in added])
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = TextTokenizer(tmp_path / "tokenizer.json")
    for content in added:
        ids = tokenizer.encode(f"a{content}b")
        assert tokenizer.decode_bytes(ids).decode() == f"a{content}b"


def test_missing_and_spoilt_tokenizers_are_one_sentence(tokenizer_path, tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ModelError, match="is missing"):
        TextTokenizer(path)
    with pytest.raises(ModelError, match="is missing"):
        TextTokenizer(tmp_path)
    empty = json.loads(tokenizer_path.read_text())
    empty["model"] |= {"vocab": {}, "merges": []}
    empty["added_tokens"] = []
    for data in (b"", b"{}", b"\xff\xfe", tokenizer_path.read_bytes()[:300], json.dumps(empty).encode()):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"the tokenizer .*tokenizer\.json") as refused:
            TextTokenizer(path)
        assert "\n" not in str(refused.value)
