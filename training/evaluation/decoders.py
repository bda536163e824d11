"""How a benchmark's holes and answers are written: by whole-sequence decoding in batches, or by the engine.

- `Whole`: `diffusion_generate` on the whole canvas, as the paper evaluates; any model of full attention.
- `Filling`: the engine, as editors use it; any model, one sample at a time.

Legend: B batch, L length of the canvas, T tokens written.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from model_runtime.protocol import FillRequest, RequestError
from training.evaluation.benchmarks.problem import Problem

if TYPE_CHECKING:
    from model_runtime.models.tokenizer import TextTokenizer

STOPS = ("<|endoftext|>", "<|im_end|>", "<|dlm_pad|>", "<|eos|>")  # behind any of these an answer says no more


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn. `length` is how long a hole gets: a request's policy, or "fixed:oracle"."""

    max_new_tokens: int = 512
    steps: int | None = 512
    alg: str = "entropy"
    top_p: float | None = 0.95
    length: str = "fixed:64"
    chat: bool = False


@dataclass(frozen=True)
class Written:
    """What was written for a problem, in how many tokens, steps and milliseconds.

    `order` are the positions of the tokens written (from 0) as they were revealed, `steps` how many steps revealed any;
    fewer steps than positions mean that some revealed several at once. `pieces` are the texts of all positions,
    `revealed` the steps (from 1) of the positions, where the decoder knows them.
    """

    text: str
    tokens: int
    ms: float
    order: list[int]
    steps: int
    pieces: list[str] | None = None
    revealed: list[int] = field(default_factory=list)


class Decoder(Protocol):
    """Writes samples for problems; the same problems, temperature and seed give the same texts."""

    tokenizer: TextTokenizer

    def write(self, problems: Sequence[Problem], temperature: float, seed: str) -> list[Written]:
        """One sample for each problem; `seed` is any text."""
        ...

    def check(self, problems: Sequence[Problem]) -> None:
        """RequestError with one sentence where a problem cannot be put to the model."""
        ...


def seed_of(text: str) -> int:
    """A number of 31 bits from a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


class Whole:
    """Whole-sequence decoding, a batch at a time; rows are padded on the left."""

    def __init__(self, folder: Path, sampling: Sampling, device: str | None = None, dtype: str = "float32"):
        import torch

        from model_runtime.models.families import read_facts
        from model_runtime.models.tokenizer import TextTokenizer
        from training.models import read_model

        self.facts, self.tokenizer = read_facts(folder), TextTokenizer(folder / "tokenizer.json")
        self.sampling = sampling
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = read_model(folder, getattr(torch, dtype)).to(self.device).eval()
        named = (self.tokenizer.id_of(token) for token in STOPS)
        config = self.model.config
        self.stops = {i for i in (*named, config.eos_token_id, config.pad_token_id) if i is not None}

    def check(self, problems: Sequence[Problem]) -> None:
        """RequestError where a canvas is longer than the model's positions."""
        longest = max(sum(self._lengths(problem)) for problem in problems)
        if longest > self.facts.context_length:
            raise RequestError(
                f"the longest canvas has {longest} tokens, and {self.facts.name} was trained on "
                f"{self.facts.context_length}: lower --max-new-tokens, or leave long problems out with --max-prompt"
            )

    def _lengths(self, problem: Problem) -> tuple[int, int, int]:
        before, masks, after = self._canvas(problem)
        return len(before), masks, len(after)

    def _canvas(self, problem: Problem) -> tuple[list[int], int, list[int]]:
        """The ids before the masks, how many masks, and the ids after them."""
        encode, facts, sampling = self.tokenizer.encode, self.facts, self.sampling
        if sampling.chat and problem.shape != "infill":
            from training.conversations import lay_out
            from training.evaluation.prompts import SYSTEM, chat_prompt

            exchange = chat_prompt(problem)
            return [*lay_out(exchange, self.tokenizer, SYSTEM).prompt, *encode(exchange.answer)], self._new(), []
        before = [*([] if facts.bos_id is None else [facts.bos_id]), *encode(problem.prompt)]
        if problem.shape != "infill":
            return before, self._new(), []
        return before, hole_tokens(sampling.length, problem, self.tokenizer), encode(problem.suffix)

    def _new(self) -> int:
        return self.sampling.max_new_tokens

    def canvases(self, problems: Sequence[Problem]) -> tuple[Any, Any, list[tuple[int, int]]]:
        """Ids and attention mask [B, L], and where the masks of each row stand (start, end)."""
        import torch

        rows, spans = [], []
        made = [self._canvas(problem) for problem in problems]
        width = max(len(before) + masks + len(after) for before, masks, after in made)
        for before, masks, after in made:
            row = [*before, *[self.facts.mask_id] * masks, *after]
            padding = width - len(row)
            rows.append([0] * padding + row)
            spans.append((padding + len(before), padding + len(before) + masks))
        ids_BL = torch.tensor(rows)
        real_BL = torch.ones_like(ids_BL)
        for row, (before, masks, after) in zip(real_BL, made, strict=True):
            row[: width - len(before) - masks - len(after)] = 0
        return ids_BL.to(self.device), real_BL.to(self.device), spans

    def write(self, problems: Sequence[Problem], temperature: float, seed: str) -> list[Written]:
        """One sample for each problem; one generator serves the batch, so a batch is drawn anew only as a whole."""
        import torch

        from model_runtime.engine.generate import diffusion_generate
        from training.evaluation.arness import decoding_orders

        sampling, began = self.sampling, time.perf_counter()
        ids_BL, real_BL, spans = self.canvases(problems)
        most = max(end - start for start, end in spans)
        made = diffusion_generate(
            self.model,
            ids_BL,
            real_BL,
            steps=min(sampling.steps or most, most),
            alg=sampling.alg,
            temperature=temperature,
            top_p=sampling.top_p,
            output_history=True,
            generator=torch.Generator().manual_seed(seed_of(seed)),
        )
        ms = 1000 * (time.perf_counter() - began) / len(problems)
        history = [step.cpu() for step in made.history or ()]
        orders = decoding_orders(ids_BL.cpu(), history, self.facts.mask_id)
        masked_SBL = torch.stack([step == self.facts.mask_id for step in history])
        written = []
        for n, ((start, end), order, problem) in enumerate(zip(spans, orders, problems, strict=True)):
            ids = made.sequences[n, start:end].tolist()
            pieces = [self.tokenizer.decode_bytes([i]).decode("utf-8", "replace") for i in ids]
            revealed = (masked_SBL[:, n, start:end].sum(dim=0) + 1).tolist()
            if problem.shape != "infill":
                ids = ids[: next((at for at, i in enumerate(ids) if i in self.stops), len(ids))]
            text = self.tokenizer.decode_bytes(ids).decode("utf-8", "replace")
            positions = [at - start for at in order.positions]
            written.append(Written(text, len(ids), ms, positions, order.steps, pieces, revealed))
        return written


