"""What editors' plugins send, field by field as their sources write it, for one place in one file."""

from __future__ import annotations

BEFORE = '''"""A stock of things."""


class Inventory:
    def __init__(self):
        self.items = {}

    def add(self, name, count):
'''
LINE = "        self.items[name] = self.items."
AFTER = """

    def remove(self, name, count):
        self.items[name] = self.items.get(name, 0) - count
"""
CHUNK = "def total(inventory):\n    return sum(inventory.items.values())\n"
CUT = LINE + AFTER  # the file's rest, from the line's start

LLAMA_VIM = {  # llama.vim, autoload/llama.vim: s:fim_ctx_local and llama#fim
    "id_slot": 0,
    "input_prefix": BEFORE,
    "input_suffix": AFTER + "\n",
    "input_extra": [{"text": CHUNK, "time": [12, 345678], "filename": "total.py"}],
    "prompt": LINE,
    "n_predict": 128,
    "stop": [],
    "n_cmpl": 1,
    "n_indent": 8,
    "top_k": 40,
    "top_p": 0.90,
    "samplers": ["top_k", "top_p", "infill"],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 1000,
    "response_fields": [
        "content",
        "timings/prompt_n",
        "timings/prompt_ms",
        "timings/prompt_per_token_ms",
        "timings/prompt_per_second",
        "timings/predicted_n",
        "timings/predicted_ms",
        "timings/predicted_per_token_ms",
        "timings/predicted_per_second",
        "truncated",
        "tokens_cached",
    ],
}
LLAMA_VIM_RING = {  # the same plugin, s:ring_update: other files, ahead of time
    "id_slot": 0,
    "input_prefix": "",
    "input_suffix": "",
    "input_extra": LLAMA_VIM["input_extra"],
    "prompt": "",
    "n_predict": 0,
    "temperature": 0.0,
    "samplers": [],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 1,
    "t_max_predict_ms": 1,
    "response_fields": [""],
}
LLAMA_VSCODE = {  # llama.vscode, src/llama-server.ts: createRequestPayload
    "input_prefix": BEFORE,
    "input_suffix": AFTER + "\n",
    "input_extra": [{"text": CHUNK, "time": 1763730000000, "filename": "total.py"}],
    "prompt": LINE,
    "n_predict": 128,
    "top_k": 40,
    "top_p": 0.99,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "n_indent": 8,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 2500,
}
LLAMA_VSCODE_RING = {
    **{"input_prefix": "", "input_suffix": "", "input_extra": LLAMA_VSCODE["input_extra"], "prompt": ""},
    **{"n_predict": 0, "samplers": [], "cache_prompt": True, "t_max_prompt_ms": 500, "t_max_predict_ms": 1},
    "lora": [{"id": 0, "scale": 0.5}],
}
QWEN = f"<|fim_prefix|>{BEFORE}{LINE}<|fim_suffix|>{AFTER}<|fim_middle|>"
LLAMA_VSCODE_OPENAI = {  # the same extension with use_openai_endpoint
    "model": "",
    "prompt": "Context:\n\n" + QWEN,
    "max_tokens": 128,
    "temperature": 0.1,
    "top_p": 0.99,
    "stream": False,
}
ZED = {  # Zed, edit_predictions.open_ai_compatible_api: format_fim_prompt, RawCompletionRequest
    "model": "embedded",
    "prompt": QWEN,
    "max_tokens": 64,
    "stop": [
        *("<|endoftext|>", "<|file_separator|>", "<|fim_pad|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
        *("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<PRE>", "<SUF>", "<MID>", "[PREFIX]", "[SUFFIX]"),
    ],
}
MINUET = {  # minuet-ai.nvim, openai_fim_compatible: complete_openai_fim_base
    "model": "embedded",
    "stream": True,
    "prompt": BEFORE + LINE,
    "suffix": AFTER,
    "max_tokens": 128,
    "top_p": 0.9,
}
TWINNY = {  # twinny, the provider "lmstudio" with the template of Qwen: fim-dialects.ts, fim-templates.ts
    "model": "embedded",
    "prompt": f"<|file_sep|>total.py\n{CHUNK}<|file_sep|>stock.py\n{QWEN}",
    "stream": True,
    "temperature": 0.2,
    "max_tokens": 512,
    "stop": ["<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
}
CONTINUE = {  # Continue, the provider "llama.cpp": core/llm/llms/LlamaCpp.ts, with its template for Qwen
    "prompt": QWEN,
    "stream": True,
    "n_predict": 256,
    "frequency_penalty": None,
    "stop": ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "\n\n"],
    "temperature": 0.01,
}
