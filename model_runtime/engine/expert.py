"""A counted expert: what usually stands between the tokens around a mask, mixed into the denoiser's candidates.

Code repeats itself, in general and still more within a file (Hellendoorn and Devanbu, 2017). For a mask whose left
neighbour is known, n-grams are counted forward (after the tokens to its left) and, where the right neighbour is known
too, backward (before the tokens to its right), in a
compact table of the training corpus and, without any table, in the open file itself and in files related to it.
Orders are interpolated after Witten and Bell (1991). A gate that was learned on held-out code says how far to believe
the counts at each mask; what is left is the network's.

Masks in the midst of a hole have no known neighbour and stay the network's alone, so any order of revealing works.

Legend: R masked rows, A candidates a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_runtime.backends.interface import BANNED, Candidates
from model_runtime.engine.cache import Layout
from model_runtime.engine.canvas import Canvas
from model_runtime.models.families import ModelFacts
from model_runtime.protocol import Span

ORDERS = 6  # tokens of context at most
LOCAL_WEIGHT = 30.0  # a count in the file weighs as many in the corpus
LOCAL_TOKENS = 200_000  # of the open and related files that are searched
BACKWARD_POWER = 0.6  # how far the right side bends what the left side expects
BREAK = -1  # stands in local text where it is interrupted
CHUNK = 4096  # characters that are encoded at once
LOCAL_CHARACTERS = 400_000  # of each text that is read

STORED = ("gaps", "lengths", "totals", "distinct", "tokens", "counts")
FEATURES = ("bias", "local order", "corpus order", "expert's best", "network's best", "network's entropy", "right side")
END_FEATURES = ("bias", "network's end", "expert's end", *FEATURES[1:3], "network's best", "expert's best")


def context_keys(tokens: np.ndarray, order: int) -> np.ndarray:
    """A 32-bit key for each row of `tokens` [X, order], nearest token first."""
    key = np.full(len(tokens), 0x9E3779B97F4A7C15 ^ order, np.uint64)
    with np.errstate(over="ignore"):
        for n in range(order):
            key = (key ^ tokens[:, n].astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
            key ^= key >> np.uint64(29)
    return (key >> np.uint64(32)).astype(np.uint32)


def quantise(counts: np.ndarray) -> np.ndarray:
    """Counts as bytes on a logarithmic scale of 1/12 of a factor e; `counted` reverses it to within 5 %."""
    return np.clip(np.rint(12 * np.log(np.maximum(counts, 1))), 0, 255).astype(np.uint8)


def counted(codes: np.ndarray) -> np.ndarray:
    """The counts that bytes of `quantise` stand for."""
    return np.exp(codes.astype(np.float32) / 12)


@dataclass
class CountTable:
    """Pruned n-gram counts of one direction and order: contexts by key, and their likeliest continuations."""

    keys: np.ndarray  # [contexts] uint32, sorted
    starts: np.ndarray  # [contexts + 1] where each context's continuations begin
    totals: np.ndarray  # [contexts] codes: how often the context occurred
    distinct: np.ndarray  # [contexts] codes: how many continuations it had
    tokens: np.ndarray  # continuations
    counts: np.ndarray  # codes

    def find(self, key: int) -> tuple[np.ndarray, np.ndarray, float, float] | None:
        """Continuations, their counts, the context's total and number of distinct continuations."""
        at = int(np.searchsorted(self.keys, np.uint32(key)))
        if at == len(self.keys) or self.keys[at] != key:
            return None
        part = slice(int(self.starts[at]), int(self.starts[at + 1]))
        total, distinct = counted(self.totals[at : at + 1])[0], counted(self.distinct[at : at + 1])[0]
        return self.tokens[part], counted(self.counts[part]), float(total), float(distinct)


