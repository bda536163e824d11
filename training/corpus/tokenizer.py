"""Byte-level BPE for code: lines, indentation and words never share a token."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 8192
SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|mask|>", "<|expand|>", "<|endoftext|>")  # ids 0 to 4

# First match wins. What no branch takes (there is nothing) would stand alone.
PIECES = "|".join(
    (
        r"\r?\n",
        r"[ \t]{2,}",
        r" ?[\p{L}_][\p{L}\p{N}_]*",
        r" ?\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}_]+",
        r"\s",
    )
)


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Learns a lossless byte-level BPE of `vocabulary` ids, special tokens included.

    Raises ValueError when the texts hold too few distinct pairs to reach `vocabulary`.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocabulary:
        raise ValueError(f"the texts gave {tokenizer.get_vocab_size()} tokens, {vocabulary} were asked for")
    return plain(tokenizer)


def plain(tokenizer: Tokenizer) -> Tokenizer:
    """Makes the spelling of a special token ordinary text. The setting is not saved: repeat it on loading."""
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Reads tokenizer.json such that no text can encode to a special id."""
    return plain(Tokenizer.from_file(str(path)))


def encode_plain(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text in which "<|mask|>" is eight characters like any others."""
    return plain(tokenizer).encode(text, add_special_tokens=False).ids
