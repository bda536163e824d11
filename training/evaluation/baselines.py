"""What a fill costs without a network: repeat the line above, or count n-grams.

Both predict from `(prefix, suffix)` alone and answer with the text of one line's hole. Shapes: T tokens of
the corpus, V the vocabulary.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from training.corpus.pack import load_pack
from training.corpus.tokenizer import SPECIAL_TOKENS, encode_plain

ORDER = 7  # the longest n-gram: six tokens of context
PREFIX_TOKENS, SUFFIX_TOKENS = 256, 120
MAX_TOKENS = 48
_CONTEXT = ORDER - 1
_REMEMBERED = 4096  # a context seen more often than this keeps its counts at hand


def copy_previous_line(prefix: str, suffix: str) -> str:
    """Return the content of the last line before the hole's own that is not blank, or nothing."""
    return next((line.strip() for line in reversed(prefix.split("\n")[:-1]) if line.strip()), "")


class NgramCounts:
    """What follows every context of up to six tokens, counted exactly in one array.

    `order` (T,) holds the positions of `tokens` sorted by the six tokens before each, nearest first. The
    positions that follow a context are then one run of it, and a longer context is a run within that run,
    found by bisection.
    """

    def __init__(self, tokens: np.ndarray, order: np.ndarray, vocabulary: int):
        self.tokens, self.order, self.vocabulary = tokens, order, vocabulary
        self.unigrams = np.bincount(tokens[_CONTEXT:], minlength=vocabulary).astype(np.float64)
        self._remembered: dict[tuple[int, int], np.ndarray] = {}

    @classmethod
    def count(cls, corpus: np.ndarray, vocabulary: int) -> NgramCounts:
        """Count `corpus` (T,) of token ids below 65536; about 40 bytes a token while it sorts."""
        tokens = np.concatenate([np.zeros(_CONTEXT, dtype=np.uint16), np.asarray(corpus, dtype=np.uint16)])
        size = len(corpus)
        near = np.zeros(size, dtype=np.uint64)  # the four nearest tokens, then the two before them
        far = np.zeros(size, dtype=np.uint32)
        for distance in range(1, _CONTEXT + 1):
            key = near if distance <= 4 else far
            key <<= key.dtype.type(16)
            key |= tokens[_CONTEXT - distance : _CONTEXT - distance + size]
        order = np.lexsort((far, near)).astype(np.uint32) + np.uint32(_CONTEXT)
        return cls(tokens, order, vocabulary)

    @classmethod
    def load(cls, path: Path) -> NgramCounts:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            return cls(stored["tokens"], stored["order"], int(stored["vocabulary"]))

    def save(self, path: Path) -> None:
        """Write the two arrays as .npz: six bytes a token of the corpus."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, tokens=self.tokens, order=self.order, vocabulary=self.vocabulary)

    def followers(self, context: Sequence[int]) -> list[np.ndarray]:
        """Return for the last 1, 2, … 6 tokens of `context` how often each token (V,) followed them.

        The list ends before the first length that the corpus does not have.
        """
        runs = []
        low, high = 0, len(self.order)
        for distance, token in enumerate(reversed(context[-_CONTEXT:]), start=1):

            def before(row: int, distance: int = distance) -> int:
                return int(self.tokens[self.order[row] - distance])

            rows = range(low, high)
            low, high = (
                low + bisect_left(rows, token, key=before),
                low + bisect_left(rows, token + 1, key=before),
            )
            if low == high:
                break
            runs.append(self._run(low, high))
        return runs

    def _run(self, low: int, high: int) -> np.ndarray:
        if (low, high) in self._remembered:
            return self._remembered[low, high]
        seen = np.bincount(self.tokens[self.order[low:high]], minlength=self.vocabulary)
        if high - low > _REMEMBERED:
            self._remembered[low, high] = seen.astype(np.int32)
        return seen


@dataclass(frozen=True)
class _Hypothesis:
    score: float  # the sum of the tokens' log-probabilities
    ids: tuple[int, ...]


class NgramBaseline:
    """Left to right, interpolated orders 1 to 7 with beam search, until the token that begins the suffix.

    The corpus's counts and `local_weight` times the counts of the tokens around the hole (256 before, 120
    after) are added and interpolated by Witten and Bell's rule (1991): an order keeps as much weight for
    the shorter context as it has distinct followers. Finished beams are ranked with the likelihood of the
    next `rescore` tokens of the suffix. A hole ends at a newline at the latest, so that of a block only one
    line is given.
    """

    def __init__(
        self,
        counts: NgramCounts,
        tokenizer: Tokenizer,
        local_weight: float = 30.0,
        beam: int = 4,
        rescore: int = 8,
    ):
        self.counts, self.tokenizer = counts, tokenizer
        self.local_weight, self.beam, self.rescore = local_weight, beam, rescore
        texts = [tokenizer.decode([token], skip_special_tokens=False) for token in range(counts.vocabulary)]
        self.texts = texts
        # Never inside a line's hole: special tokens, line ends, parts of a character.
        self.banned = np.array(
            [
                token < len(SPECIAL_TOKENS) or any(part in text for part in ("\n", "\r", "\ufffd"))
                for token, text in enumerate(texts)
            ]
        )
        self.glued = np.array([text.startswith(" ") and not text.startswith("  ") for text in texts])
        self.newline = encode_plain(tokenizer, "\n")[0]

    def predict(self, prefix: str, suffix: str) -> str:
        """Return the best finished line, or the best that 48 tokens gave."""
        # A blank before a word belongs to the word's token: it is taken back and asked of the first token.
        lead = " " if prefix.endswith(" ") and prefix[-2:-1].strip() else ""
        before = self._encode_tail(prefix[: len(prefix) - len(lead)])
        after = encode_plain(self.tokenizer, suffix[: 16 * SUFFIX_TOKENS])[:SUFFIX_TOKENS]
        # 65535 is no token: nothing follows or precedes across the hole.
        around = np.array([*before, 65535, *after], dtype=np.int64)
        end = after[0] if after else self.newline

        live, finished = [_Hypothesis(0.0, ())], list[_Hypothesis]()
        for step in range(MAX_TOKENS):
            grown = []
            for hypothesis in live:
                log_p = np.log(self.distribution([*before, *hypothesis.ids], around))
                if hypothesis.ids:
                    finished.append(_Hypothesis(hypothesis.score + log_p[end], hypothesis.ids))
                log_p[self.banned] = -np.inf
                if lead and step == 0:
                    log_p[~self.glued] = -np.inf
                for token in np.argpartition(-log_p, self.beam)[: self.beam].tolist():
                    grown.append(_Hypothesis(hypothesis.score + log_p[token], (*hypothesis.ids, token)))
            finished = sorted(finished, key=lambda it: -it.score)[: self.beam]
            live = sorted(grown, key=lambda it: -it.score)[: self.beam]
            if len(finished) == self.beam and finished[-1].score >= live[0].score:
                break  # scores only fall
        best = max(finished, key=lambda it: it.score + self._suffix_score([*before, *it.ids], after, around))
        return "".join(self.texts[token] for token in best.ids)[len(lead) :]

    def distribution(self, context: Sequence[int], around: np.ndarray) -> np.ndarray:
        """Return the probabilities (V,) of what follows `context`; `around` (L,) are the tokens nearby."""
        size = self.counts.vocabulary
        local = np.bincount(around[around < size], minlength=size)
        seen = self.counts.unigrams + self.local_weight * local
        p = (seen + 1.0) / (seen.sum() + size)
        runs = self.counts.followers(context)
        rows = np.arange(1, len(around))  # positions whose tokens before match the context so far
        for distance, token in enumerate(reversed(context[-_CONTEXT:]), start=1):
            rows = rows[rows >= distance]
            rows = rows[around[rows - distance] == token]
            nearby = around[rows]
            nearby = nearby[nearby < size]
            if distance > len(runs) and not len(nearby):
                break
            seen = self.local_weight * np.bincount(nearby, minlength=size)
            if distance <= len(runs):
                seen += runs[distance - 1]
            distinct = np.count_nonzero(seen)
            p = (seen + distinct * p) / (seen.sum() + distinct)
        return p

    def _suffix_score(self, context: list[int], after: list[int], around: np.ndarray) -> float:
        score, context = 0.0, [*context, *after[:1]]
        for token in after[1 : 1 + self.rescore]:
            score += float(np.log(self.distribution(context, around)[token]))
            context.append(token)
        return score

    def _encode_tail(self, prefix: str) -> list[int]:
        tail = prefix[-16 * PREFIX_TOKENS :]
        if len(tail) < len(prefix):
            tail = tail[tail.find("\n") + 1 :]  # from a line's start on: no token is cut
        return encode_plain(self.tokenizer, tail)[-PREFIX_TOKENS:]


def counted(pack: Path, table: Path, vocabulary: int) -> NgramCounts:
    """Return the counts of a pack's training documents, read from `table` unless the pack is newer."""
    if not table.exists() or table.stat().st_mtime < (pack / "tokens.npy").stat().st_mtime:
        corpus = load_pack(pack)
        NgramCounts.count(corpus.tokens[: corpus.offsets[corpus.validation_from]], vocabulary).save(table)
    return NgramCounts.load(table)
