"""What is typed in the comparison: real code, a cursor in it, and one character more at every key."""

from __future__ import annotations

from dataclasses import dataclass

from model_runtime.commands.bench_cases import longest, longest_end, read_code
from model_runtime.models.tokenizer import TextTokenizer

BEFORE, AFTER, NEW = 512, 259, 32  # tokens: in front of the cursor, behind it, to be written
PREFIX, SUFFIX, MIDDLE = 5, 6, 7  # ids that stand for a fill in the middle's markers: any will do for random weights


@dataclass
class Case:
    """A text with the cursor at `at`, and the prompts that a causal model gets for it."""

    text: str
    at: int
    plain: list[int]  # prefix, suffix, and the middle to come
    suffix_first: list[int]


def typed(tokenizer: TextTokenizer, keys: int, place: float) -> list[Case]:
    """A case for each of `keys` keys: the text as it stood before the first, then a character more each time."""
    _, code = read_code()
    start = code.find("\n", int(len(code) * place)) + 1
    while len(code[start : code.find("\n", start)].strip()) < keys:  # a line with enough to type
        start = code.find("\n", start) + 1
    start += len(code[start:]) - len(code[start:].lstrip(" "))
    head = code[max(0, start - 8 * BEFORE) : start]
    prefix = head[len(head) - longest_end(tokenizer, head, BEFORE - 1) :]
    after = code[code.find("\n", start) :]
    suffix = after[: longest(tokenizer, after[: 8 * AFTER], AFTER)]
    cases = []
    for key in range(keys):
        before = prefix + code[start : start + key]
        one, other = tokenizer.encode(before), tokenizer.encode(suffix)
        plain = [PREFIX, *one, SUFFIX, *other, MIDDLE]
        cases.append(Case(before + suffix, len(before), plain, [SUFFIX, *other, PREFIX, *one, MIDDLE]))
    return cases
