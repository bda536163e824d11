"""Learn how far the counted expert is to be believed: `python -m training.gate MODEL --corpus build/embedded`.

On lines of the corpus's validation documents, seen as `engine/search.py` sees them: a part of the line is written, a
few masks follow, and the target is the next token or the end. Two logistic functions are learned. The gate says how
much of the next token's probability is the counts' (FEATURES), such that the mixture's likelihood of the targets is
greatest; the other one says how likely the end is (END_FEATURES), where Python would parse with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_runtime.engine.cache import ContextCache
from model_runtime.engine.canvas import build_canvas
from model_runtime.engine.denoise import Settings
from model_runtime.engine.engine import Engine
from model_runtime.engine.expert import END_FEATURES, FEATURES, CountedExpert, local_tokens
from model_runtime.engine.python_syntax import Judge
from model_runtime.engine.search import Hypothesis, Search
from model_runtime.protocol import FillRequest
from training.evaluation.holes import HoldoutHole, sample_validation_holes

LINES_OF = 10  # seed of the lines that are learned on: not those that decoding is chosen on
INSIDE = 4  # places within a line that are looked at, besides its start and its end


@dataclass
class Seen:
    """Places in lines [X]: features, the probabilities that network and counts give the next token, whether they are
    ends, whether they may be, and how many places of their line each stands for."""

    features: np.ndarray
    end_features: np.ndarray
    probabilities: np.ndarray
    ends: np.ndarray
    may_end: np.ndarray
    weights: np.ndarray


def observe(engine: Engine, holes: Iterable[HoldoutHole], seed: int) -> Seen:
    """Look at a few places of every line."""
    assert engine.expert is not None
    rng = np.random.default_rng(seed)
    rows = []
    for hole in holes:
        tokens, at = engine.tokenizer.encode(hole.truth), len(hole.prefix)
        request = FillRequest(text=hole.prefix + hole.suffix, holes=[(at, at)], max_lines=1, language="python")
        local = local_tokens(engine.tokenizer.encode, request.text, request.holes, None)
        expert = CountedExpert(engine.expert, engine.facts, local)
        canvas = build_canvas(engine.tokenizer, engine.facts, request.text, request.holes, heal=False)
        settings = Settings(request, "search", 0.0, None, None, rng, expert)
        judge = Judge(hole.prefix, hole.suffix)
        search = Search(
            ContextCache(engine.backend, canvas, enabled=True), canvas, engine.facts, engine.bans, settings,
            engine.tokenizer.newline_id, lambda _: "", None,
        )  # fmt: skip
        places = sorted({0, len(tokens), *rng.integers(0, len(tokens) + 1, INSIDE).tolist()})
        search.live = [Hypothesis(tuple(tokens[:place])) for place in places]
        for place, (layout, network_V, entropy, ends) in zip(places, search.see(), strict=True):
            sight = expert.sight(layout, layout.masked[0][0], network_V, entropy, ends)
            if sight is None:
                continue
            ended = place == len(tokens)
            written = engine.tokenizer.decode_bytes(tokens[:place]).decode(errors="ignore")
            of_target = (0.0, 0.0) if ended else (sight.network_V[tokens[place]], sight.expert_V[tokens[place]])
            inside = 0 < place < len(tokens)
            weight = (len(tokens) - 1) / (len(places) - 2) if inside else 1.0
            may_end = place > 0 and judge.accepts(written)
            rows.append((sight.features, sight.end_features, of_target, ended, may_end, weight))
    return Seen(*(np.array(column) for column in zip(*rows, strict=True)))


def climb(slope: Callable[[np.ndarray], np.ndarray], count: int, rounds: int = 3000, rate: float = 0.05) -> np.ndarray:
    """The weights [count] where a likelihood is greatest, by gradient ascent with a little decay."""
    weights = np.zeros(count)
    squares = np.full_like(weights, 1e-8)
    for _ in range(rounds):
        gradient = slope(weights) - 1e-4 * weights
        squares = 0.99 * squares + 0.01 * gradient**2
        weights += rate * gradient / np.sqrt(squares)
        rate *= 0.9985
    return weights


def learn_gate(seen: Seen) -> np.ndarray:
    """Weights of FEATURES: where the mixture of network and counts makes the next tokens likeliest."""
    text = ~seen.ends
    features, weights = seen.features[text], seen.weights[text] / seen.weights[text].sum()
    network, expert = seen.probabilities[text].T

    def slope(w: np.ndarray) -> np.ndarray:
        share = 1 / (1 + np.exp(-features @ w))
        mixture = (1 - share) * network + share * expert + 1e-9
        return features.T @ (weights * (expert - network) / mixture * share * (1 - share))

    return climb(slope, len(FEATURES))


def learn_end(seen: Seen) -> np.ndarray:
    """Weights of END_FEATURES: a logistic regression over the places where a line may end."""
    features, ends = seen.end_features[seen.may_end], seen.ends[seen.may_end]
    weights = seen.weights[seen.may_end] / seen.weights[seen.may_end].sum()

    def slope(w: np.ndarray) -> np.ndarray:
        return features.T @ (weights * (ends - 1 / (1 + np.exp(-features @ w))))

    return climb(slope, len(END_FEATURES))


def nats(seen: Seen, gate: np.ndarray, end: np.ndarray) -> dict[str, float]:
    """Mean nats of a next token by network, counts, both; and of whether the line ends, by base rate and as learned."""
    text, may = ~seen.ends, seen.may_end
    share = 1 / (1 + np.exp(-seen.features[text] @ gate))
    network, expert = seen.probabilities[text].T
    chance, ends = 1 / (1 + np.exp(-seen.end_features[may] @ end)), seen.ends[may]
    base = np.average(ends, weights=seen.weights[may])

    def mean(probabilities: np.ndarray, weights: np.ndarray) -> float:
        return round(float(-np.average(np.log(probabilities + 1e-6), weights=weights)), 4)

    return {
        "network": mean(network, seen.weights[text]),
        "expert": mean(expert, seen.weights[text]),
        "both": mean((1 - share) * network + share * expert, seen.weights[text]),
        "end, base rate": mean(np.where(ends, base, 1 - base), seen.weights[may]),
        "end": mean(np.where(ends, chance, 1 - chance), seen.weights[may]),
    }


def fit(model: Path, corpus: Path, count: int) -> dict[str, float]:
    """Learn the gate and the end of a model folder's expert.npz, in place; the nats on other lines."""
    engine = Engine.load(model)
    learned = observe(engine, sample_validation_holes(corpus, count, LINES_OF), 0)
    gate, end = learn_gate(learned), learn_end(learned)
    checked = nats(observe(engine, sample_validation_holes(corpus, count // 3, LINES_OF + 1), 1), gate, end)
    print("nats: learned on", nats(learned, gate, end), "checked on", checked)
    print(dict(zip(FEATURES, gate.round(2).tolist(), strict=True)))
    print(dict(zip(END_FEATURES, end.round(2).tolist(), strict=True)))
    path = model / "expert.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file} | {"gate": gate, "end": end}
    with path.open("wb") as out:
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return checked


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a model folder with expert.npz; its gate is replaced")
    parser.add_argument("--corpus", type=Path, default=Path("build/embedded"))
    parser.add_argument("--count", type=int, default=900)
    arguments = parser.parse_args(argv)
    fit(arguments.model, arguments.corpus, arguments.count)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
