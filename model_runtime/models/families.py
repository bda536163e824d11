"""The families of models that can be used, one row each, and what a checkpoint's folder says about itself.

A folder is recognised by its config.json and the tokens of its tokenizer. Kin that look alike there (Dream,
Dream-Coder, DiffuCoder) are told apart by name: that of the catalog entry, of the repository, or of the folder.
Sources of the rows: the public config.json, tokenizer and inference code of each checkpoint's repository.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_runtime.models.facts import CANDIDATES as CANDIDATES
from model_runtime.models.facts import HOLE as HOLE
from model_runtime.models.facts import PADDING as PADDING
from model_runtime.models.facts import ModelFacts as ModelFacts
from model_runtime.models.facts import positive as positive
from model_runtime.models.facts import probe_bias, whole
from model_runtime.models.layouts import in_dreams_words
from model_runtime.models.spellings import token_spellings
from model_runtime.protocol import ModelError

MANIFEST = "diffill-model.json"  # what `diffill models pull` and `import` write beside a model


@dataclass(frozen=True)
class Family:
    """What the checkpoints of a family have in common; tokens by their spelling, for ids differ between tokenizers."""

    name: str
    named: str  # a pattern of the names of its checkpoints, in lower case
    model_type: str  # in config.json
    layout: str  # of config and tensors: layouts.py
    mask: str
    bos: str | None
    eos: str
    pad: str
    context: int  # tokens it was trained with
    marked: str = ""  # a token that only its tokenizer has
    architecture: str = ""  # of config.json, where the type is another model's too
    mask_id: int | None = None  # where neither config nor tokenizer name it
    expand: str | None = None
    delete: str | None = None
    shift: bool = True
    infills: bool = True  # its base models do; those told "instruct" complete prompts
    instruct: str = "instruct"  # a pattern of the names of checkpoints that follow instructions
    chat: str = "chatml"
    block_length: int | None = None
    reveal_block: int | None = None
    start_masks: int = 16
    published: str = "entropy, temperature 0.2, top-p 0.95, one token a step"  # decoding, as its authors recommend


FAMILIES = (
    Family(
        name="DiffuCoder", named=r"diffucoder", model_type="Dream", layout="dream", mask="<|mask|>",
        bos="<|beginoftext|>", eos="<|endoftext|>", pad="<|endoftext|>", context=4096, instruct="instruct|cpgrpo",
    ),
    Family(
        name="DiffuCoder Instruct", named=r"diffucoder.*(instruct|cpgrpo)", model_type="Dream", layout="dream",
        mask="<|mask|>", bos="<|beginoftext|>", eos="<|im_end|>", pad="<|dlm_pad|>", context=2048, marked="<|dlm_pad|>",
        infills=False, instruct="", published="entropy, temperature 0.3, top-p 0.95, one token a step",
    ),
    Family(
        name="DreamOn", named=r"dreamon", model_type="Dream", layout="dream", mask="<|mask|>", bos="<|beginoftext|>",
        eos="<|endoftext|>", pad="<|endoftext|>", context=2048, marked="<|expand|>", expand="<|expand|>",
        delete="<|endoftext|>", start_masks=4, published="entropy, temperature 0.2, top-p 0.9, one token a step",
    ),
    Family(
        name="Dream-Coder", named=r"dream-?coder", model_type="Dream", layout="dream", mask="<|mask|>",
        bos="<|beginoftext|>", eos="<|endoftext|>", pad="<|endoftext|>", context=2048,
    ),
    Family(
        name="Dream", named=r"dream", model_type="Dream", layout="dream", mask="<|mask|>", bos="<|beginoftext|>",
        eos="<|endoftext|>", pad="<|endoftext|>", context=2048,
    ),
    Family(
        name="Open-dCoder", named=r"open-?d(coder|llm)", model_type="qwen2", layout="qwen2", mask="<M>", bos=None,
        eos="<|endoftext|>", pad="<|endoftext|>", context=4096, marked="<M>",
        published="p2 (low confidence is masked again), temperature 0.8, top-p 0.95",
    ),
    Family(
        name="Stable-DiffCoder", named=r"stable-?diffcoder", model_type="llama", layout="llama", mask="<[MASK_TOKEN]>",
        bos="<[begin▁of▁sentence]>", eos="<[end▁of▁sentence]>", pad="<[PAD▁TOKEN]>", context=8192,
        architecture="StableDiffcoderForCausalLM", mask_id=5, shift=False, infills=False, chat="seed", block_length=4,
        published="low confidence in blocks of 4, temperature 0",
    ),
    Family(
        name="LLaDA", named=r"llada", model_type="llada", layout="llada", mask="<|mdm_mask|>", bos="<|startoftext|>",
        eos="<|endoftext|>", pad="<|endoftext|>", context=4096, mask_id=126336, shift=False, chat="llada",
        reveal_block=32, published="low confidence in blocks of 32, temperature 0",
    ),
)  # fmt: skip


def read_config(folder: Path) -> dict[str, Any]:
    """`folder`/config.json as it stands; ModelError with one sentence when there is none."""
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is not a model: it has no config.json") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object")
    return config


def names_of(folder: Path, config: dict[str, Any]) -> list[str]:
    """The names that a folder goes by, surest first, in lower case."""
    names: list[Any] = []
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        names += [manifest.get("family"), manifest.get("name"), manifest.get("repository")]
    except (OSError, ValueError, AttributeError):
        pass
    names += [config.get("_name_or_path"), folder.resolve().name]
    # a snapshot of the hub's cache: models--apple--DiffuCoder-7B-Base/snapshots/REVISION
    names += [parent.name for parent in folder.resolve().parents[:2] if parent.name.startswith("models--")]
    return [name.lower().replace("_", "-") for name in names if isinstance(name, str)]


def family_of(folder: Path, config: dict[str, Any], spellings: dict[str, int]) -> Family:
    """The family of a checkpoint; ModelError that says what was looked for where there is none."""
    kind, architectures = config.get("model_type"), config.get("architectures") or []
    kin = [one for one in FAMILIES if one.model_type == kind]
    kin = [one for one in kin if not one.architecture or one.architecture in architectures]
    if kind == "qwen2" and config.get("mask_token_id") is None:
        kin = [one for one in kin if one.mask in spellings]  # a plain Qwen2 cannot fill holes
    if not kin:
        known = "; ".join(sorted({f"{one.model_type} ({one.architecture or one.name})" for one in FAMILIES}))
        told = ", ".join(map(str, architectures)) or "no architecture"
        raise ModelError(
            f"{folder / 'config.json'} names the model type {kind!r} ({told}), of no supported family: "
            f"looked for {known}, and for Qwen2 a mask token <M>"
        )
    for name in names_of(folder, config):
        fitting = [one for one in kin if re.search(one.named, name)]
        if fitting:  # the most specific: its pattern is the longest
            return max(fitting, key=lambda one: len(one.named))
    marked = [one for one in kin if one.marked and one.marked in spellings]
    return marked[0] if marked and "diffill" not in config else kin[-1]


def family_named(name: str) -> Family:
    """The family that `ModelFacts.family` names."""
    return next(one for one in FAMILIES if one.name == name)


def read_facts(folder: Path) -> ModelFacts:
    """Read what `folder` says of its model; ModelError with one sentence when it cannot be a masked diffusion model."""
    path = folder / "config.json"
    config = read_config(folder)
    spellings = token_spellings(folder)
    family = family_of(folder, config, spellings)
    added = config.get("diffill")  # what was measured of somebody's checkpoint makes it no model of ours
    ours = config.get("tokenizer_size") is not None or (isinstance(added, dict) and bool(set(added) - {"probe_bias"}))
    config = in_dreams_words(path, config, family.layout)
    decoding = config.get("diffill", {})
    if not isinstance(decoding, dict):
        raise ModelError(f"{path} needs diffill as a JSON object, not {decoding!r}")
    vocabulary, width = positive(path, config, "vocab_size"), positive(path, config, "hidden_size")
    heads = positive(path, config, "num_attention_heads")
    kv_heads = positive(path, config, "num_key_value_heads", heads)
    positions = positive(path, config, "max_position_embeddings", 2048)
    if width % heads:
        raise ModelError(f"{path} needs num_attention_heads that divide hidden_size, not {heads} in {width}")
    if heads % kv_heads:
        raise ModelError(f"{path} needs num_key_value_heads that divide the {heads} heads, not {kv_heads}")
    attention, shift = config.get("attention", "full"), config.get("shift", family.shift)
    if attention not in ("full", "context_blind"):
        raise ModelError(f"{path} needs attention as full or context_blind, not {attention!r}")
    if not isinstance(shift, bool):
        raise ModelError(f"{path} needs shift as true or false, not {shift!r}")
    ids = special_ids(path, config, family, spellings, vocabulary, ours)
    name, threshold = decoding.get("name", folder.name), decoding.get("threshold", 0.9)
    if not isinstance(name, str):
        raise ModelError(f"{path} needs diffill.name as text, not {name!r}")
    if not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise ModelError(f"{path} needs diffill.threshold above 0 and not above 1, not {threshold!r}")
    length = decoding.get("length", "expand")
    if length not in ("expand", "search"):
        raise ModelError(f"{path} needs diffill.length as expand or search, not {length!r}")
    mask_id = ids["mask"]
    assert mask_id is not None
    instruct = not family.instruct or any(re.search(family.instruct, one) for one in names_of(folder, config))
    return ModelFacts(
        name=name,
        mask_id=mask_id,
        vocabulary=vocabulary,
        tokenizer_size=positive(path, config, "tokenizer_size", vocabulary),
        context_length=positive(
            path, decoding, "context_length", positions if ours else min(positions, family.context)
        ),
        layers=positive(path, config, "num_hidden_layers"),
        kv_heads=kv_heads,
        head_width=width // heads,
        shift=shift,
        context_blind=attention == "context_blind",
        bos_id=ids["bos"],
        pad_id=ids["pad"],
        expand_id=ids["expand"],
        delete_id=ids["delete"],
        threshold=threshold,
        length=length,
        start_masks=positive(path, decoding, "start_masks", 16 if ours else family.start_masks),
        probe_bias=probe_bias(path, decoding),
        family=family.name,
        infills=family.infills and not instruct,
        chat=chat_format(folder, family, instruct, ours, spellings),
        block_length=family.block_length,
        reveal_block=family.reveal_block,
    )


def chat_format(folder: Path, family: Family, instruct: bool, ours: bool, spellings: dict[str, int]) -> str | None:
    """The prompt format of a model that follows instructions; one of our own says by its template that it does."""
    if ours:
        return "chatml" if (folder / "chat_template.jinja").is_file() and "<|im_start|>" in spellings else None
    return family.chat if instruct else None


def special_ids(
    path: Path, config: dict[str, Any], family: Family, spellings: dict[str, int], vocabulary: int, ours: bool
) -> dict[str, int | None]:
    """The ids of mask, bos, pad, expand and delete: the tokenizer's by the family's spelling, or else the config's.

    A model of our own names all of its ids in config.json. What the two say of the mask must agree.
    """
    ids: dict[str, int | None] = {}
    for key in ("mask", "bos", "pad", "expand", "delete"):
        value = config.get(f"{key}_token_id")
        if value is not None and not (whole(value) and 0 <= value < vocabulary):
            raise ModelError(f"{path} names {key}_token_id {value!r}, which is no id of its vocabulary of {vocabulary}")
        spelling = getattr(family, key)
        if not ours and spelling in spellings and (value is None or key != "mask"):
            value = spellings[spelling]
        ids[key] = value
    if ids["mask"] is None and family.mask_id is not None and family.mask_id < vocabulary:
        ids["mask"] = family.mask_id
    if ids["mask"] is None:
        raise ModelError(
            f"{path} names no mask_token_id and the tokenizer has no {family.mask}, so the model cannot fill holes"
        )
    spelled = spellings.get(family.mask)
    if not ours and spelled is not None and spelled != ids["mask"]:
        raise ModelError(f"{path} names mask_token_id {ids['mask']}, but the tokenizer's {family.mask} is {spelled}")
    if any(value is not None and value >= vocabulary for value in ids.values()):
        raise ModelError(
            f"the tokenizer beside {path} has special tokens beyond the model's vocabulary of {vocabulary}"
        )
    return ids
