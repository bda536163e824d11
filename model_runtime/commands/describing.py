"""What a model is, for a person and for a program: from its folder, or from the catalog while it is not fetched."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from model_runtime.catalog import store
from model_runtime.catalog.catalog import find_model
from model_runtime.catalog.entries import BY_NAME, Entry
from model_runtime.catalog.memory import device_memory, fit
from model_runtime.commands import machine
from model_runtime.commands.machine import readable
from model_runtime.models.checking import told_config
from model_runtime.models.families import family_named, positive, read_facts
from model_runtime.models.layouts import expected_tensors
from model_runtime.models.spellings import token_spellings

NAMED = ("embedded",)
CARDS = ("MODEL_CARD.md", "README.md")
WEIGHTS = ("model.onnx", "model.safetensors", "model.safetensors.index.json")
SPECIAL = ("mask", "bos", "eos", "pad", "expand", "delete")


def memories() -> tuple[int | None, int | None]:
    """Return the bytes of main and device memory, None for what is unknown or absent."""
    return machine.memory()[0], device_memory()


def offered(entry: Entry, room: tuple[int | None, int | None]) -> dict[str, Any]:
    """Return what the catalog says of a model, as JSON values; `room` are the bytes of main and device memory."""
    sizes = entry.memory()
    precision, fits = fit(sizes, *room)
    return {
        "name": entry.name,
        "title": entry.title,
        "installed": store.stored(entry.name) is not None,
        "use": entry.use,
        "instructions": entry.instructed,
        "family": entry.family,
        "license": entry.licence,
        "license_terms": entry.terms,
        "license_url": entry.licence_url,
        "license_accepted": store.accepted(entry.repository, entry.licence),
        "repository": entry.repository,
        "revision": entry.revision,
        "parameters": int(entry.parameters),
        "size_bytes": int(entry.size),
        "memory_bytes": sizes,
        "precision": precision,
        "fits": fits,
        "backends": ["torch"],
        "missing": None if machine.is_installed("torch") else "torch",
    }


def all_models() -> list[dict[str, Any]]:
    """Return every model that has a name: the embedded one, those in the store, those of the catalog."""
    room = memories()
    here = [describe(name) for name in (*NAMED, *(name for name in store.stored_names() if name not in BY_NAME))]
    return here + [offered(entry, room) for entry in BY_NAME.values()]


def describe(model: str) -> dict[str, Any]:
    """Return what the folder of a model says about it, as JSON values; ModelError if it is no model."""
    folder = find_model(model)
    facts = read_facts(folder)
    config, _ = told_config(folder, facts)
    spellings = {i: token for token, i in token_spellings(folder).items()}
    ids = {name: config.get(f"{name}_token_id") for name in SPECIAL}
    ids = {name: i if isinstance(i, int) else None for name, i in ids.items()}
    can_expand = facts.expand_id is not None and facts.delete_id is not None
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    card = next((folder / name for name in CARDS if name in files), None)
    manifest = store.stored(model)
    licence = (manifest.licence if manifest else None) or license_of(config, card)
    return {
        "name": model if model in NAMED or store.stored(model) is not None else facts.name,
        "installed": True,
        "family": facts.family,
        "infills": facts.infills,
        "chat": facts.chat,
        "instructions": facts.chat is not None,
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
            "published": family_named(facts.family).published,
        },
        "license": licence,
        "repository": manifest.repository if manifest else None,
        "revision": manifest.revision if manifest else None,
        "card": None if card is None else str(card),
        "backends": [
            name for name, needs in (("onnx", WEIGHTS[:1]), ("torch", WEIGHTS[1:])) if any(n in files for n in needs)
        ],
        "files": files,
        "size_bytes": sum(files.values()),
    }


def count_parameters(config: dict[str, Any], folder: Path) -> int:
    """Return how many numbers a model of this config, in Dream's words, learns; shared ones count once."""
    positive(folder / "config.json", config, "intermediate_size")
    return sum(math.prod(shape) for shape in expected_tensors(config).values())


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
    rows = [("name", "parameters", "size", "licence", "here", "this machine")]
    for one in models:
        size, licence = readable(one["size_bytes"]), one["license"] or "not stated"
        fits = (one.get("fits") or "").removeprefix("fits this machine: ").partition(" for this machine")[0]
        rows.append((one["name"], millions(one["parameters"]), size, licence, "yes" if one["installed"] else "", fits))
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    hints = ("diffill models info NAME tells more, diffill models pull NAME fetches one.",)
    return "\n".join([*lines, "", *hints, "A folder's path is a model too: diffill models info PATH describes it."])


def told_offer(one: dict[str, Any], target: Path | None = None) -> str:
    """Return what the catalog says of a model that is not here, one fact a line; `target` is where it is fetched to."""
    memory = ", ".join(f"{size / 1e9:.1f} GB in {precision}" for precision, size in one["memory_bytes"].items())
    hint = f", not on this machine: diffill models pull {one['name']}"
    facts = [
        ("model", f"{one['name']} ({one['title']})" + (hint if target is None else "")),
        ("use", one["use"]),
        ("repository", f"{one['repository']}, revision {one['revision'] or 'the newest (none is pinned)'}"),
        ("licence", f"{one['license'] or 'not stated'}: {one['license_terms']} ({one['license_url']})"),
        ("accepted", "yes" if one["license_accepted"] else "no"),
        ("parameters", millions(one["parameters"])),
        ("download", f"about {readable(one['size_bytes'])}" + ("" if target is None else f" to {target}")),
        ("memory", memory),
        ("this machine", one["fits"]),
    ]
    width = max(len(name) for name, _ in facts) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in facts)


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
        ("family", f"{one['family']}, {'fills holes' if one['infills'] else 'completes prompts'}"),
        ("instructions", f"followed, prompts as {one['chat']}" if one["chat"] else "none"),
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
        ("published", decoding["published"]),
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
