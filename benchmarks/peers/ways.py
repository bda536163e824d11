"""The ways to fill that are compared: each takes a case, cold or as the next key, and says how long it took.

A time is (wall milliseconds, processor milliseconds of all threads).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers.cases import NEW, Case
from model_runtime.engine.engine import Engine
from model_runtime.engine.kept import KeptContext
from model_runtime.protocol import FillRequest

Time = tuple[float, float]
HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
LLAMA_PYTHON = REPOSITORY / "build/llama/venv/bin/python"


def timed(run: Callable[[], Any]) -> Time:
    """Run once."""
    start, busy = time.perf_counter(), time.process_time()
    run()
    return (time.perf_counter() - start) * 1000, (time.process_time() - busy) * 1000


class Ours:
    """The engine as `diffill fill` and the daemon have it."""

    def __init__(self, folder: Path, threads: int):
        start = time.perf_counter()
        self.engine = Engine.load(folder, backend="onnx", threads=threads)
        self.load_ms = (time.perf_counter() - start) * 1000

    def fill(self, case: Case, steps: int, cold: bool) -> Time:
        """A fill in `steps` steps; cold has nothing of an earlier one."""
        if cold:
            self.engine.kept = KeptContext()
        request = FillRequest(
            text=case.text, holes=[(case.at, case.at)], length=f"fixed:{NEW}", max_tokens=NEW,
            steps=steps, sampler="maskgit_plus", language="text",
        )  # fmt: skip
        return timed(lambda: self.engine.fill(request))


class Llama:
    """llama.cpp in a process of its own, by llama-cpp-python."""

    def __init__(self, path: Path, threads: int, whole: bool = False):
        command = [str(LLAMA_PYTHON), str(HERE / "llama_worker.py"), str(path), "--threads", str(threads)]
        self._process = subprocess.Popen(
            command + ["--whole"] * whole, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("llama.cpp's process ended")
        return json.loads(line)

    def ask(self, **job: Any) -> dict[str, Any]:
        """One job, one answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def fill(self, prompt: list[int], cold: bool) -> Time:
        """A fill in the middle, NEW tokens."""
        answer = self.ask(do="fill", prompt=prompt, new=NEW, cold=cold)
        return answer["ms"], answer["cpu_ms"]

    def whole(self, tokens: list[int]) -> Time:
        """One pass over everything, as a step of its diffusion program."""
        answer = self.ask(do="whole", tokens=tokens)
        return answer["ms"], answer["cpu_ms"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def write_gguf(source: Path, kind: str) -> Path:
    """The checkpoint as GGUF, written once."""
    target = source.parent / f"{source.name}-{kind}.gguf"
    if not target.is_file():
        command = [str(LLAMA_PYTHON), str(HERE / "gguf_file.py"), str(source), str(target), kind]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    return target


class Torch:
    """The same weights in torch, float32: the reference algorithm, and Qwen2 of transformers as a causal model."""

    def __init__(self, folder: Path, threads: int):
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        import torch
        import transformers

        from model_runtime.models.dream import DreamModel

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self.model = DreamModel.from_pretrained(folder, dtype=torch.float32).eval()
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        shared = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                  "num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings")  # fmt: skip
        config = transformers.Qwen2Config(
            **{name: told[name] for name in shared},
            rope_parameters={"rope_theta": told["rope_theta"], "rope_type": "default"},
        )
        with torch.device("meta"):
            self.causal = transformers.Qwen2ForCausalLM(config)
        self.causal.load_state_dict(self.model.state_dict(), assign=True, strict=False)
        self.causal.tie_weights()
        self.causal.model.rotary_emb = type(self.causal.model.rotary_emb)(config)  # its buffers were never made
        self.causal.eval()

    def reference_step(self, ids: list[int], at: int) -> Time:
        """One of NEW steps of `diffusion_generate`, which are all alike: a pass over the whole sequence."""
        import torch

        from model_runtime.engine.generate import diffusion_generate

        mask = self.model.config.mask_token_id
        canvas = torch.tensor([[*ids[:at], mask, *ids[at:]]])
        config = type(self.model.config).from_dict({**self.model.config.to_dict(), "attention": "full"})
        decoder = _AsFull(self.model, config)
        return timed(lambda: diffusion_generate(decoder, canvas, steps=1, alg="maskgit_plus").sequences)

    def generate(self, prompt: list[int]) -> Time:
        """NEW tokens behind a prompt, with the library's own cache of keys and values."""
        import torch

        ids = torch.tensor([prompt])
        options: dict[str, Any] = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
        return timed(lambda: self.causal.generate(ids, attention_mask=torch.ones_like(ids), **options))

    def logits(self, prompt: list[int]) -> list[float]:
        """The causal model's logits behind a prompt, of every 97th token."""
        import torch

        with torch.inference_mode():
            return self.causal(torch.tensor([prompt])).logits[0, -1, ::97].tolist()


class _AsFull:
    """A model whose rows all see each other, whatever its config says: the time is the same."""

    def __init__(self, model: Any, config: Any):
        self._model, self.config = model, config

    def __call__(self, ids_BL: Any) -> Any:
        return self._model(ids_BL)
