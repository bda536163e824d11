"""What a model is asked, as in the DiffuCoder paper (arXiv 2506.20639, tables 5 and 6), and the code in its answer."""

from __future__ import annotations

import ast

from training.conversations import Exchange
from training.corpus.clean import parse
from training.evaluation.benchmarks.problem import Problem

SYSTEM = "You are a helpful assistant."
OPENING = "Here is the code to solve this problem:\n```python\n"  # the answer's beginning, given to the model
FENCE = "```"
KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


def chat_prompt(problem: Problem) -> Exchange:
    """The user's turn, and the beginning of the answer."""
    if problem.shape == "complete":
        return Exchange(
            f"Please complete the following problem:\n{FENCE}\n{problem.prompt.strip()}\n{FENCE}\n", OPENING
        )
    return Exchange(f"{FENCE}\n{problem.prompt.strip()}\n{FENCE}\n", OPENING)


def program(problem: Problem, text: str, chat: bool) -> str:
    """The code to be graded, of what a model wrote after the prompt (or between prompt and suffix)."""
    if problem.shape == "infill":
        return problem.prompt + text + problem.suffix
    if chat:
        return problem.header + answer_code(text)
    cut = min((at for stop in problem.stops if (at := text.find(stop)) >= 0), default=len(text))
    text = text[:cut]
    if problem.shape == "complete":
        return parsing_lines(problem.prompt, text)
    return definitions(text)


def gold_program(problem: Problem) -> str | None:
    """The code that the benchmark's own answer makes; None where it has none."""
    if problem.gold is None:
        return None
    if problem.shape == "instruct":
        return problem.gold
    return problem.prompt + problem.gold + problem.suffix


def answer_code(text: str) -> str:
    """The code of an answer that goes on behind OPENING, or that opens a block of its own."""
    if f"{FENCE}python" in text:
        text = text.partition(f"{FENCE}python")[2]
    return definitions(text.partition(FENCE)[0])


def definitions(text: str) -> str:
    """The imports, definitions and assignments of the longest beginning of `text` that parses: no calls, no prints."""
    code = parsing_lines("", text)
    tree = parse(code)
    if tree is None:
        return text
    lines = code.split("\n")
    kept = []
    for node in tree.body:
        if isinstance(node, KEPT):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            kept.append("\n".join(lines[first - 1 : node.end_lineno]))
    return "\n".join(kept) + "\n" if kept else code


def parsing_lines(before: str, text: str) -> str:
    """`before` and as many whole lines of `text` as parse after it; all of `text` where no number of lines does."""
    lines = text.rstrip().split("\n")
    for count in range(len(lines), 0, -1):
        code = before + "\n".join(lines[:count]) + "\n"
        if parse(code) is not None:
            return code
    return before + text
