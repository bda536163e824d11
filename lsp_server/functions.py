"""Which part of a file is meant: the function, class or block at an offset, and what waits to be filled.

Offsets are characters. Functions and blocks come from the grammar where the language has one; blocks of other
languages come from indentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from model_runtime.engine.syntax import FunctionRange, character_offsets, encode, functions, parse, trim
from model_runtime.protocol import Span

if TYPE_CHECKING:
    from tree_sitter import Node

MARKER = re.compile(re.escape("<FILL>"))
NAME = "_FILL_"  # stands for a marker where a grammar reads the text, which would stumble over it; of the same length
CLASS_TYPES = """
class class_definition class_declaration abstract_class_declaration interface_declaration enum_declaration
record_declaration class_specifier struct_specifier union_specifier struct_item enum_item impl_item trait_item
type_declaration
"""
CLASSES = frozenset(CLASS_TYPES.split())
BLOCKS = frozenset(("block", "statement_block", "compound_statement"))
# What a function's body may be, in each language, where it only holds the place.
HASH_TODO = r"#[ \t]*(?:TODO|FIXME)\b[^\r\n]*"
SLASH_TODO = r"(?://[ \t]*(?:TODO|FIXME)\b[^\r\n]*|/\*\s*(?:TODO|FIXME)\b(?:(?!\*/)(?s:.))*\*/)"
PLACEHOLDERS = {
    "python": rf"\.\.\.(?:[ \t]*#[^\r\n]*)?|pass[ \t]*{HASH_TODO}|{HASH_TODO}\s+(?:pass|\.\.\.)"
    r"|raise[ \t]+NotImplementedError(?:\([^()\r\n]*\))?(?:[ \t]*#[^\r\n]*)?",
    "javascript": rf"{SLASH_TODO}|throw\s+new\s+Error\(\s*([\"'`])[^\"'`]*not\s+implemented[^\"'`]*\1\s*\)\s*;?",
    "go": rf"{SLASH_TODO}|panic\(\s*([\"`])(?:TODO|[^\"`]*(?:not |un)implemented)[^\"`]*\1\s*\)",
    "rust": rf"{SLASH_TODO}|(?:todo|unimplemented)!\([^()\r\n]*\)\s*;?",
    "java": rf"{SLASH_TODO}|throw\s+new\s+UnsupportedOperationException\([^()\r\n]*\)\s*;",
    "c": SLASH_TODO,
    "cpp": rf"{SLASH_TODO}|throw\s+std::(?:logic|runtime)_error\(\s*\"[^\"]*not\s+implemented[^\"]*\"\s*\)\s*;",
}
PLACEHOLDERS["typescript"] = PLACEHOLDERS["tsx"] = PLACEHOLDERS["javascript"]
FINISHED = re.compile(r"@(?:[\w.]+\.)?(?:abstractmethod|overload)\b")  # "..." is all that such a function has
PROTOCOL = re.compile(r"[(,][ \t]*(?:\w+\.)*Protocol\b")  # among the bases of a class, whose methods are declared only


def enclosing_function(text: str, language: str, offset: int) -> FunctionRange | None:
    """The innermost function that holds an offset, its signature and decorators included."""
    listed = functions(MARKER.sub(NAME, text), language)
    around = [function for function in listed if function.start <= offset <= function.end]
    return max(around, key=lambda function: (function.start, -function.end), default=None)


def enclosing_class(text: str, language: str, offset: int) -> Span | None:
    """The innermost class, or what the language has in its place, that holds an offset."""
    data = encode(MARKER.sub(NAME, text))
    characters = character_offsets(text, data)
    byte = len(encode(text[:offset]))
    inner = None
    for node in walk(parse(data, language)):
        if node.type in CLASSES and node.start_byte <= byte <= node.end_byte:
            inner = characters(node.start_byte), characters(node.end_byte)
    return inner


def enclosing_block(text: str, language: str | None, offset: int) -> Span | None:
    """What *Regenerate block* replaces: the statements of the innermost block at an offset, without blanks around.

    On the line that opens a block it is that block. Outside of all blocks, between the members of a class, and
    without a grammar, it is the lines around the offset up to an empty one or one that is indented less. None where
    there is nothing.
    """
    span = None if language is None else grammar_block(text, language, offset)
    if span is None:
        return indented_lines(text, offset)
    start, end = span
    return span if text[start:end].strip() else None


def grammar_block(text: str, language: str, offset: int) -> Span | None:
    """The inside of the block that is opened on the line of an offset, or else of the innermost around it."""
    data = encode(MARKER.sub(NAME, text))
    characters = character_offsets(text, data)
    byte = len(encode(text[:offset]))
    first, last = line_span(text, offset)
    around = opened = both = None
    for node in walk(parse(data, language)):
        if node.type not in BLOCKS or (node.parent and node.parent.type in CLASSES):
            continue
        opener = opener_of(node)
        span = characters(node.start_byte), characters(node.end_byte)
        if text.startswith("{", span[0]):
            span = trim(text, span[0] + 1, span[1] - text[: span[1]].endswith("}"))
        holds = node.start_byte <= byte <= node.end_byte
        here = first <= characters(opener) <= last
        around = span if holds else around
        opened = span if here else opened
        both = span if holds and here else both
    return both or opened or around


def opener_of(block: Node) -> int:
    """The byte where a block is opened: its brace, or Python's colon."""
    colon = block.prev_sibling
    while colon is not None and colon.type != ":":
        colon = colon.prev_sibling
    return block.start_byte if colon is None or block.type != "block" else colon.start_byte


