"""Checkpoints with random weights in the families' public layouts, and the tokenizers that go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from snippet import SNIPPET
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from model_runtime.models.layouts import expected_tensors, in_dreams_words
from model_runtime.models.qwen_files import CUTS

LINES = "def f(x):\n    return g(x)\n\n\nclass A(B):\n\tdef h(self):\n\t\treturn [x]\n\nfoo()\nif (a):\n    b()\n" * 8
QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
FIM = ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]  # not special, in Qwen2's tokenizer
SEED = ["<[begin▁of▁sentence]>", "<[end▁of▁sentence]>", "<[PAD▁TOKEN]>", "<[SEP▁TOKEN]>", "<[CLS_TOKEN]>"]
SEED += ["<[MASK_TOKEN]>"]  # id 5
LLADA = ["<|startoftext|>", "<|endoftext|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|mdm_mask|>"]
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
BEYOND = 9  # rows of the head without a token, as the public checkpoints have


def qwen_like(size: int = 420, special: list[str] = QWEN, plain: list[str] = FIM, first: bool = False) -> Tokenizer:
    """A byte-level BPE that cuts and normalises as Qwen2's, with tokens like "):\\n"; added tokens last, or `first`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    cut = pre_tokenizers.Split(Regex(CUTS), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special if first else [],
        show_progress=False,
    )
    tokenizer.train_from_iterator([SNIPPET, LINES], trainer)
    if not first:
        tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    return tokenizer


def write_qwen_files(folder: Path, tokenizer: Tokenizer) -> None:
    """The files of Dream's checkpoints: vocab.json, merges.txt, added_tokens.json and tokenizer_config.json."""
    tokenizer.model.save(str(folder))
    added = tokenizer.get_added_tokens_decoder()
    (folder / "added_tokens.json").write_text(json.dumps({token.content: i for i, token in added.items()}))
    listed = {str(i): {"content": token.content, "special": token.special} for i, token in added.items()}
    config = {"tokenizer_class": "DreamTokenizer", "added_tokens_decoder": listed}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tokenization_dream.py").write_text("raise SystemExit('remote code was run')\n")


def write_weights(folder: Path, config: dict[str, Any], layout: str) -> None:
    """Random weights of a config in one safetensors file, under the layout's own names."""
    torch.manual_seed(5)
    shapes = expected_tensors(in_dreams_words(folder, config, layout))
    tensors = {}
    for name, shape in shapes.items():
        values = torch.randn(shape) * 0.15
        tensors[theirs(name) if layout == "llada" else name] = values + 1 if "norm" in name else values
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})


def theirs(name: str) -> str:
    """A tensor's name in LLaDA's layout, written down from a public checkpoint's index."""
    whole = {
        "model.embed_tokens.weight": "model.transformer.wte.weight",
        "model.norm.weight": "model.transformer.ln_f.weight",
        "lm_head.weight": "model.transformer.ff_out.weight",
    }
    if name in whole:
        return whole[name]
    _, _, n, part = name.split(".", 3)
    parts = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ff_norm", "self_attn.q_proj": "q_proj",
        "self_attn.k_proj": "k_proj", "self_attn.v_proj": "v_proj", "self_attn.o_proj": "attn_out",
        "mlp.gate_proj": "ff_proj", "mlp.up_proj": "up_proj", "mlp.down_proj": "ff_out",
    }  # fmt: skip
    module, kind = part.rsplit(".", 1)
    return f"model.transformer.blocks.{n}.{parts[module]}.{kind}"


def checkpoint(parent: Path, name: str, **shape: int) -> Path:
    """A tiny checkpoint, its folder named like the public repository `name`, in that repository's layout."""
    folder = parent / name
    folder.mkdir(parents=True)
    config: dict[str, Any] = {**SHAPE, **shape}
    layout = "dream"
    if "LLaDA" in name:
        layout, tokenizer = "llada", qwen_like(special=LLADA, plain=[])
        size = tokenizer.get_vocab_size() + BEYOND
        config = {
            "model_type": "llada", "architectures": ["LLaDAModelLM"], "d_model": 32, "n_layers": 2, "n_heads": 4,
            "n_kv_heads": 4, "mlp_hidden_size": 48, "vocab_size": size, "embedding_size": size, "rms_norm_eps": 1e-5,
            "max_sequence_length": 4096, "rope_theta": 500000.0, "mask_token_id": tokenizer.token_to_id("<|mdm_mask|>"),
            "eos_token_id": tokenizer.token_to_id("<|endoftext|>"), "weight_tying": False, "include_bias": False,
            "include_qkv_bias": False, "activation_type": "silu", "block_type": "llama", "layer_norm_type": "rms",
            "attention_layer_norm": False, "bias_for_layer_norm": False,
            "rope": True, "rope_full_precision": True, "alibi": False, "scale_logits": False, "input_emb_norm": False,
        }  # fmt: skip
        tokenizer.save(str(folder / "tokenizer.json"))
    elif "Stable" in name:
        layout, tokenizer = "llama", qwen_like(special=SEED, plain=[], first=True)
        config |= {"model_type": "llama", "architectures": ["StableDiffcoderForCausalLM"], "attention_bias": False}
        config |= {"max_position_embeddings": 8192, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
        del config["rope_theta"]
        config["rope_parameters"] = {"rope_theta": 500000.0, "rope_type": "default"}
        tokenizer.save(str(folder / "tokenizer.json"))
    elif "dcoder" in name:
        layout, tokenizer = "qwen2", qwen_like(special=[*QWEN, "<M>"])
        config |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True}
        config |= {"bos_token_id": tokenizer.token_to_id("<|endoftext|>"), "use_sliding_window": False}
        tokenizer.save(str(folder / "tokenizer.json"))
    else:
        last = {"DreamOn": ["<|expand|>"], "Diffu": ["<|dlm_pad|>"]}
        more = next((tokens for part, tokens in last.items() if part in name and not name.endswith("Base")), [])
        tokenizer = qwen_like(special=[*QWEN, "<|beginoftext|>", "<|mask|>", *more])
        end = tokenizer.token_to_id("<|endoftext|>")
        config |= {"model_type": "Dream", "architectures": ["DreamModel"], "rope_scaling": None}
        config |= {"auto_map": {"AutoModel": "modeling_dream.DreamModel"}, "max_window_layers": 2}
        config |= {"mask_token_id": tokenizer.token_to_id("<|mask|>"), "pad_token_id": end, "eos_token_id": end}
        write_qwen_files(folder, tokenizer)
        (folder / "modeling_dream.py").write_text("raise SystemExit('remote code was run')\n")
    config.setdefault("vocab_size", tokenizer.get_vocab_size() + BEYOND)
    (folder / "config.json").write_text(json.dumps(config))
    write_weights(folder, config, layout)
    return folder
