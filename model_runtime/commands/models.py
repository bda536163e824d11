"""`diffill models`: which models there are, and what one of them is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from model_runtime.catalog.catalog import find_model
from model_runtime.commands.convert import add_convert, converted, run_convert
from model_runtime.commands.machine import readable
from model_runtime.commands.options import Parser
from model_runtime.models.families import positive, read_facts
from model_runtime.protocol import ModelError

EXAMPLES = """\
examples:
  diffill models list                      the models that have a name
  diffill models info embedded             the model that comes with diffill
  diffill models info ./my-model --json    a folder with config.json, tokenizer.json
                                           and model.onnx or safetensors
  diffill models convert ./my-model        8 bits for a CPU, which needs no torch to run

Wherever a command takes --model, a folder's path will do. A path with a slash
is never taken for a name.
"""
NAMED = ("embedded",)
CARDS = ("MODEL_CARD.md", "README.md")
WEIGHTS = ("model.onnx", "model.safetensors", "model.safetensors.index.json")
SPECIAL = ("mask", "bos", "eos", "pad", "expand", "delete")


def make_parser() -> Parser:
    """Return the parser of `diffill models`."""
    parser = Parser(prog="diffill models", description="List models, or describe one.", epilog=EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="list|info|convert", required=True)
    listing = actions.add_parser("list", help="the models that have a name")
    info = actions.add_parser("info", help="what a model is, and how it is best decoded")
    info.add_argument("model", metavar="NAME|PATH", help="a model's name or folder")
    for action in (listing, info):
        action.add_argument("--json", action="store_true", help="print JSON")
    add_convert(actions)
    return parser


def main(argv: list[str]) -> int:
    """Run `diffill models ARGV…` and return the exit code."""
    args = make_parser().parse_args(argv)
    if args.action == "list":
        about = [describe(name) for name in NAMED]
        print(json.dumps(about) if args.json else listed(about))
    elif args.action == "convert":
        made = run_convert(args)
        print(json.dumps(made) if args.json else converted(made))
    else:
        one = describe(args.model)
        print(json.dumps(one) if args.json else described(one))
    return 0


def describe(model: str) -> dict[str, Any]:
    """Return what the folder of a model says about it, as JSON values; ModelError if it is no model."""
    folder = find_model(model)
    facts = read_facts(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    spellings = token_spellings(folder)
    ids = {name: config.get(f"{name}_token_id") for name in SPECIAL}
    can_expand = facts.expand_id is not None and facts.delete_id is not None
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    card = next((folder / name for name in CARDS if name in files), None)
    return {
        "name": model if model in NAMED else facts.name,
        "folder": str(folder),
        "architecture": config["model_type"],
        "parameters": count_parameters(config, folder),
        "layers": facts.layers,
        "width": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "key_value_heads": facts.kv_heads,
        "vocabulary": facts.vocabulary,
        "tokenizer_size": facts.tokenizer_size,
        "attention": "context_blind" if facts.context_blind else "full",
        "shift": facts.shift,
        "context_length": facts.context_length,
        "special_tokens": {name: {"id": i, "text": spellings.get(i)} for name, i in ids.items() if i is not None},
        "decoding": {
            "sampler": "threshold",
            "threshold": facts.threshold,
            "length": "expand" if can_expand else "probe",
            "start_masks": facts.start_masks if can_expand else None,
        },
        "license": license_of(config, card),
        "card": None if card is None else str(card),
        "backends": [
            name for name, needs in (("onnx", WEIGHTS[:1]), ("torch", WEIGHTS[1:])) if any(n in files for n in needs)
        ],
        "files": files,
        "size_bytes": sum(files.values()),
    }


def count_parameters(config: dict[str, Any], folder: Path) -> int:
    """Return how many numbers a Dream model of this config learns; shared ones count once."""
    width, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
    inner = positive(folder / "config.json", config, "intermediate_size")
    kv_heads = config.get("num_key_value_heads") or heads
    narrow = kv_heads * (width // heads)
    attention = 2 * width * width + width + 2 * (width * narrow + narrow)  # biases on q, k, v
    layer = attention + 3 * width * inner + 2 * width  # SwiGLU, two norms
    tables = 1 if config.get("tie_word_embeddings", False) else 2
    return tables * config["vocab_size"] * width + layers * layer + width


def token_spellings(folder: Path) -> dict[int, str]:
    """Return the special tokens' texts by id, from tokenizer.json; nothing if the folder has none."""
    path = folder / "tokenizer.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {token["id"]: token["content"] for token in data.get("added_tokens", [])}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the tokenizer {path} cannot be read: {error or type(error).__name__}") from error


def license_of(config: dict[str, Any], card: Path | None) -> str | None:
    """Return the licence that the config names, or the model card in a line "License: ..."; None if neither."""
    decoding = config.get("diffill")
    named = decoding.get("license") if isinstance(decoding, dict) else None
    if named is None and card is not None:
        text = card.read_text(encoding="utf-8", errors="replace")
        match = re.search(r"^[^\w\n]*licen[sc]e[^\w\n]*[:|][^\w\n]*(.+?)[^\w\n]*$", text, re.IGNORECASE | re.MULTILINE)
        named = match[1] if match else None
    return named


def listed(models: list[dict[str, Any]]) -> str:
    """Return one line a model under a line of headings."""
    rows = [("name", "parameters", "size", "licence", "backends")]
    for one in models:
        size = readable(one["size_bytes"])
        rows.append(
            (one["name"], millions(one["parameters"]), size, one["license"] or "not stated", ", ".join(one["backends"]))
        )
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", "A folder's path is a model too: diffill models info PATH describes it."])


def described(one: dict[str, Any]) -> str:
    """Return what is known of a model, one fact a line."""
    decoding = one["decoding"]
    start = f", from {decoding['start_masks']} masks" if decoding["start_masks"] else ""
    attention = {"full": "full: every token sees every other", "context_blind": "context_blind: context sees no hole"}
    facts = [
        ("model", one["name"]),
        ("folder", one["folder"]),
        ("licence", one["license"] or "not stated"),
        ("model card", one["card"] or "none"),
        ("architecture", one["architecture"]),
        ("parameters", f"{one['parameters']:,} ({millions(one['parameters'])})"),
        ("layers", one["layers"]),
        ("width", one["width"]),
        ("heads", f"{one['heads']}, {one['key_value_heads']} for keys and values"),
        ("vocabulary", f"{one['vocabulary']}, of which {one['tokenizer_size']} have text"),
        ("attention", attention[one["attention"]]),
        ("shift", "yes: row i predicts token i + 1" if one["shift"] else "no: row i predicts token i"),
        ("context", f"{one['context_length']} tokens"),
        ("decoding", f"sampler threshold at {decoding['threshold']}, length {decoding['length']}{start}"),
        ("backends", ", ".join(one["backends"]) or "none: the folder holds no weights"),
    ]
    for name, token in one["special_tokens"].items():
        facts.append((f"{name} token", f"{token['id']}  {token['text'] or '(not in tokenizer.json)'}"))
    facts += [(f"file {name}", readable(size)) for name, size in one["files"].items()]
    width = max(len(name) for name, _ in facts) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in facts)


def millions(count: int) -> str:
    """Return a number of parameters as "6.2 M" or "7.6 B"."""
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count:,}"
