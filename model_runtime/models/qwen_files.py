"""A tokenizer from the files that Dream's checkpoints have in the place of tokenizer.json.

These are vocab.json, merges.txt and the added tokens. They come with Python code that reads them, which is never run;
what it does is Qwen2's byte-level BPE.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from model_runtime.models.spellings import token_spellings
from model_runtime.protocol import ModelError

# How Qwen2 cuts text before BPE: contractions, words with what stands before them, single digits, punctuation with the
# line ends behind it, line ends with the blanks before them, blanks but the last of a run, blanks.
CUTS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def has_qwen_files(folder: Path) -> bool:
    """Whether a folder has a vocabulary and merges."""
    return (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()


def qwen_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder with these files; ModelError if they do not fit together."""
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"the tokenizer in {folder} cannot be read: {error}") from error
    tokenizer = Tokenizer(model)
    cut = pre_tokenizers.Split(Regex(CUTS), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    plain = not_special(folder)
    for token, number in sorted(token_spellings(folder).items(), key=lambda item: item[1]):
        tokenizer.add_tokens([AddedToken(token, special=token not in plain, normalized=False)])
        if tokenizer.token_to_id(token) != number:
            raise ModelError(
                f"the tokenizer in {folder} gives {token} the id {number}, which its vocabulary does not reach"
            )
    return tokenizer


def not_special(folder: Path) -> set[str]:
    """The added tokens that tokenizer_config.json calls not special."""
    try:
        listed = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["added_tokens_decoder"]
    except (OSError, KeyError):
        return set()
    return {token["content"] for token in listed.values() if not token.get("special")}
