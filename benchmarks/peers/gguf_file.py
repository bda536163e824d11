"""The same random weights as GGUF, for llama.cpp; run by the interpreter that has `gguf` and `llama_cpp`.

Matrices become q4_0 or q8_0; the token table, which is the head too, q8_0 in both, as llama.cpp's own quantizer has it
where rows are no multiple of 256; norms and biases stay in float32. Tokens have made-up texts: nobody reads them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf

from model_runtime.models.weights import Weights

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(source: Path, target: Path, kind: str) -> None:
    """Write a checkpoint of Qwen2's shape as a causal model of `kind` q4_0 or q8_0."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    weights = Weights(source)
    partial = target.with_suffix(".partial")
    writer = gguf.GGUFWriter(str(partial), "qwen2")
    writer.add_name(target.stem)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    count = config["vocab_size"]
    writer.add_token_list([f"t{n}" for n in range(count)])
    writer.add_token_types([gguf.TokenType.NORMAL] * count)
    writer.add_token_merges(["t 1"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    types = {"q4_0": gguf.GGMLQuantizationType.Q4_0, "q8_0": gguf.GGMLQuantizationType.Q8_0}
    for name, stored in weights.tensors.items():
        value = weights.read(name, stored.shape)
        if value.ndim == 1:
            writer.add_tensor(theirs(name), value)
            continue
        table = name.startswith(("model.embed_tokens", "lm_head"))
        quantized = types["q8_0" if table else kind]
        writer.add_tensor(theirs(name), gguf.quants.quantize(value, quantized), raw_dtype=quantized)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(target)


def theirs(name: str) -> str:
    """A tensor's name in GGUF."""
    stem, _, part = name.rpartition(".")
    if stem in TOP:
        return f"{TOP[stem]}.{part}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.{part}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("kind", choices=("q4_0", "q8_0"))
    arguments = parser.parse_args()
    write_gguf(arguments.source, arguments.target, arguments.kind)


if __name__ == "__main__":
    main()
