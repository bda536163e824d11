"""llama.cpp as its server does a fill in the middle, one job a line on stdin, one answer a line on stdout.

Run by the interpreter that has `llama_cpp`. A prompt is decoded from the first token on that differs from the one
before it (the prompt cache); then tokens are drawn greedily, one at a time.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import time
from typing import Any

import llama_cpp as ll
import numpy as np


class Llama:
    """A model, a context of fixed size, and the tokens whose keys and values are in it."""

    def __init__(self, path: str, threads: int, size: int, whole: bool):
        """`whole` is for passes that see all tokens at once and want all of their logits."""
        start = time.perf_counter()
        model_options = ll.llama_model_default_params()
        model_options.n_gpu_layers = 0
        self.model = ll.llama_model_load_from_file(path.encode(), model_options)
        options = ll.llama_context_default_params()
        options.n_ctx = options.n_batch = size
        options.n_ubatch = size if whole else 512
        options.n_threads = options.n_threads_batch = threads
        self.context = ll.llama_init_from_model(self.model, options)
        self.memory = ll.llama_get_memory(self.context)
        self.sampler = ll.llama_sampler_init_greedy()
        self.vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        self.tokens: list[int] = []
        self.load_ms = (time.perf_counter() - start) * 1000

    def decode(self, tokens: list[int], at: int, everything: bool = False) -> None:
        """Run tokens at positions from `at` on, with the logits of the last or of all of them."""
        batch = ll.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for n, token in enumerate(tokens):
            batch.token[n], batch.pos[n] = token, at + n
            batch.n_seq_id[n], batch.seq_id[n][0] = 1, 0
            batch.logits[n] = everything or n == len(tokens) - 1
        if ll.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        ll.llama_batch_free(batch)

    def fill(self, prompt: list[int], new: int, cold: bool) -> dict[str, Any]:
        """Decode what of the prompt is not in memory, then `new` tokens."""
        known = 0
        if not cold:
            while known < min(len(prompt) - 1, len(self.tokens)) and prompt[known] == self.tokens[known]:
                known += 1
        start, busy = time.perf_counter(), time.process_time()
        ll.llama_memory_seq_rm(self.memory, 0, known, -1)
        self.decode(prompt[known:], known)
        middle = time.perf_counter()
        made = []
        for n in range(new):
            made.append(ll.llama_sampler_sample(self.sampler, self.context, -1))
            if n < new - 1:
                self.decode(made[-1:], len(prompt) + n)
        end = time.perf_counter()
        self.tokens = prompt + made[:-1]
        times = {"ms": end - start, "prompt_ms": middle - start, "cpu_ms": time.process_time() - busy}
        return {**{name: value * 1000 for name, value in times.items()}, "decoded": len(prompt) - known, "tokens": made}

    def whole(self, tokens: list[int]) -> dict[str, Any]:
        """One pass in which every token sees every other: what a step of its diffusion program computes."""
        ll.llama_set_causal_attn(self.context, False)
        ll.llama_memory_clear(self.memory, True)
        start, busy = time.perf_counter(), time.process_time()
        self.decode(tokens, 0, everything=True)
        ll.llama_get_logits(self.context)
        return {"ms": (time.perf_counter() - start) * 1000, "cpu_ms": (time.process_time() - busy) * 1000}

    def logits(self, tokens: list[int]) -> dict[str, Any]:
        """The logits behind a prompt, of every 97th token of the vocabulary."""
        ll.llama_memory_clear(self.memory, True)
        self.decode(tokens, 0)
        self.tokens = []
        pointer = ll.llama_get_logits_ith(self.context, -1)
        found = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (self.vocabulary,))
        return {"logits": [round(float(x), 5) for x in found[::97]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    sink = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints
    ll.llama_backend_init()
    silent = ll.llama_log_callback(lambda *_: None)
    ll.llama_log_set(silent, None)
    llama = Llama(arguments.model, arguments.threads, arguments.size, arguments.whole)
    version = {"llama_cpp_python": ll.__version__, "system": ll.llama_print_system_info().decode()}
    print(json.dumps({"load_ms": llama.load_ms, **version}), file=sink, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        answer = getattr(llama, job.pop("do"))(**job)
        print(json.dumps(answer), file=sink, flush=True)


if __name__ == "__main__":
    main()
