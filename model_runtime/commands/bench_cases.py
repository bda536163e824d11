"""What `diffill bench` runs: places in real code, and the ways to fill them."""

from __future__ import annotations

import bisect
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_runtime.backends.onnx import default_threads
from model_runtime.commands import machine
from model_runtime.commands.describing import WEIGHTS
from model_runtime.engine.cache import Layout, lay_out
from model_runtime.engine.canvas import add_masks, build_canvas
from model_runtime.engine.engine import Engine
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import FillRequest, ModelError, RequestError

# The first that is installed: what the embedded model never saw, else a module of the standard library.
SOURCES = ("boltons.iterutils", "argparse")
PREFIX_SHARE = 0.75  # of the context: as the engine shares its window
CHARACTERS_A_TOKEN = 8


@dataclass
class Case:
    """A hole of `hole` tokens in `context` tokens of code, as a request's text and as the canvas that it makes."""

    hole: int
    context: int
    context_tokens: int  # as they came out: whole characters, and the token that begins a text
    text: str
    span: tuple[int, int]
    layout: Layout


@dataclass
class Variant:
    """One way to fill a hole; `run` takes the case and the number of steps (none: as needed), returns the steps."""

    backend: str  # onnx, torch
    method: str  # cached, uncached, threshold, diffusion_generate
    steps: int | None
    run: Callable[[Case, int | None], int]


def read_code() -> tuple[str, str]:
    """Return a module's name and its source text."""
    for name in SOURCES:
        try:
            spec = importlib.util.find_spec(name)
            text = spec.loader.get_source(name) if spec is not None else None  # type: ignore[union-attr]
        except (ImportError, AttributeError, OSError):
            continue
        if text:
            return name, text
    raise RequestError(f"bench needs real code to fill: none of {', '.join(SOURCES)} is installed as source")


def make_case(engine: Engine, code: str, hole: int, context: int, share: float) -> Case:
    """A hole that begins at the line `share` of the way through `code`, where `hole` tokens of it stood.

    The context is as many whole characters as fit into `context` tokens, three quarters of them before the hole.
    """
    tokenizer = engine.tokenizer
    before = int(context * PREFIX_SHARE)
    after = context - before
    # enough code on both sides of the place, wherever it is
    low = code.find("\n", before * CHARACTERS_A_TOKEN) + 1
    high = len(code) - (hole + after) * CHARACTERS_A_TOKEN
    if not 0 < low < high:
        raise RequestError(f"a hole of {hole} in {context} tokens is more than bench has code for; ask for less")
    start = code.find("\n", low - 1 + int((high - low) * share)) + 1
    end = start + longest(tokenizer, code[start : start + hole * CHARACTERS_A_TOKEN], hole)
    head = code[start - before * CHARACTERS_A_TOKEN : start]
    prefix = head[len(head) - longest_end(tokenizer, head, before) :]
    suffix = code[end : end + longest(tokenizer, code[end : end + after * CHARACTERS_A_TOKEN], after)]
    text = prefix + code[start:end] + suffix
    span = len(prefix), len(prefix) + end - start
    canvas = build_canvas(tokenizer, engine.facts, text, [span])
    add_masks(canvas.holes[0], hole)
    return Case(hole, context, sum(map(len, canvas.contexts)), text, span, lay_out(canvas, engine.facts))


def longest(tokenizer: TextTokenizer, text: str, budget: int) -> int:
    """How many characters of `text`, from its start, make at most `budget` tokens."""
    counts = range(len(text) + 1)
    return bisect.bisect_right(counts, budget, key=lambda n: len(tokenizer.encode(text[:n]))) - 1


def longest_end(tokenizer: TextTokenizer, text: str, budget: int) -> int:
    """How many characters of `text`, at its end, make at most `budget` tokens."""
    counts = range(len(text) + 1)
    return bisect.bisect_right(counts, budget, key=lambda n: len(tokenizer.encode(text[len(text) - n :]))) - 1


def load_engines(folder: Path, notes: list[str]) -> list[Engine]:
    """The model on ONNX Runtime and in torch; why one is left out is added to `notes`."""
    engines = []
    if (folder / "model.onnx").is_file():
        engines.append(Engine.load(folder, backend="onnx", keep_bytes=0))  # every fill encodes its context
    else:
        notes.append("left out, the rows of onnx: the model has no model.onnx")
    if not any((folder / name).is_file() for name in WEIGHTS[1:]):
        notes.append("left out, the rows of torch: the model has no model.safetensors")
    elif not (machine.is_installed("torch") and machine.is_installed("transformers")):
        notes.append("left out, the rows of torch: it is not installed (pip install 'diffill[torch]')")
    else:
        # like ONNX Runtime's here, idle threads sleep: on a busy machine spinning makes torch five times slower
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        import torch

        torch.set_num_threads(default_threads())  # as many as ONNX Runtime gets
        engines.append(Engine.load(folder, backend="torch", keep_bytes=0))
    if not engines:
        raise ModelError(f"nothing to measure: {'; '.join(notes)}")
    return engines


def make_variants(engines: list[Engine], hole: int, step_counts: list[int], quick: bool) -> list[Variant]:
    """Every way to fill a hole of `hole` tokens; with `quick` only those of the headline figures."""
    counts = sorted({min(steps, hole) for steps in step_counts})  # a step reveals at least one token
    if quick:
        counts = counts[-1:]
    variants = []
    for engine in engines[:1] if quick else engines:
        name = engine.backend.name
        for steps in counts:
            variants.append(Variant(name, "cached", steps, fills(engine, "maskgit_plus", "on")))
            variants.append(Variant(name, "uncached", steps, fills(engine, "maskgit_plus", "off")))
        variants.append(Variant(name, "threshold", None, fills(engine, "threshold", "on")))
    for engine in engines:
        if engine.backend.name == "torch":
            variants.append(Variant("torch", "diffusion_generate", hole, generates(engine)))
    return variants


def fills(engine: Engine, sampler: str, cache: Any) -> Callable[[Case, int | None], int]:
    """A function that fills a case with the engine."""

    def run(case: Case, steps: int | None) -> int:
        length, most = f"fixed:{case.hole}", case.hole
        options: dict[str, Any] = {"length": length, "max_tokens": most, "sampler": sampler, "cache": cache}
        return engine.fill(FillRequest(text=case.text, holes=[case.span], steps=steps, **options)).steps

    return run


class SegmentedModel:
    """A context_blind model as `diffusion_generate` wants one: it knows the segments of the one canvas it decodes."""

    def __init__(self, model: Any, segments_BL: Any):
        self._model, self._segments_BL = model, segments_BL
        self.config = type(model.config).from_dict({**model.config.to_dict(), "attention": "full"})

    def __call__(self, ids_BL: Any) -> Any:
        return self._model(ids_BL, segments=self._segments_BL)


def generates(engine: Engine) -> Callable[[Case, int | None], int]:
    """A function that decodes a case's canvas as the papers do: the whole sequence at every step, nothing cached."""
    import torch

    from model_runtime.engine.generate import diffusion_generate

    model, device = engine.backend.model, engine.backend.device  # type: ignore[attr-defined]

    def run(case: Case, steps: int | None) -> int:
        ids_BL = torch.from_numpy(case.layout.ids)[None].to(device)
        decoder = model
        if engine.facts.context_blind:
            decoder = SegmentedModel(model, torch.from_numpy(case.layout.segments)[None].to(device))
        steps = steps or case.hole
        diffusion_generate(decoder, ids_BL, steps=steps, alg="maskgit_plus").sequences.cpu()
        return steps

    return run
