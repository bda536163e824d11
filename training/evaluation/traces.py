"""What a report looks at closely: how sure a model is of every mask before it decodes, and single decodings.

Legend: N masked positions of a hole or answer, counted from its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.corpus.store import write_json
from training.evaluation.benchmarks.problem import Problem
from training.evaluation.decoders import Decoder, Filling, Whole, Written, seed_of
from training.evaluation.runs import read_json

Row = dict[str, Any]
ENGINE_MASKS = 32  # of a hole whose length the engine would look for


@dataclass(frozen=True)
class Trace:
    """One decoding: the text of each position, and the step (from 1) that revealed it, [N] each.

    `shown`: how many positions the answer has before it ends. `behind`: what comes between it and the suffix.
    """

    task_id: str
    pieces: list[str]
    steps: list[int]
    shown: int
    behind: str = ""


def first_steps(decoder: Decoder, problems: Sequence[Problem]) -> list[Row]:
    """Entropy (nats) and the best token's probability at every mask, before anything is revealed; a row a problem."""
    if isinstance(decoder, Whole):
        return [_first_step_whole(decoder, problem) for problem in problems]
    assert isinstance(decoder, Filling)
    return [_first_step_engine(decoder, problem) for problem in problems]


def _first_step_whole(decoder: Whole, problem: Problem) -> Row:
    import torch

    from model_runtime.engine.filters import ban_ids

    with torch.no_grad():
        ids_BL, _, ((start, end),) = decoder.canvases([problem])
        logits_LV = decoder.model(ids_BL).logits[0]
        shift = int(getattr(decoder.model.config, "shift", True))
        rows_N = (torch.arange(start, end, device=logits_LV.device) - shift).clamp_min(0)
        logits_NV = ban_ids(logits_LV[rows_N].float(), decoder.model.config)
        p_NV = logits_NV.softmax(dim=-1)
        entropy_N = torch.special.entr(p_NV).sum(dim=-1)
    best = p_NV.max(dim=-1).values
    return {"task_id": problem.id, "entropy": rounded(entropy_N.tolist()), "confidence": rounded(best.tolist())}


def _first_step_engine(decoder: Filling, problem: Problem) -> Row:
    import numpy as np

    from model_runtime.engine.cache import ContextCache, lay_out
    from model_runtime.engine.canvas import add_masks, build_canvas

    engine, request = decoder.engine, decoder.request(problem, 0.0, 0)[0]
    canvas = build_canvas(engine.tokenizer, engine.facts, request.text, request.holes)
    fixed = request.length.startswith("fixed:")
    add_masks(canvas.holes[0], int(request.length[6:]) if fixed else ENGINE_MASKS)
    layout = lay_out(canvas, engine.facts)
    cache = ContextCache(engine.backend, canvas, enabled=True)
    bias_CV, lines = engine.bans.for_cells([(cell, engine.bans.fixed) for _, _, cell in layout.masked])
    found = cache.step([layout], bias_CV, [lines])
    count = len(layout.masked)
    best = np.exp(found.log_probs_BRA[0, :count, 0])
    entropy = found.entropy_BR[0, :count]
    return {"task_id": problem.id, "entropy": rounded(entropy.tolist()), "confidence": rounded(best.tolist())}


def traces(decoder: Decoder, problems: Sequence[Problem], temperature: float) -> list[Trace]:
    """One decoding of each problem, by itself."""
    found = []
    for problem in problems:
        if isinstance(decoder, Filling):
            found.append(_trace_engine(decoder, problem, temperature))
        else:
            (written,) = decoder.write([problem], temperature, "trace")
            found.append(_trace_whole(problem, written))
    return found


def _trace_whole(problem: Problem, written: Written) -> Trace:
    assert written.pieces is not None
    return Trace(problem.id, written.pieces, written.revealed, written.tokens)


def _trace_engine(decoder: Filling, problem: Problem, temperature: float) -> Trace:
    request, behind = decoder.request(problem, temperature, seed_of("trace"))
    fill = decoder.engine.fill(request).holes[0]
    pieces = [fill.text[token.start : token.end] for token in fill.tokens]
    return Trace(problem.id, pieces, [token.step for token in fill.tokens], len(pieces), behind)


def kept(path: Path, made: Any) -> list[Row]:
    """The rows in a file, or those that `made()` gives, which are then written there."""
    if path.is_file():
        return list(read_json(path)["rows"])
    rows = [row if isinstance(row, dict) else asdict(row) for row in made()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"rows": rows})
    return rows


def rounded(values: Sequence[float]) -> list[float]:
    """Four digits behind the point are enough for a picture."""
    return [round(value, 4) for value in values]
