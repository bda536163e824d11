"""Learn how far the counted expert is to be believed: `python -m training.gate MODEL --corpus build/embedded`.

On lines of the corpus's validation documents: the first tokens of a line are revealed, the rest is masked, with masks
to spare; the target is the next token, or `delete` where the line ends. The gate is the logistic function of FEATURES
that makes the mixture's likelihood of the targets greatest.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model_runtime.engine.cache import ContextCache, lay_out
from model_runtime.engine.canvas import Cell, build_canvas
from model_runtime.engine.denoise import Bans
from model_runtime.engine.engine import Engine
from model_runtime.engine.expert import FEATURES, CountedExpert, following_token, local_tokens
from training.corpus.pack import load_pack

SPARE = 6  # masks behind the line's end


def line_holes(engine: Engine, corpus: Path, count: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """Whole lines (text, start, end) of validation documents, indentation left out."""
    pack = load_pack(corpus)
    rng = np.random.default_rng(seed)
    for _ in range(count):
        document = int(rng.integers(pack.validation_from, len(pack.offsets) - 1))
        text = engine.tokenizer.decode_bytes(pack.document(document)).decode(errors="ignore")
        lines = text.splitlines(keepends=True)
        number = int(rng.integers(len(lines)))
        content = lines[number].strip()
        if len(content) < 4 or content.startswith(("#", '"', "'")):
            continue
        start = sum(map(len, lines[:number])) + lines[number].index(content[0])
        yield text, start, start + len(content)


def observe(engine: Engine, holes: Iterator[tuple[str, int, int]], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [X, F] and the probabilities [X, 2] that network and expert give the target."""
    assert engine.expert is not None
    rng = np.random.default_rng(seed)
    bans, facts = Bans(engine.facts, engine.tokenizer), engine.facts
    features, probabilities = [], []
    for text, start, end in holes:
        tokens = engine.tokenizer.encode(text[start:end])
        expert = CountedExpert(engine.expert, facts, local_tokens(engine.tokenizer.encode, text, [(start, end)], None))
        canvas = build_canvas(engine.tokenizer, facts, text, [(start, end)], heal=False)
        cache = ContextCache(engine.backend, canvas, enabled=True)
        for shown in {0, int(rng.integers(0, len(tokens) + 1)), len(tokens)}:
            masks = max(len(tokens) - shown, 0) + int(rng.integers(1, SPARE))
            canvas.holes[0].cells = [Cell(token) for token in tokens[:shown]] + [Cell() for _ in range(masks)]
            target = tokens[shown] if shown < len(tokens) else facts.delete_id
            layout = lay_out(canvas, facts)
            lines = [bans.growing] * len(layout.masked)
            targets = np.full((1, len(lines)), target)
            found = cache.step([layout], bans.lines, [lines], targets_BR=targets)
            left, right = expert.look(layout, layout.masked[0][0])
            probs_V = expert.probabilities(left, right)
            if probs_V is None or left is None or found.target_log_probs_BR is None:
                continue
            best = float(np.exp(found.log_probs_BRA[0, 0, 0]))
            features.append(expert.features(left, right, probs_V, best, float(found.entropy_BR[0, 0])))
            after = following_token(canvas, 0, layout.masked[0][2])
            counted = probs_V[after] if target == facts.delete_id and after is not None else probs_V[target]
            probabilities.append((float(np.exp(found.target_log_probs_BR[0, 0])), float(counted)))
    return np.array(features), np.array(probabilities)


def learn(features: np.ndarray, probabilities: np.ndarray, rounds: int = 4000, rate: float = 0.05) -> np.ndarray:
    """The gate's weights by gradient ascent on the mean log-likelihood of the mixture, with a little decay."""
    weights = np.zeros(features.shape[1])
    squares = np.full_like(weights, 1e-8)
    network, expert = probabilities[:, 0], probabilities[:, 1]
    for _ in range(rounds):
        gate = 1 / (1 + np.exp(-features @ weights))
        mixture = (1 - gate) * network + gate * expert + 1e-9
        gradient = features.T @ ((expert - network) / mixture * gate * (1 - gate)) / len(features) - 1e-4 * weights
        squares = 0.99 * squares + 0.01 * gradient**2
        weights += rate * gradient / np.sqrt(squares)
        rate *= 0.999
    return weights


def nats(features: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Mean nats of the targets: network alone, expert alone, both."""
    gate = 1 / (1 + np.exp(-features @ weights))
    both = (1 - gate) * probabilities[:, 0] + gate * probabilities[:, 1]
    figures = {"network": probabilities[:, 0], "expert": probabilities[:, 1], "both": both}
    return {name: round(float(-np.log(p + 1e-9).mean()), 4) for name, p in figures.items()}


def fit(model: Path, corpus: Path, count: int) -> None:
    """Learn the gate of a model folder's expert.npz, in place."""
    engine = Engine.load(model)
    learned = observe(engine, line_holes(engine, corpus, count, 0), 0)
    weights = learn(*learned)
    checked = observe(engine, line_holes(engine, corpus, count // 3, 1), 1)
    print("gate, nats a token: learned on", nats(*learned, weights), "checked on", nats(*checked, weights))
    print(dict(zip(FEATURES, weights.round(2).tolist(), strict=True)))
    path = model / "expert.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file} | {"gate": weights}
    with path.open("wb") as out:
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a model folder with expert.npz; its gate is replaced")
    parser.add_argument("--corpus", type=Path, default=Path("build/embedded"))
    parser.add_argument("--count", type=int, default=1500)
    arguments = parser.parse_args(argv)
    fit(arguments.model, arguments.corpus, arguments.count)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