@dataclass
class Expert:
    """The counts of the corpus, unigrams, and the weights of the gate (FEATURES)."""

    forward: list[CountTable]  # order 1 first
    backward: list[CountTable]
    unigram_V: np.ndarray
    gate: np.ndarray
    end: np.ndarray | None = None  # weights of END_FEATURES, where they were learned

    @classmethod
    def load(cls, path: Path) -> Expert:
        """Read what `training/counts.py` wrote."""
        with np.load(path) as file:

            def tables(direction: str) -> list[CountTable]:
                found, order = [], 1
                while f"{direction}{order}.gaps" in file:
                    gaps, lengths, *rest = (file[f"{direction}{order}.{name}"] for name in STORED)
                    starts = np.concatenate([[0], np.cumsum(lengths.astype(np.int64))])
                    found.append(CountTable(np.cumsum(gaps, dtype=np.uint32), starts, *rest))
                    order += 1
                return found

            return cls(tables("f"), tables("b"), file["unigram"].astype(np.float64), file["gate"], file.get("end"))


@dataclass
class Sight:
    """What network and counts each expect at the first mask of a hole: its end, else text (distributions [V])."""

    network_V: np.ndarray
    network_end: float
    expert_V: np.ndarray
    expert_end: float
    features: np.ndarray
    end_features: np.ndarray

    def both(self, gate: np.ndarray, end: np.ndarray | None) -> tuple[np.ndarray, float]:
        """Text, if the hole does not end here [V], and the probability that it does."""
        share = sigmoid(self.features @ gate)
        text_V = (1 - share) * self.network_V + share * self.expert_V
        if end is None:
            return text_V, (1 - share) * self.network_end + share * self.expert_end
        return text_V, sigmoid(self.end_features @ end)


def sigmoid(x: float) -> float:
    """The logistic function."""
    return float(1 / (1 + np.exp(-x)))


def logit(probability: float) -> float:
    """Its inverse, of probabilities that are neither 0 nor 1."""
    clipped = min(max(probability, 1e-4), 1 - 1e-4)
    return float(np.log(clipped / (1 - clipped)))


@dataclass
class Opinion:
    """What one direction's counts say of a mask: a distribution, and how many tokens of context were known to whom."""

    probs_V: np.ndarray
    local_order: int
    corpus_order: int


def continuations(local: np.ndarray, context: list[int], forward: bool) -> list[np.ndarray]:
    """For orders 1, 2, …: the tokens that follow (precede) `context`, nearest first, in `local`; ends where none do."""
    step = 1 if forward else -1
    at = np.flatnonzero(local == context[0])
    found = []
    for order in range(1, len(context) + 1):
        if order > 1:
            before = at - step * (order - 1)
            at = at[(before >= 0) & (before < len(local))]
            at = at[local[at - step * (order - 1)] == context[order - 1]]
        after = at + step
        after = local[after[(after >= 0) & (after < len(local))]]
        after = after[after != BREAK]
        if len(after) == 0:
            break
        found.append(after)
    return found


def opinion(
    tables: list[CountTable], unigram_V: np.ndarray, local: np.ndarray, context: list[int], forward: bool
) -> Opinion:
    """Interpolated probabilities [V] after `context` (nearest token first), orders 1 to len(context)."""
    probs_V = unigram_V.copy()
    near = continuations(local, context, forward)
    corpus_order = 0
    arranged = np.array(context, np.int64)[None]
    for order in range(1, len(context) + 1):
        entry = None
        if order <= len(tables):
            entry = tables[order - 1].find(int(context_keys(arranged[:, :order], order)[0]))
        mine = near[order - 1] if order <= len(near) else None
        if entry is None and mine is None:
            break
        total, distinct = 0.0, 0.0
        counts_V = np.zeros_like(probs_V)
        if entry is not None:
            tokens, counts, total, distinct = entry
            counts_V[tokens] += counts
            corpus_order = order
        if mine is not None:
            kinds, times = np.unique(mine, return_counts=True)
            counts_V[kinds] += LOCAL_WEIGHT * times
            total += LOCAL_WEIGHT * len(mine)
            distinct += LOCAL_WEIGHT * 0.5 * len(kinds)
        # mass that pruning dropped goes, with the novelty mass, to the shorter context
        seen = counts_V.sum()
        probs_V = (counts_V + (max(total - seen, 0.0) + distinct) * probs_V) / (max(total, seen) + distinct)
    return Opinion(probs_V, len(near), corpus_order)


