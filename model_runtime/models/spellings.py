"""The special tokens of a tokenizer by their spelling, read from its files; nothing of it is run."""

from __future__ import annotations

import json
from pathlib import Path

from model_runtime.protocol import ModelError


def token_spellings(folder: Path) -> dict[str, int]:
    """The added tokens' ids by their texts: of tokenizer.json, added_tokens.json and tokenizer_config.json.

    Nothing where the folder has none of these; ModelError for one that cannot be read.
    """
    spelled: dict[str, int] = {}
    for name in ("tokenizer.json", "added_tokens.json", "tokenizer_config.json"):
        path = folder / name
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if name == "tokenizer.json":
                found = {token["content"]: token["id"] for token in data.get("added_tokens", [])}
            elif name == "added_tokens.json":
                found = dict(data)
            else:
                listed = data.get("added_tokens_decoder", {})
                found = {token["content"]: int(number) for number, token in listed.items()}
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"the tokenizer {path} cannot be read: {error or type(error).__name__}") from error
        for token, number in found.items():
            spelled.setdefault(token, number)
    return spelled
