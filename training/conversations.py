"""Instructions and answers: from jsonl or parquet files, or from documented functions of a packed corpus.

A prompt is laid out in ChatML, as Qwen2.5-Coder's chat template does. Text never becomes a special token.
"""

from __future__ import annotations

import ast
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_runtime.models.tokenizer import TextTokenizer
from training.corpus.pack import load_pack
from training.errors import TrainingError
from training.jsonl import read_jsonl
from training.rows import Conversation

MAX_LINES = 24  # of a function that becomes an answer

# The same layout for readers that render a template.
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)


@dataclass(frozen=True)
class Exchange:
    """A prompt and its answer as text."""

    prompt: str
    answer: str


def read_exchanges(path: Path) -> Iterator[Exchange]:
    """The exchanges of a jsonl or parquet file; TrainingError for a record of unknown fields."""
    if not path.is_file():
        raise TrainingError(f"there are no conversations at {path}")
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            records: list[Any] = pyarrow.parquet.read_table(path).to_pylist()
        else:
            records = read_jsonl(path)
        for number, record in enumerate(records, 1):
            yield exchange_of(record, f"{path.name}, record {number}")
    except json.JSONDecodeError as error:
        raise TrainingError(f"{path} is not jsonl: {error}") from error


def exchange_of(record: dict[str, Any], where: str) -> Exchange:
    """An exchange from the fields that public instruction sets use: messages, instruction/output, MBPP's."""
    if "messages" in record:
        turns = {message["role"]: message["content"] for message in record["messages"]}
        if "user" in turns and "assistant" in turns:
            return Exchange(turns["user"], turns["assistant"])
    for prompt, answer in (("prompt", "response"), ("instruction", "output"), ("prompt", "completion")):
        if prompt in record and answer in record:
            return Exchange(record[prompt], record[answer])
    if "text" in record and "code" in record:  # MBPP: the first test says what the function is called
        tests = record.get("test_list") or []
        prompt = record["text"] + (f"\nTest case: {tests[0]}" if tests else "")
        return Exchange(prompt, fenced(record["code"].replace("\r\n", "\n")))
    raise TrainingError(f"{where} is no conversation: it has {', '.join(record)}")


def fenced(code: str) -> str:
    """Code as an answer shows it."""
    return f"```python\n{code.strip()}\n```"


def documented_functions(text: str) -> Iterator[Exchange]:
    """The functions of a module that have a docstring: asked for by name, arguments and its first paragraph."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    lines = text.splitlines()
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or len(node.body) < 2 or node.decorator_list:
            continue
        documented, end = ast.get_docstring(node), node.end_lineno or node.lineno
        if not documented or end - node.lineno > MAX_LINES:
            continue
        first, rest = node.body[0], node.body[1]
        header = lines[node.lineno - 1 : first.lineno - 1]
        body = lines[(first.end_lineno or first.lineno) : end]
        if not header or rest.lineno <= (first.end_lineno or first.lineno):
            continue
        about = " ".join(documented.split("\n\n")[0].split())
        signature = f"{node.name}({ast.unparse(node.args)})"
        answer = textwrap.dedent("\n".join([*header, *body]))
        yield Exchange(f"Write a Python function `{signature}`: {about}", fenced(answer))


def exchanges_of_pack(folder: Path, validation: bool = False) -> Iterator[Exchange]:
    """The documented functions of a pack's training (or validation) documents, in order."""
    pack, tokenizer = load_pack(folder), TextTokenizer(folder / "tokenizer.json")
    first, last = (pack.validation_from, len(pack)) if validation else (0, pack.validation_from)
    for index in range(first, last):
        yield from documented_functions(tokenizer.decode_bytes(pack.document(index)).decode("utf-8", "replace"))


def lay_out(exchange: Exchange, tokenizer: TextTokenizer, system: str) -> Conversation:
    """An exchange as token ids in ChatML; the answer ends with <|im_end|>."""
    start, end = tokenizer.id_of("<|im_start|>"), tokenizer.id_of("<|im_end|>")
    if start is None or end is None:
        raise TrainingError("the tokenizer has no <|im_start|> and <|im_end|>; run adapt first")

    def turn(role: str, content: str) -> list[int]:
        return [start, *tokenizer.encode(f"{role}\n{content}"), end, *tokenizer.encode("\n")]

    opening = [start, *tokenizer.encode("assistant\n")]
    prompt = turn("system", system) + turn("user", exchange.prompt) + opening
    return Conversation(prompt, [*tokenizer.encode(exchange.answer), end])
