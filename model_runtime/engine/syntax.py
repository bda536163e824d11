"""What a file's grammar says about it: how many syntax errors it has, and where its functions stand.

tree-sitter parses; each grammar is a PyPI package that carries its parser inside the wheel, so nothing is fetched
at run time. A grammar is imported when its language is first asked for. Offsets are Unicode code points, as
everywhere; tree-sitter counts UTF-8 bytes, and only this module knows.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from model_runtime.engine.syntax_table import EXTENSIONS, FUNCTION_QUERIES, GRAMMARS, NAMES
from model_runtime.protocol import Span

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Query

WHOLE = 100_000  # characters: a text up to this long is parsed whole, in some 10 ms
REACH = 40_000  # characters of a longer text that are parsed before and after the place that changes
TOP_LEVEL = re.compile(r"^[^\s)\]}#/*]", re.MULTILINE)  # an unindented line that neither closes nor comments
REST_OF_LINE = re.compile(r"[ \t]*;?[ \t]*(?:#[^\r\n]*)?\s*")  # what may follow a Python colon or docstring
WRAPPERS = ("decorated_definition", "export_statement", "template_declaration")
DECLARATIONS = ("lexical_declaration", "variable_declaration", "expression_statement")


def language_of(path: str | PurePath | None, language: str | None = None) -> str | None:
    """The language with a grammar here, by its name if one is given and else by the path's extension; else None.

    Names are those of editors and the usual short ones ("typescriptreact", "c++", "rs"). Headers (.h) are read as
    C++, whose grammar takes C as well.
    """
    if language:
        name = language.strip().lower()
        return name if name in GRAMMARS else NAMES.get(name)
    if path is None:
        return None
    extension = PurePath(path).suffix
    return "cpp" if extension in (".C", ".H") else EXTENSIONS.get(extension.lower())


@functools.cache
def load_grammar(language: str) -> Language:
    """The compiled grammar of one of GRAMMARS; KeyError for another name."""
    from tree_sitter import Language

    package, entry = GRAMMARS[language]
    return Language(getattr(importlib.import_module(package), entry)())


def parse(data: bytes, language: str) -> Node:
    """The root of the syntax tree of UTF-8 bytes."""
    from tree_sitter import Parser

    return Parser(load_grammar(language)).parse(data).root_node


def encode(text: str) -> bytes:
    """UTF-8, lone surrogates passed on: they are errors to the grammar, not to us."""
    return text.encode("utf-8", "surrogatepass")


def count_errors(text: str, language: str) -> int:
    """How many ERROR and MISSING nodes the tree of `text` has; KeyError for a language without a grammar."""
    errors, waiting = 0, [parse(encode(text), language)]
    while waiting:
        node = waiting.pop()
        if node.has_error:
            errors += node.is_error or node.is_missing
            waiting += node.children
    return errors


def parse_window(text: str, start: int, end: int) -> Span:
    """The part of `text` to parse when only [start, end) changes: all of it, up to WHOLE characters.

    Of a longer text it is REACH characters to both sides, from an unindented line to an unindented line where there
    is one. A cut can make errors of its own; they count alike before and after a change.
    """
    if len(text) <= WHOLE:
        return 0, len(text)
    low, high = max(0, start - REACH), min(len(text), end + REACH)
    if low > 0 and (line := TOP_LEVEL.search(text, low, start)):
        low = line.start()
    if high < len(text) and (line := TOP_LEVEL.search(text, high, high + REACH)):
        high = line.start()
    return low, high


def parses_no_worse(before_text: str, after_text: str, language: str) -> bool:
    """Whether `after_text` has at most as many errors as `before_text`, within the window around their difference."""
    low, high = 0, len(before_text)
    if high > WHOLE:
        first, last = changed_range(before_text, after_text)
        low, high = parse_window(before_text, first, last)
    after_high = high + len(after_text) - len(before_text)
    after = count_errors(after_text[low:after_high], language)
    return after == 0 or after <= count_errors(before_text[low:high], language)


def changed_range(before: str, after: str) -> Span:
    """The range of `before` that `after` replaces: what is left between their common start and common end."""

    def common(limit: int, same: Callable[[int], bool]) -> int:
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if same(middle) else (low, middle - 1)
        return low

    shorter = min(len(before), len(after))
    head = common(shorter, lambda n: after.startswith(before[:n]))
    tail = common(shorter - head, lambda n: after.endswith(before[len(before) - n :]))
    return head, len(before) - tail


@dataclass(frozen=True)
class FunctionRange:
    """A function with a body, in character offsets: start < signature_end <= body[0] <= body[1] <= end.

    `name` is qualified with dots: classes, namespaces and functions around it, a Go method's receiver. [start, end)
    includes decorators, `export` and `template <…>`. The signature ends after Python's colon, the opening brace or
    the arrow. `body` is what a rewrite replaces: without signature, braces, docstring, or the blanks at its edges (a
    blank body is all that stands between the braces). It is empty in `{}`, and in Python after a lone docstring.
    """

    name: str
    start: int
    end: int
    signature_end: int
    body: Span
    docstring: Span | None = None  # Python's


def functions(text: str, language: str) -> list[FunctionRange]:
    """Every named function with a body, in the order of their starts; KeyError for a language without a grammar.

    Functions without a name of their own (lambdas, callbacks) are not listed; those inside them are.
    """
    from tree_sitter import QueryCursor

    data = encode(text)
    matches = QueryCursor(load_query(language)).matches(parse(data, language))
    characters = character_offsets(text, data)
    found = [{name: nodes[0] for name, nodes in captures.items()} for _, captures in matches]
    found.sort(key=lambda match: (match["whole"].start_byte, -match["whole"].end_byte))
    ranges: list[FunctionRange] = []
    around: list[tuple[int, str]] = []  # end and name of what encloses the next one
    for match in found:
        whole = match["whole"]
        while around and around[-1][0] <= whole.start_byte:
            around.pop()
        name = ".".join(filter(None, (plain_name(match[key]) for key in ("receiver", "name") if key in match)))
        if "body" in match:
            qualified = ".".join([*(outer for _, outer in around), name])
            located = locate(text, characters, qualified, whole, match["body"])
            ranges += [located] if located and name else []
        if name:
            around.append((whole.end_byte, name))
    return sorted(ranges, key=lambda function: (function.start, -function.end))


@functools.cache
def load_query(language: str) -> Query:
    """The compiled query that captures a language's functions and what qualifies their names."""
    from tree_sitter import Query

    return Query(load_grammar(language), FUNCTION_QUERIES[language])