def walk(root: Node) -> Iterator[Node]:
    """A node and all named ones below it, in the order of the text."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(node.named_children)


def line_span(text: str, offset: int) -> Span:
    """The line of an offset, without its line end."""
    start = max(text.rfind("\n", 0, offset), text.rfind("\r", 0, offset)) + 1
    return start, offset + len(re.split(r"[\r\n]", text[offset:], maxsplit=1)[0])


def indented_lines(text: str, offset: int) -> Span | None:
    """The lines around an offset up to an empty one or one that is indented less; None on an empty line."""
    first, last = line_span(text, offset)
    line = text[first:last]
    if not line.strip():
        return None

    def depth(line: str) -> int:
        return len(line) - len(line.lstrip()) if line.strip() else -1

    least = depth(line)
    start, end = first, last
    while start > 0:
        before = line_span(text, start - 2 if text[start - 2 : start] == "\r\n" else start - 1)
        if depth(text[slice(*before)]) < least:
            break
        start = before[0]
    while end < len(text):
        after = line_span(text, end + 2 if text[end : end + 2] == "\r\n" else end + 1)
        if depth(text[slice(*after)]) < least:
            break
        end = after[1]
    return trim(text, start, end)


def find_markers(text: str) -> list[Span]:
    """The range of every <FILL>."""
    return [marker.span() for marker in MARKER.finditer(text)]


def unfinished_functions(text: str, language: str) -> list[Span]:
    """What is to be filled in functions that are only sketched: `...`, `pass  # TODO`, `raise NotImplementedError`.

    Other languages have their own ways (`todo!()`, a comment that begins with TODO, an error that says so). Where a
    body stands on the line of its signature, the hole begins right after the signature. What has no body by intent,
    as abstract methods, overloads and protocols, is left out.
    """
    pattern = PLACEHOLDERS.get(language)
    if pattern is None:
        return []
    placeholder = re.compile(pattern)
    holes = []
    for function in functions(MARKER.sub(NAME, text), language):
        start, end = sketched_body(text, language, function)
        if placeholder.fullmatch(text, start, end) and not declared_only(text, language, function):
            same_line = language == "python" and not re.search(r"[\r\n]", text[function.signature_end : start])
            holes.append((function.signature_end if same_line else start, end))
    return holes


def sketched_body(text: str, language: str, function: FunctionRange) -> Span:
    """A function's body with the comments in it; Python's grammar leaves some at its edges out."""
    start, end = function.body
    if language != "python":
        return start, end
    if comment := re.compile(r"[ \t]*#[^\r\n]*").match(text, end):
        end = comment.end()
    between = function.docstring[1] if function.docstring else function.signature_end
    if comment := re.compile(rf"\s*({HASH_TODO})\s*").fullmatch(text, between, start):
        start = comment.start(1)
    return start, end


def declared_only(text: str, language: str, function: FunctionRange) -> bool:
    """Whether a Python function is abstract, an overload, or a protocol's method."""
    if language != "python":
        return False
    if FINISHED.search(text, function.start, function.signature_end):
        return True
    around = enclosing_class(text, language, function.start) if "." in function.name else None
    return around is not None and PROTOCOL.search(re.split(r":\s*[\r\n]", text[around[0] : around[1]])[0]) is not None


def find_holes(text: str, language: str | None, within: Span | None = None, path: str | None = None) -> list[Span]:
    """What *Fill holes* fills: markers and unfinished functions, in order; `within` keeps those that it touches.

    A stub file's functions are as they should be; only its markers count.
    """
    holes = find_markers(text)
    if language is not None and not (path or "").endswith(".pyi"):
        holes += [span for span in unfinished_functions(text, language) if not MARKER.search(text[span[0] : span[1]])]
    low, high = within or (0, len(text))
    return [(start, end) for start, end in sorted(holes) if start <= high and low <= end]
