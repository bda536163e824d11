"""Prompts in which a client wrote prefix and suffix with the marker texts of a model that it thinks it talks to.

Zed, twinny, Continue and llama.vscode's OpenAI mode do so. A prompt counts as marked only if it has every marker of one
format exactly once and in its order; anything else is code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# prefix, suffix, middle; the text before the prefix's marker is other files
FORMATS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # GLM
    ("<PRE> ", " <SUF>", " <MID>"),  # Code Llama
)
SUFFIX_FIRST = ("[SUFFIX]", "[PREFIX]")  # Codestral
FILE = re.compile(r"<\|file_sep\|>|<\|file_separator\|>|<file_sep>")
REPOSITORY = re.compile(r"(?:<\|repo_name\|>|<repo_name>)[^\n]*\n?")


@dataclass
class Marked:
    """A prompt taken apart: the code around the hole, other files' texts, and the path if the prompt names it."""

    before: str
    after: str = ""
    related: list[str] = field(default_factory=list)
    path: str | None = None


def take_apart(prompt: str) -> Marked:
    """The parts of a prompt; all of it is code before the hole where it has no markers."""
    for prefix, suffix, middle in FORMATS:
        at, then, last = prompt.find(prefix), prompt.find(suffix), prompt.find(middle)
        if 0 <= at < then < last and all(prompt.count(marker) == 1 for marker in (prefix, suffix, middle)):
            related, path = files_of(prompt[:at])
            before = prompt[at + len(prefix) : then] + prompt[last + len(middle) :]  # the middle may have begun
            return Marked(before, prompt[then + len(suffix) : last], related, path)
    suffix, prefix = SUFFIX_FIRST
    at = prompt.find(prefix)
    if prompt.startswith(suffix) and at > 0 and prompt.count(suffix) == 1 == prompt.count(prefix):
        return Marked(prompt[at + len(prefix) :], prompt[len(suffix) : at])
    return Marked(prompt)


def files_of(context: str) -> tuple[list[str], str | None]:
    """The other files in what stands before the prefix, and the name of the file that is being written.

    With separators, each file is a line with its name and its text; the last one is only a name: that of the file.
    """
    parts = FILE.split(REPOSITORY.sub("", context, count=1))
    lead, files = parts[0], parts[1:]
    path = None
    if files and "\n" not in files[-1].rstrip("\n") and files[-1].strip():
        path = files.pop().strip()
    texts = [lead, *(text.partition("\n")[2] for text in files)]
    return [text for text in texts if text.strip()], path
