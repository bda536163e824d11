"""Takes a checkpoint's tokenizer and adds the tokens that masked diffusion needs; every id that was there stays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from model_runtime.protocol import RequestError
from training.corpus.store import make_folder, replacing, write_json
from training.corpus.tokenizer import plain
from training.recipe import nearest

# Spellings where a recipe gives none. The text that deletes is, as in DreamOn, the end of text where there is one.
ROLES = {"mask": "<|mask|>", "pad": "<|dlm_pad|>", "expand": "<|expand|>", "delete": "<|endoftext|>"}
CONFIG_KEYS = {"mask": "mask_token", "pad": "pad_token"}  # those that tokenizer_config.json has a name for


def tokenizer_file(path: Path) -> Path:
    """The tokenizer.json of a checkpoint's folder, or `path` itself."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise RequestError(f"there is no tokenizer {file}")
    return file


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a checkpoint's folder or file; RequestError when it cannot be read."""
    file = tokenizer_file(path)
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise RequestError(f"the tokenizer {file} cannot be read: {error}") from error


def add_tokens(tokenizer: Tokenizer, spellings: Mapping[str, str]) -> dict[str, int]:
    """Adds a special token for each role whose spelling is new, in the order given; returns the ids of all roles.

    A spelling that is a special token already keeps its id. RequestError when it is an ordinary token, which would
    then stand in texts, or when two roles share a spelling.
    """
    for role in spellings:
        if role not in ROLES:
            raise RequestError(f"there is no role {role!r} of a token{nearest(role, ROLES)}")
    if len(set(spellings.values())) < len(spellings):
        raise RequestError(f"two roles share a spelling: {', '.join(f'{r}={s}' for r, s in spellings.items())}")
    before = tokenizer.get_vocab(with_added_tokens=True)
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    for role, spelling in spellings.items():
        if not spelling:
            raise RequestError(f"the spelling of {role} is empty")
        if spelling in before and spelling not in special:
            raise RequestError(f"{spelling!r} is an ordinary token of this tokenizer: spell {role} in another way")
        if spelling not in before:
            tokenizer.add_special_tokens([AddedToken(spelling, special=True, normalized=False)])
    after = tokenizer.get_vocab(with_added_tokens=True)
    moved = [token for token, number in before.items() if after.get(token) != number]
    if moved or len(set(after.values())) < len(after):
        raise RequestError("this tokenizer's ids have gaps, so that a new token would take the id of an old one")
    return {role: after[spelling] for role, spelling in spellings.items()}


def take_tokenizer(path: Path, spellings: Mapping[str, str]) -> tuple[Tokenizer, dict[str, int]]:
    """The tokenizer of a checkpoint with the tokens of `spellings` added, and the ids of their roles."""
    tokenizer = read_tokenizer(path)
    ids = add_tokens(tokenizer, spellings)
    return plain(tokenizer), ids


def rows_needed(tokenizer: Tokenizer) -> int:
    """Rows that an embedding must have: one more than the largest id."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def model_rows(path: Path) -> int | None:
    """vocab_size of the checkpoint that a tokenizer was taken from; None where there is no config.json."""
    file = tokenizer_file(path).with_name("config.json")
    try:
        value = json.loads(file.read_text("utf-8")).get("vocab_size")
    except (OSError, ValueError, AttributeError):
        return None
    return value if isinstance(value, int) else None


def save_tokenizer(folder: Path, tokenizer: Tokenizer, ids: Mapping[str, int], taken_from: Path | None = None) -> None:
    """Writes tokenizer.json, tokenizer_config.json (of the source, brought up to date) and special_ids.json.

    special_ids.json has the keys of a model's config.json: mask_token_id and so on.
    """
    make_folder(folder)
    with replacing(folder / "tokenizer.json") as file:
        file.write(tokenizer.to_str(pretty=True).encode())
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if taken_from is not None:
        source = tokenizer_file(taken_from).with_name("tokenizer_config.json")
        if source.is_file():
            try:
                config = json.loads(source.read_text("utf-8"))
            except ValueError as error:
                raise RequestError(f"{source} is not JSON: {error}") from error
    decoder = config.setdefault("added_tokens_decoder", {})
    for number, token in sorted(tokenizer.get_added_tokens_decoder().items()):
        facts = {"lstrip": token.lstrip, "rstrip": token.rstrip, "normalized": token.normalized}
        decoder.setdefault(
            str(number),
            {"content": token.content} | facts | {"single_word": token.single_word, "special": token.special},
        )
    for role, key in CONFIG_KEYS.items():
        if role in ids:
            config[key] = tokenizer.id_to_token(ids[role])
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_ids.json", {f"{role}_token_id": number for role, number in ids.items()})