def line_chunks(text: str) -> Iterator[str]:
    """Runs of whole lines of about CHUNK characters: typing changes the last one only, the others may be remembered."""
    at = 0
    while at < len(text):
        newline = text.find("\n", at + CHUNK)
        end = len(text) if newline < 0 else newline + 1
        yield text[at:end]
        at = end


def local_tokens(
    encode: Callable[[str], list[int]], text: str, holes: list[Span], related: list[str] | None
) -> np.ndarray:
    """The tokens of a document without its holes, and of related ones, BREAK between the pieces."""
    pieces = list(related or [])
    edges = [0, *(edge for hole in holes for edge in hole), len(text)]
    pieces += [text[a:b][-LOCAL_CHARACTERS:] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    ids: list[int] = []
    for piece in pieces:
        for chunk in line_chunks(piece.replace("\r\n", "\n")):
            ids += encode(chunk)
        ids.append(BREAK)
    return np.array(ids[-LOCAL_TOKENS:], np.int64)


class CountedExpert:
    """The expert at work on one document."""

    def __init__(self, expert: Expert, facts: ModelFacts, local: np.ndarray):
        self._expert, self._facts, self._local = expert, facts, local

    def look(self, layout: Layout, position: int) -> tuple[Opinion | None, Opinion | None]:
        """Opinions from the left and from the right of a mask; None where the neighbour is masked or missing."""
        ids, mask, bos = layout.ids, self._facts.mask_id, self._facts.bos_id
        left: list[int] = []
        at = position - 1
        while at >= 0 and len(left) < ORDERS and ids[at] not in (mask, bos):
            left.append(int(ids[at]))
            at -= 1
        right: list[int] = []
        at = position + 1
        while at < len(ids) and len(right) < ORDERS and ids[at] != mask:
            right.append(int(ids[at]))
            at += 1
        e, local = self._expert, self._local
        return (
            opinion(e.forward, e.unigram_V, local, left, True) if left else None,
            opinion(e.backward, e.unigram_V, local, right, False) if right else None,
        )

    def probabilities(self, left: Opinion | None, right: Opinion | None) -> np.ndarray | None:
        """Both sides as one distribution [V]: the left side's, bent by what the right side makes more likely.

        The right side alone is not asked: while a hole looks for its size, what stands before the text behind it may
        still go away (on 195 validation lines, exact match fell from 8.7 % to 6.2 % when it was).
        """
        if left is None or right is None:
            return left.probs_V if left is not None else None
        bent = left.probs_V * (right.probs_V / self._expert.unigram_V) ** BACKWARD_POWER
        return bent / bent.sum()

    def features(
        self, left: Opinion, right: Opinion | None, probs_V: np.ndarray, best: float, entropy: float
    ) -> np.ndarray:
        """The gate's inputs (FEATURES) for one mask; `best` and `entropy` are the network's."""
        return np.array(
            [
                1.0,
                left.local_order / ORDERS,
                left.corpus_order / ORDERS,
                np.log(probs_V.max() + 1e-9),
                np.log(best + 1e-9),
                entropy / 5,
                float(right is not None),
            ]
        )

    def mix(
        self, candidates: Candidates, layout: Layout, canvas: Canvas, bias_CV: np.ndarray, lines: list[int]
    ) -> None:
        """Replace the candidates of masks with a known neighbour by the mixture, in place (batch 1)."""
        for row, (position, number, cell) in enumerate(layout.masked):
            network_V = np.zeros(bias_CV.shape[1])
            network_V[candidates.ids_BRA[0, row]] = np.exp(candidates.log_probs_BRA[0, row])
            end = following_token(canvas, number, cell) if cell.only is None else None
            allowed_V = bias_CV[lines[row]] > BANNED / 2
            entropy = float(candidates.entropy_BR[0, row])
            mixed_V = self.mixture(layout, position, network_V, entropy, allowed_V, end)
            if mixed_V is not None:
                self._write(candidates, row, mixed_V)

    def mixture(
        self,
        layout: Layout,
        position: int,
        network_V: np.ndarray,
        entropy: float,
        allowed_V: np.ndarray,
        end: int | None,
    ) -> np.ndarray | None:
        """Network and counts as one distribution [V] for the mask at `position`; None where the counts know nothing.

        `end` is the first token after the hole: expected here, it means that the hole ends here.
        """
        left, right = self.look(layout, position)
        probs_V = self.probabilities(left, right)
        if left is None or probs_V is None:
            return None
        network_V = network_V * allowed_V
        features = self.features(left, right, probs_V, network_V.max(), entropy)
        gate = sigmoid(features @ self._expert.gate)
        expert_V = probs_V.copy()
        delete = self._facts.delete_id
        if delete is not None and allowed_V[delete] and end is not None:
            expert_V[delete] += expert_V[end]
            expert_V[end] = 0.0
        expert_V *= allowed_V
        if expert_V.sum() <= 0:
            return None
        return (1 - gate) * network_V + gate * expert_V / expert_V.sum()

    def sight(
        self, layout: Layout, position: int, network_V: np.ndarray, entropy: float, ends: list[int]
    ) -> Sight | None:
        """Both views of the first mask of a hole, whose end is `delete` to the network and one of `ends` to the counts.

        `network_V` holds probabilities of allowed ids only. None where nothing stands before the mask.
        """
        left, _ = self.look(layout, position)
        if left is None:
            return None
        assert self._facts.delete_id is not None
        network_end = float(network_V[[self._facts.delete_id, *ends]].sum())
        expert_end = float(left.probs_V[ends].sum())
        text_V, counted_V = network_V.copy(), left.probs_V.copy()
        text_V[[self._facts.delete_id, *ends]] = 0.0
        counted_V[[self._facts.delete_id, *ends]] = 0.0
        text_V /= max(text_V.sum(), 1e-9)
        counted_V /= max(counted_V.sum(), 1e-9)
        features = self.features(left, None, counted_V, text_V.max(), entropy)
        orders = left.local_order / ORDERS, left.corpus_order / ORDERS
        ending = [1.0, logit(network_end), logit(expert_end), *orders, logit(text_V.max()), logit(counted_V.max())]
        return Sight(text_V, network_end, counted_V, expert_end, features, np.array(ending))

    def both(self, sight: Sight) -> tuple[np.ndarray, float]:
        """Text [V] and the probability of the end, weighed as was learned."""
        return sight.both(self._expert.gate, self._expert.end)

    def likelihood(self, before: list[int], tokens: list[int]) -> float:
        """The log-probability of `tokens` but the first after `before`, by the counts alone.

        Only of those that `before` has a say in: further on the counts look at `tokens` themselves.
        """
        e, total = self._expert, 0.0
        for n in range(1, min(len(tokens), ORDERS)):
            context = [token for token in [*before[-ORDERS:], *tokens[:n]][-ORDERS:] if token != self._facts.bos_id]
            total += float(np.log(opinion(e.forward, e.unigram_V, self._local, context[::-1], True).probs_V[tokens[n]]))
        return total

    @staticmethod
    def _write(candidates: Candidates, row: int, mixed_V: np.ndarray) -> None:
        width = candidates.ids_BRA.shape[2]
        best = np.argpartition(-mixed_V, width - 1)[:width]
        best = best[np.argsort(-mixed_V[best], kind="stable")]
        probs = mixed_V[best]
        candidates.ids_BRA[0, row] = best
        candidates.log_probs_BRA[0, row] = np.log(np.maximum(probs, 1e-12))
        candidates.margin_BR[0, row] = probs[0] - probs[1]
        inside = mixed_V[mixed_V > 1e-9]
        candidates.entropy_BR[0, row] = -(inside * np.log(inside)).sum()


def following_token(canvas: Canvas, number: int, cell: object) -> int | None:
    """The first token after the hole, if nothing is settled in the hole behind `cell`."""
    cells = canvas.holes[number].cells
    at = next(n for n, other in enumerate(cells) if other is cell)
    if any(later.token is not None or later.only is not None for later in cells[at + 1 :]):
        return None
    context = canvas.contexts[number + 1]
    return context[0] if context else None
