"""Prompts of models that follow instructions, and the code in their answers.

The formats are those of the checkpoints' chat templates, written down: a template that comes with a checkpoint is a
program, and is not run. Text of the user's never becomes a special token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import ModelError, TokenInfo

BEGIN, END = ">>> begin of the part", "<<< end of the part"
TELLING = 3  # letters and digits that a line needs to count as a repetition of context


@dataclass(frozen=True)
class Chat:
    """A prompt up to the assistant's first word, {user} in it, and the tokens that end an answer."""

    prompt: str
    ends: tuple[str, ...]


CHATS = {
    "chatml": Chat(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
        "<|im_start|>assistant\n",
        ("<|im_end|>", "<|endoftext|>", "<|dlm_pad|>"),
    ),
    "llada": Chat(
        "<|startoftext|><|start_header_id|>user<|end_header_id|>\n\n{user}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ("<|eot_id|>", "<|endoftext|>"),
    ),
    "seed": Chat(
        "<[begin▁of▁sentence]>system\nYou are an AI programming assistant.\n\n<[end▁of▁sentence]>"
        "<[begin▁of▁sentence]>user\n{user}<[end▁of▁sentence]><[begin▁of▁sentence]>assistant\n",
        ("<[end▁of▁sentence]>", "<[PAD▁TOKEN]>"),
    ),
}
MARKS = re.compile(r"(<\|[a-z_]+\|>|<\[[a-z▁]+\]>|\{user\})")


def chat_ids(tokenizer: TextTokenizer, chat: str, user: str, begun: str) -> list[int]:
    """The tokens of a prompt with what the user says and how the answer begins; ModelError if a mark is no token."""
    ids: list[int] = []
    pieces = MARKS.split(CHATS[chat].prompt)
    pieces[-1] += begun  # whatever is in it, a mark in it is text
    for piece in pieces:
        if piece == "{user}":
            ids += tokenizer.encode(user)
        elif MARKS.fullmatch(piece):
            number = tokenizer.id_of(piece)
            if number is None:
                raise ModelError(f"the tokenizer has no {piece}, which the model's prompts need")
            ids.append(number)
        else:
            ids += tokenizer.encode(piece)
    return ids


def end_ids(tokenizer: TextTokenizer, chat: str) -> list[int]:
    """The tokens that end an answer, of those that the tokenizer has."""
    return [number for token in CHATS[chat].ends if (number := tokenizer.id_of(token)) is not None]


def asked(instruction: str, language: str, before: str, part: str, after: str) -> str:
    """What the user says: the instruction, and the file with the part marked."""
    gap = "" if part.endswith("\n") else "\n"
    return (
        f"Rewrite the marked part of this file as follows: {instruction.strip()}\n\n```{language}\n{before}"
        f"{BEGIN}\n{part}{gap}{END}\n{after}\n```\n\n"
        "Answer with the new text of the marked part and nothing else, in one code block."
    )


Marked = list[tuple[str, int]]  # characters, and the token that each came with; -1 for none


def marked(text: str, tokens: list[TokenInfo]) -> Marked:
    """A text's characters with the numbers of their tokens."""
    owners = [-1] * len(text)
    for number, token in enumerate(tokens):
        owners[token.start : token.end] = [number] * (token.end - token.start)
    return list(zip(text, owners, strict=True))


def unmarked(characters: Marked, tokens: list[TokenInfo]) -> tuple[str, list[TokenInfo]]:
    """The text, and where in it the tokens are now."""
    infos: list[TokenInfo] = []
    last = -1
    for at, (_, owner) in enumerate(characters):
        if owner < 0:
            last = -1
            continue
        if owner == last:
            infos[-1].end = at + 1
        else:
            infos.append(TokenInfo(at, at + 1, tokens[owner].confidence, tokens[owner].step))
        last = owner
    return text_of(characters), infos


def text_of(characters: Marked) -> str:
    """The characters alone."""
    return "".join(character for character, _ in characters)


def fenced(characters: Marked) -> Marked:
    """The code of an answer that began inside a fence: of the first block that holds anything, up to its end."""
    block: Marked = []
    inside = True
    for line in lines_of(characters):
        text = text_of(line)
        if text.startswith("```"):
            if inside and text_of(block).strip():
                return block
            inside = not inside or len(text.strip()) > 3  # a fence with a language opens a block, whatever was before
            block = []
        elif inside:
            block += [*line, ("\n", -1)]
    return block[:-1] if text_of(block).strip() else []


def lines_of(characters: Marked) -> list[Marked]:
    """The lines, without their ends."""
    lines: list[Marked] = [[]]
    for one in characters:
        if one[0] == "\n":
            lines.append([])
        else:
            lines[-1].append(one)
    return lines


def aligned(characters: Marked, before: str, part: str, after: str) -> Marked:
    """Code of an answer as it stands in the place of `part`, with plain newlines.

    Lines that only repeat what stands around the part are left out; indentation is that of the part; a final line end
    is there if the part has one.
    """
    lines = [line for line in lines_of(characters) if text_of(line).strip() not in (BEGIN, END)]
    while lines and not text_of(lines[0]).strip():
        del lines[0]
    while lines and not text_of(lines[-1]).strip():
        del lines[-1]
    shown = [text_of(line).strip() for line in lines]
    lines = lines[repeated(shown, [line.strip() for line in before.split("\n")[:-1]]) :]
    shown = [text_of(line).strip() for line in lines]
    following = after if part.endswith("\n") else after.removeprefix("\n") if after.startswith("\n") else ""
    behind = [line.strip() for line in following.split("\n")]
    lines = lines[: len(lines) - repeated(shown[::-1], behind[::-1])]
    if not lines:
        return []
    begun = before[before.rfind("\n") + 1 :]  # of the line that the part begins in
    first = next((line for line in part.split("\n") if line.strip()), "")
    wanted = begun if begun and not begun.strip() else first[: len(first) - len(first.lstrip())]
    has = min((indentation(line) for line in lines if text_of(line).strip()), key=len, default="")
    out: Marked = []
    for n, line in enumerate(lines):
        bare = line[len(has) :] if text_of(line).startswith(has) else line
        own = "" if not text_of(bare).strip() or (n == 0 and begun) else wanted
        out += [*((character, -1) for character in own), *bare, ("\n", -1)]
    return out if part.endswith("\n") else out[:-1]


def indentation(line: Marked) -> str:
    """The blanks that a line begins with."""
    text = text_of(line)
    return text[: len(text) - len(text.lstrip())]


def repeated(lines: list[str], context: list[str]) -> int:
    """How many of the first lines are, in order, the last ones of the context; they must say something."""
    for count in range(min(len(lines) - 1, len(context)), 0, -1):
        if lines[:count] == context[-count:] and sum(c.isalnum() for c in "".join(lines[:count])) >= TELLING:
            return count
    return 0
