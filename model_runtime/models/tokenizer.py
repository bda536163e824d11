"""Text to token ids and back, for byte-level BPE tokenizers: a tokenizer.json, or Qwen2's vocab.json and merges.txt.

Works on bytes, because a token may hold half a character; a hole's text is put together from bytes and what forms
no character at its borders is left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from model_runtime.models.qwen_files import has_qwen_files, qwen_tokenizer
from model_runtime.protocol import ModelError


def byte_alphabet() -> dict[str, int]:
    """The character that byte-level BPE writes for each byte, reversed (Radford et al., GPT-2, 2019).

    Printable Latin-1 characters stand for themselves, the other bytes for characters from U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(0x100 + n): byte for n, byte in enumerate(others)})
    return table


class TextTokenizer:
    """A tokenizer with the bytes of every token at hand.

    `token_bytes[i]` is what token i stands for, empty for special tokens. `size` is the number of ids that have a
    meaning; a model's vocabulary may be larger. `control_ids` are added tokens like <|fim_prefix|>, which are text
    where they stand in a document and are never to be written. `line_ends` has the tokens with newlines in them
    and their bytes; Qwen2 has tokens like "):\\n". Text is not normalised, even if the tokenizer's file asks for it
    (Qwen2's for NFC): offsets count in the text as it is, and what is around a hole must come back as it was.
    """

    def __init__(self, path: Path):
        self._tokenizer = read_tokenizer(path)
        self._tokenizer.encode_special_tokens = True  # the text "<|mask|>" is eight characters like any others
        self._tokenizer.normalizer = None  # type: ignore[assignment]
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise ModelError(f"the tokenizer {path} has no tokens")
        self.size = max(vocabulary.values()) + 1
        added = self._tokenizer.get_added_tokens_decoder()
        alphabet = byte_alphabet()
        self.token_bytes: list[bytes] = [b""] * self.size
        self.text_ids: list[int] = []  # ids that stand for text
        self.control_ids: list[int] = []
        for token, i in vocabulary.items():
            if i in added and added[i].special:
                continue
            if i not in added and all(character in alphabet for character in token):
                self.token_bytes[i] = bytes(alphabet[character] for character in token)
            else:  # an added token is kept as text
                self.token_bytes[i] = token.encode()
                if i in added and token.startswith("<") and token.endswith(">"):
                    self.control_ids.append(i)
            if self.token_bytes[i]:
                self.text_ids.append(i)
        self.text_ids.sort()
        self.control_ids.sort()
        self.newline_id = self._tokenizer.token_to_id("Ċ")  # the byte 10 of the alphabet
        if self.newline_id is None or self.decode_bytes(self.encode("x")) != b"x":
            raise ModelError(f"the tokenizer {path} is no byte-level BPE, the only kind that is supported")
        self.line_ends = {i: self.token_bytes[i] for i in self.text_ids if b"\n" in self.token_bytes[i]}
        # how text is cut at its usual edges decides which edges of a hole need healing
        self.joins_line_ends = len(self.encode("x):\n")) < len(self.encode("x):")) + 1
        self.joins_blanks = any(
            self.token_bytes[i].startswith(b" ") and self.token_bytes[i].strip() for i in self.encode("        return")
        )

    def id_of(self, token: str) -> int | None:
        """The id of a token by its spelling, special tokens included."""
        return self._tokenizer.token_to_id(token)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, no special tokens added."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode_bytes(self, ids: list[int] | np.ndarray) -> bytes:
        """The bytes that a run of tokens stands for."""
        return b"".join(self.token_bytes[int(i)] for i in ids)

    def starting_with(self, head: bytes) -> list[int]:
        """Ids of text tokens whose bytes begin with `head`."""
        return [i for i in self.text_ids if self.token_bytes[i].startswith(head)]

    def ending_with(self, tail: bytes) -> list[int]:
        """Ids of text tokens whose bytes end with `tail`."""
        return [i for i in self.text_ids if self.token_bytes[i].endswith(tail)]


def read_tokenizer(path: Path) -> Tokenizer:
    """The library's tokenizer of `path`, or of the files beside it where there is no tokenizer.json."""
    if not path.is_file():
        if has_qwen_files(path.parent):
            return qwen_tokenizer(path.parent)
        raise ModelError(f"the model has no tokenizer: {path} is missing")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"the tokenizer {path} cannot be read: {error}") from error