def character_offsets(text: str, data: bytes) -> Callable[[int], int]:
    """A function from an offset into `data`, UTF-8 of `text`, to the offset into `text`."""
    if len(data) == len(text):
        return lambda offset: offset
    starts = (np.frombuffer(data, np.uint8) & 0xC0) != 0x80  # bytes that begin a character
    counts = np.concatenate(([0], np.cumsum(starts)))
    return lambda offset: int(counts[offset])


def plain_name(node: Node) -> str:
    """A name as a dotted path, without type arguments, pointers and quotes; C's is dug out of its declarator."""
    while node.type.endswith("declarator") and node.named_child_count:
        node = node.child_by_field_name("declarator") or node.named_children[0]
    name = (node.text or b"").decode("utf-8", "replace")
    if node.type == "operator_cast":
        name = name.partition("(")[0]
    if "operator" not in name:
        shorter = re.sub(r"<[^<>]*>|\[[^\[\]]*\]|^\*", "", name)
        while shorter != name:
            name, shorter = shorter, re.sub(r"<[^<>]*>|\[[^\[\]]*\]|^\*", "", shorter)
    return re.sub(r"\s+", " ", name.replace("::", ".")).strip(" \"'")


def locate(text: str, characters: Callable[[int], int], name: str, node: Node, body: Node) -> FunctionRange | None:
    """The ranges of a function node; None where the body is neither braced nor behind a colon or an arrow."""
    outer = node
    while (parent := outer.parent) and (
        parent.type in WRAPPERS or (parent.type in DECLARATIONS and parent.named_child_count == 1)
    ):
        outer = parent
    start, end = characters(outer.start_byte), characters(outer.end_byte)
    low, high = characters(body.start_byte), characters(body.end_byte)
    if text[low : low + 1] == "{" and body.type != "object":
        closed = body.children[-1].type == "}" and not body.children[-1].is_missing
        inside = trim(text, low + 1, high - closed)
        return FunctionRange(name, start, end, low + 1, inside)
    marks = [child for child in (body.parent.children if body.parent else []) if child.type in (":", "=>")]
    if not marks:
        return None
    signature_end = characters(marks[-1].end_byte)
    if marks[-1].type == "=>":
        return FunctionRange(name, start, end, signature_end, (low, high))
    docstring = find_docstring(body, characters)
    begin = docstring[1] if docstring else signature_end
    rest = REST_OF_LINE.match(text, begin, max(begin, high))
    assert rest  # it matches nothing, too
    first = rest.end()
    inside = (first, high) if first < high else (begin, begin)
    return FunctionRange(name, start, max(end, begin), signature_end, inside, docstring)


def trim(text: str, start: int, end: int) -> Span:
    """[start, end) without the blanks at its edges, or as it is where it holds nothing else."""
    inside = text[start:end]
    if not inside.strip():
        return start, end
    return start + len(inside) - len(inside.lstrip()), start + len(inside.rstrip())


def find_docstring(block: Node, characters: Callable[[int], int]) -> Span | None:
    """The range of a Python block's docstring: a plain string that is its first statement."""
    statement = next((child for child in block.named_children if child.type != "comment"), None)
    if statement is None or statement.type != "expression_statement" or statement.named_child_count != 1:
        return None
    string = statement.named_children[0]
    if string.type not in ("string", "concatenated_string"):
        return None
    if re.match(rb"\w*[fFbBtT]", (string.text or b"").partition(b'"')[0].partition(b"'")[0]):
        return None
    return characters(string.start_byte), characters(string.end_byte)
