"""Tokens over several files read as one array, whatever is asked for; quality rules by the tree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import module

from training.corpus import quality
from training.corpus.clean import parse
from training.corpus.pack import Pack
from training.corpus.shards import Shards, shard_name, token_type, write_shard
from training.corpus.tokenizer import load_tokenizer, train_tokenizer

parts = st.lists(st.lists(st.integers(0, 65535), max_size=9), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(parts, st.data())
def test_shards_read_as_the_whole(arrays, data):
    shards = Shards([np.array(values, np.uint16) for values in arrays])
    whole = np.array([value for values in arrays for value in values], np.uint16)
    assert len(shards) == len(whole)
    bound = st.none() | st.integers(-60, 60)
    for _ in range(5):
        wanted = slice(data.draw(bound), data.draw(bound))
        found = shards[wanted]
        assert found.dtype == np.uint16
        assert found.tolist() == whole[wanted].tolist()
    for place in (0, -1, len(whole) // 2):
        if len(whole):
            assert shards[place] == whole[place]
    with pytest.raises(IndexError):
        shards[len(whole)]


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("t") / "tokenizer.json"
    train_tokenizer([module(seed, 20) for seed in range(8)], 500).save(str(path))
    return path


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=50), min_size=1, max_size=8))
def test_what_is_packed_comes_out_again(texts, tokenizer_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    (folder / "work").mkdir()
    tokenizer = load_tokenizer(tokenizer_file)
    for number in range(0, len(texts), 3):
        write_shard(folder, number // 3, texts[number : number + 3], tokenizer)
    count = (len(texts) + 2) // 3
    lengths = np.concatenate([np.load(folder / "work" / f"lengths-{n:05d}.npy") for n in range(count)])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    shards = Shards([np.load(folder / shard_name(n), mmap_mode="r") for n in range(count)])
    pack = Pack(shards, offsets, len(texts))
    assert [tokenizer.decode(pack.document(n).tolist()) for n in range(len(texts))] == texts


def test_ids_beyond_sixteen_bits_get_a_wider_type():
    assert token_type(1 << 16) is np.uint16
    assert token_type((1 << 16) + 1) is np.uint32


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (module(0), None),
        ("import os\nfrom a import b\n__all__ = ['b']\nVERSION = '1'\n", "no code"),
        ("import os\n" + "".join(f"print(os.sep, {n})\n" for n in range(5)), None),
        ("class Error(Exception):\n    '''An error.'''\n", "no code"),
        ("def f():\n    ...\n\ndef g(x):\n    '''Docs.'''\n    raise NotImplementedError\n", "only stubs"),
        ("def f():\n    ...\n\ndef g(x):\n    return x\n", None),
        ("# a\n" * 30 + "def f(x):\n    return x\n", "mostly comments"),
        ("def f(x):\n" + "    x += 1\n" * 80 + "    return x\n", "repeats itself"),
    ],
)
def test_a_module_must_hold_something_to_learn(text, reason):
    tree = parse(text)
    assert tree is not None
    assert quality.reason_to_drop(text, tree) == reason
