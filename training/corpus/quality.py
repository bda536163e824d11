"""What a Python file must hold to teach anything, judged on its syntax tree."""

from __future__ import annotations

import ast

MAX_COMMENT_SHARE = 0.8  # of the lines with anything on them
MIN_DISTINCT_SHARE = 0.25  # of those lines, in files of REPEATING lines or more
REPEATING = 60
MIN_STATEMENTS = 5  # outside of imports, constants and docstrings, in a file without functions

Functions = (ast.FunctionDef, ast.AsyncFunctionDef)


def is_stub(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function's body is a docstring, pass, ... or raise NotImplementedError only."""
    for statement in function.body:
        if isinstance(statement, ast.Pass):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if isinstance(statement, ast.Raise) and "NotImplementedError" in ast.unparse(statement):
            continue
        return False
    return True


def does_something(statement: ast.stmt) -> bool:
    """Whether a statement is more than an import, a docstring or a constant that is assigned."""
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
        return False
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return False
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        return any(isinstance(node, ast.Call | ast.BinOp | ast.comprehension) for node in ast.walk(statement))
    return True


def reason_to_drop(text: str, tree: ast.Module) -> str | None:
    """The first rule that a module breaks, or None."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    comments = sum(line.startswith("#") for line in lines)
    if lines and comments / len(lines) > MAX_COMMENT_SHARE:
        return "mostly comments"
    if len(lines) >= REPEATING and len(set(lines)) / len(lines) < MIN_DISTINCT_SHARE:
        return "repeats itself"
    functions = [node for node in ast.walk(tree) if isinstance(node, Functions)]
    if functions and all(map(is_stub, functions)):
        return "only stubs"
    if not functions:
        statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
        if sum(map(does_something, statements)) < MIN_STATEMENTS:
            return "no code"
    return None