class Filling:
    """The engine, one request a problem. A hole ends where a line ends if the benchmark's own text does."""

    def __init__(self, folder: Path, sampling: Sampling, threads: int | None = None):
        from model_runtime.engine.engine import Engine

        self.engine = Engine.load(folder, threads=threads)
        self.tokenizer, self.facts, self.sampling = self.engine.tokenizer, self.engine.facts, sampling

    def check(self, problems: Sequence[Problem]) -> None:
        """Nothing: the engine cuts contexts to the model's window."""

    def request(self, problem: Problem, temperature: float, seed: int) -> tuple[FillRequest, str]:
        """The request for a problem, and what goes behind its fill."""
        sampling = self.sampling
        kept = "\n" if problem.shape == "infill" and (problem.gold or "").endswith("\n") else ""
        at = len(problem.prompt)
        length = sampling.length
        if length == "fixed:oracle":
            length = f"fixed:{hole_tokens(length, problem, self.tokenizer, kept)}"
        request = FillRequest(
            text=problem.prompt + kept + problem.suffix,
            holes=[(at, at)],
            length=length,
            max_tokens=sampling.max_new_tokens,
            max_lines=problem.max_lines,
            steps=sampling.steps,
            sampler=sampling.alg,
            temperature=temperature,
            top_p=sampling.top_p,
            seed=seed,
            language=problem.language,
        )
        return request, kept

    def write(self, problems: Sequence[Problem], temperature: float, seed: str) -> list[Written]:
        """One sample for each problem."""
        written = []
        for number, problem in enumerate(problems):
            request, kept = self.request(problem, temperature, seed_of(f"{seed}/{number}"))
            began = time.perf_counter()
            fill = self.engine.fill(request).holes[0]
            ms = 1000 * (time.perf_counter() - began)
            revealed = sorted((token.step, at) for at, token in enumerate(fill.tokens))
            order, steps = [at for _, at in revealed], len({step for step, _ in revealed})
            written.append(Written(fill.text + kept, len(fill.tokens), ms, order, steps))
        return written


def hole_tokens(length: str, problem: Problem, tokenizer: TextTokenizer, kept: str = "") -> int:
    """How many masks `fixed:N` or `fixed:oracle` gives a hole; RequestError for what only the engine can do."""
    if length == "fixed:oracle":
        if problem.gold is None:
            raise RequestError(f"{problem.id} gives no text of the hole, so --length fixed:oracle cannot be told")
        return max(1, len(tokenizer.encode(problem.gold.removesuffix(kept))))
    number = length.removeprefix("fixed:")
    if not length.startswith("fixed:") or not number.isdigit() or not int(number):
        raise RequestError(f"whole-sequence decoding takes --length fixed:N or fixed:oracle, not {length}")
    return int(number)
