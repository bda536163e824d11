"""The model of a run: a new one, one that exists, or an autoregressive one made ready for masks.

Folders are in the public layouts: Dream's, or Qwen2's for models that are still causal (the parameters have the same
names and shapes; what a row sees is decided when they are called).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor
from transformers.utils import logging as transformers_logging

from model_runtime.models.dream import DreamConfig, DreamModel
from training.errors import TrainingError
from training.noisy import TokenIds
from training.stages.recipe import Shape

MASK, EXPAND, CHAT_PAD, TURN, TURN_END = "<|mask|>", "<|expand|>", "<|dlm_pad|>", "<|im_start|>", "<|im_end|>"
BOS = "<|bos|>", "<|beginoftext|>"  # ours, Dream's
EOS = "<|endoftext|>"
# What adaptation adds where it is missing, in Dream's order: 151665, 151666 and 151667 of a Qwen2.5 tokenizer.
ADDED = BOS[1], MASK, CHAT_PAD, TURN, TURN_END, EXPAND
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
ROUND = 64  # rows of the embedding come in multiples of this


@dataclass
class Files:
    """A model's tokenizer and the files that belong to it, by name."""

    tokenizer: Tokenizer
    others: dict[str, bytes]

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def id_of(self, *spellings: str) -> int | None:
        """The id of the first spelling that is a token."""
        return next((i for s in spellings if (i := self.tokenizer.token_to_id(s)) is not None), None)

    def newline(self) -> int | None:
        """The id of a line end, where that is one token."""
        ids = self.tokenizer.encode("\n", add_special_tokens=False).ids
        return ids[0] if len(ids) == 1 else None


def read_files(path: Path) -> Files:
    """The tokenizer of a folder, or of a tokenizer.json."""
    folder = path if path.is_dir() else path.parent
    file = folder / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise TrainingError(f"there is no tokenizer {file}")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise TrainingError(f"the tokenizer {file} cannot be read: {error}") from error
    present = [folder / name for name in TOKENIZER_FILES[1:] if (folder / name).is_file()]
    return Files(tokenizer, {other.name: other.read_bytes() for other in present})


def new_model(shape: Shape, files: Files) -> DreamModel:
    """A model with random weights; seed torch before."""
    eos = files.id_of(EOS)
    if eos is None:
        raise TrainingError(f"the tokenizer has no {EOS}, which ends a document")
    config = DreamConfig(
        **asdict(shape),
        vocab_size=rounded(files.size),
        tokenizer_size=files.size,
        bos_token_id=files.id_of(*BOS),
        eos_token_id=eos,
    )
    return DreamModel(config)


def read_model(path: Path, dtype: torch.dtype = torch.float32) -> DreamModel:
    """The model of a folder in Dream's or Qwen2's layout, in `dtype`."""
    transformers_logging.disable_progress_bar()  # a bar for each of a few tensors
    folder = model_folder(path)
    file = folder / "config.json"
    try:
        values: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise TrainingError(f"{path} is no model: it has no config.json, nor checkpoints with one") from None
    except (OSError, ValueError) as error:
        raise TrainingError(f"{file} cannot be read: {error}") from error
    if values.get("model_type") not in ("Dream", "qwen2"):
        raise TrainingError(f"{file} names the model type {values.get('model_type')!r}; supported are qwen2 and Dream")
    try:
        config = dream_config(values)
        model = DreamModel.from_pretrained(folder, config=config, dtype=dtype)
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(f"the model {folder} cannot be read: {' '.join(str(error).split())}") from error
    if config.attention != "full":
        raise TrainingError(f"{file} has attention {config.attention}; these stages train full attention")
    return model


def dream_config(values: dict[str, Any]) -> DreamConfig:
    """The Dream config that says the same as a Qwen2 or Dream config.json; ValueError where there is none."""
    rope = values.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or values.get("rope_scaling"):
        raise ValueError("scaled rotary embeddings are not supported")
    if values.get("use_sliding_window"):
        raise ValueError("sliding windows are not supported")
    values = values | {"rope_theta": rope.get("rope_theta", values.get("rope_theta", 10_000.0))}
    if values["model_type"] == "Dream":
        unwanted = ("rope_parameters", "model_type", "architectures", "dtype", "torch_dtype", "transformers_version")
        return DreamConfig(**{name: value for name, value in values.items() if name not in unwanted})
    kept = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps"),
        *("rope_theta", "tie_word_embeddings", "bos_token_id", "eos_token_id", "tokenizer_size"),
    )
    return DreamConfig(**{name: values[name] for name in kept if values.get(name) is not None})


