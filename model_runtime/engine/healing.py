"""Hole edges that fall inside a token.

The model was trained on whole tokens; a cursor does not care for them. Where an edge cuts a token, the piece of
it that is known is taken out of the context and its token is masked again, allowed only to be one that begins (or
ends) with the known piece. The piece itself is a token, so there is always one to choose.
"""

from __future__ import annotations

from model_runtime.models.tokenizer import TextTokenizer


def straddling_token(tokenizer: TextTokenizer, text: str, edge: int) -> tuple[int, int] | None:
    """The range of the token of `text` that has `edge` strictly inside, or None.

    Only the line of the edge is looked at: tokens of code seldom cross line ends.
    """
    start = text.rfind("\n", 0, edge) + 1
    end = text.find("\n", edge)
    line = text[start : len(text) if end < 0 else end][: edge - start + 256]
    if edge - start > 2000:  # a very long line: its near part will do
        line, start = line[edge - start - 1000 :], edge - 1000
    within = len(line[: edge - start].encode())
    position = 0
    for token in tokenizer.encode(line):
        width = len(tokenizer.token_bytes[token])
        if position < within < position + width:
            data = line.encode()
            left = data[position:within].decode(errors="ignore")
            right = data[within : position + width].decode(errors="ignore")
            return edge - len(left), edge + len(right)
        position += width
    return None


def head_to_heal(tokenizer: TextTokenizer, text: str, start: int, end: int, earliest: int) -> int:
    """How many characters before the hole [start, end) belong to a token that the hole begins in the midst of.

    Not only a cut token: a word that may go on (insertion after a letter), and a single space, which belongs to
    the word that follows it. Never reaches before `earliest`.
    """
    before = text[earliest:start]
    if not before or before[-1] == "\n":
        return 0
    cut = straddling_token(tokenizer, text, start)
    if cut is not None and cut[0] >= earliest:
        return start - cut[0]
    last = before[-1]
    if tokenizer.joins_blanks and last in " \t" and before[-2:-1] in (" ", "\t", "\n", ""):
        return 1  # of indentation, the last blank belongs to the word that follows
    lone_space = last == " " and not before[-2:-1].isspace() and len(before) > 1
    open_word = start == end and is_word(last)
    # where words and what stands before them share tokens (" return", ".append"), anything may go on
    open_token = tokenizer.joins_blanks and start == end
    if not (lone_space or open_word or open_token):
        return 0
    tokens = tokenizer.encode(before[before.rfind("\n") + 1 :][-256:])
    try:
        piece = tokenizer.token_bytes[tokens[-1]].decode()
    except UnicodeDecodeError:  # half a character: leave it be
        return 0
    return len(piece) if before.endswith(piece) else 0


def tail_to_heal(tokenizer: TextTokenizer, text: str, end: int, latest: int, words: bool = False) -> int:
    """How many characters after the hole's end belong to a token that the hole's end cuts; of `words` only, if so.

    Where tokens end in newlines (Qwen2's "):\\n"), those behind a hole that ends with its line belong to the hole's
    last token: left outside, they would be written twice.
    """
    if tokenizer.joins_line_ends and text[end : end + 1] == "\n" and end < latest:
        run = len(text[end:latest]) - len(text[end:latest].lstrip("\n"))
        return run if tokenizer.ending_with(b"\n" * run) else 1
    if words and not (is_word(text[end - 1 : end]) and is_word(text[end : end + 1])):
        return 0
    cut = straddling_token(tokenizer, text, end)
    if cut is None or cut[1] > latest or "\n" in text[end : cut[1]]:
        return 0
    return cut[1] - end


def is_word(character: str) -> bool:
    """Whether a character may be part of a word of code."""
    return character.isalnum() or character == "_"