def model_folder(path: Path) -> Path:
    """The model that `path` means: the folder itself, or the best (else the last) checkpoint of a run's folder."""
    if (path / "config.json").is_file():
        return path
    best = path / "best.json"
    if best.is_file():
        found = path / "checkpoints" / json.loads(best.read_text())["checkpoint"]
        if found.is_dir():
            return found
    steps = sorted((path / "checkpoints").glob("step-????????"))
    return steps[-1] if steps else path


def check_sizes(model: DreamModel, files: Files) -> None:
    """TrainingError if the tokenizer has ids that the model has no row for."""
    if files.size > model.config.vocab_size:
        raise TrainingError(
            f"the tokenizer has {files.size} ids, the model's vocabulary {model.config.vocab_size}: "
            "they do not belong together"
        )


def adapt_vocabulary(model: DreamModel, files: Files) -> None:
    """Add the tokens that masked diffusion needs, to tokenizer and model; no id that was there changes.

    A new token begins as the mean of the old ones, in the embedding and in the head.
    """
    check_sizes(model, files)
    old = files.size
    known = files.tokenizer.get_vocab(with_added_tokens=True)
    wanted = [t for t in ADDED if t not in known and not (t == BOS[1] and BOS[0] in known)]
    for token in wanted:
        files.tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
    files.others.pop("tokenizer_config.json", None)  # lists the added tokens: written anew
    files.others.pop("special_tokens_map.json", None)
    if files.size > model.config.vocab_size:
        model.resize_token_embeddings(rounded(files.size), mean_resizing=False)
    with torch.no_grad():
        for table in {id(t): t for t in (model.get_input_embeddings(), model.get_output_embeddings())}.values():
            for token in wanted:
                table.weight[files.id_of(token)] = table.weight[:old].mean(0)
    config = model.config
    config.tokenizer_size = files.size
    config.mask_token_id = files.id_of(MASK)
    config.bos_token_id = files.id_of(*BOS)
    config.eos_token_id = files.id_of(EOS)
    config.expand_token_id, config.delete_token_id = None, None


def enable_resizing(model: DreamModel, files: Files) -> None:
    """Let the config say that the model can expand and delete, as DreamOn's do."""
    model.config.expand_token_id = files.id_of(EXPAND)
    model.config.delete_token_id = files.id_of(EOS)


def token_ids(model: DreamModel, files: Files) -> TokenIds:
    """The ids that rows and noise are made with."""
    eos = files.id_of(EOS)
    if eos is None:
        raise TrainingError(f"the tokenizer has no {EOS}, which ends a document")
    config = model.config
    return TokenIds(
        mask=config.mask_token_id,
        bos=config.bos_token_id,
        eos=eos,
        pad=eos,
        newline=files.newline(),
        expand=config.expand_token_id,
        delete=config.delete_token_id,
    )


def special_ids(files: Files) -> list[int]:
    """The ids whose meaning masked diffusion teaches."""
    return sorted(i for token in {*ADDED, *BOS, EOS} if (i := files.id_of(token)) is not None)


def rounded(size: int) -> int:
    """Rows of an embedding for `size` ids."""
    return -(-size // ROUND) * ROUND


def write_model(
    folder: Path, model: DreamModel, state: dict[str, Tensor], files: Files, causal: bool, dtype: torch.dtype
) -> None:
    """Write weights, config and tokenizer in the public layout: Qwen2's of a causal model, else Dream's."""
    cast = {name: value.detach().to("cpu", dtype) for name, value in state.items()}
    if model.config.tie_word_embeddings:
        cast.pop("lm_head.weight", None)  # the embedding says it
    model.save_pretrained(folder, state_dict=cast, max_shard_size="5GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text()) | {"dtype": str(dtype).removeprefix("torch.")}
    if causal:
        for name in ("attention", "shift", "mask_token_id", "expand_token_id", "delete_token_id"):
            config.pop(name, None)
        config |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": False}
    else:
        config |= {"architectures": ["DreamModel"]}
        ids = {name: config.get(f"{name}_token_id") for name in ("bos", "eos", "pad", "mask")}
        generation = {f"{name}_token_id": value for name, value in ids.items()}
        (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_files(folder, files)


def write_files(folder: Path, files: Files) -> None:
    """Write the tokenizer, with a tokenizer_config.json if none came with it."""
    (folder / "tokenizer.json").write_text(files.tokenizer.to_str(pretty=True), "utf-8")
    for name, content in files.others.items():
        (folder / name).write_bytes(content)
    if "tokenizer_config.json" not in files.others:
        spelled = {"mask_token": MASK, "eos_token": EOS, "pad_token": EOS}
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        config |= {name: token for name, token in spelled.items() if files.id_of(token) is not None}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
