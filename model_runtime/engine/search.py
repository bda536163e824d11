"""Fill one hole from the left with a beam: several beginnings are kept, and the hole ends where ending is likely.

For models that were trained with a `delete` token: its probability at the first mask is that of the hole's end, so that
a text and its length are judged together. Each beginning is followed by a few masks, whatever its length; all are one
batch over the same context. What is finished is judged again by what it makes of the text behind the hole: next-token
probabilities of the suffix, which a `context_blind` model has from its causal context, and syntax errors.

Legend: H hypotheses, V vocabulary.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from model_runtime.backends.interface import Candidates
from model_runtime.engine.cache import ContextCache, Layout, lay_out
from model_runtime.engine.canvas import Canvas, Cell, Hole
from model_runtime.engine.denoise import Bans, Outcome, Settings, out_of_time
from model_runtime.engine.python_syntax import Judge
from model_runtime.models.families import ModelFacts

BEAM = 4
FIRST = 24  # first tokens that are tried: not all may begin a text here
MASKS = 2  # behind what is written
FINISHED = 8  # texts that are compared at the end
MARGIN = 2.0  # nats by which a beginning may lie behind the best that is finished
FAR = 6.0  # the same where nothing finished parses
DOUBT = 4.0  # the same where nothing is known to parse
EMPTY = 0.5  # so probable must an empty fill be
GO_ON = 0.3  # the share of ends, where a line ends behind the hole as it does within, after which the text goes on
SUFFIX = 12  # tokens behind the hole that a finished text is to predict
# what a finished text's score is made of, besides the sum of its log-probabilities
NETWORK_SUFFIX, COUNTED_SUFFIX, LENGTH = 0.5, 0.3, 0.2


@dataclass(frozen=True)
class Hypothesis:
    """Tokens from the hole's start on, the probability of each, and the sum of their logarithms (with the end's)."""

    tokens: tuple[int, ...] = ()
    confidences: tuple[float, ...] = ()
    score: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)

    def grown(self, token: int, probability: float, luck: float = 0.0) -> Hypothesis:
        """One token longer; `luck` is added to the score."""
        return replace(
            self,
            tokens=(*self.tokens, token),
            confidences=(*self.confidences, probability),
            score=self.score + log(probability) + luck,
        )

    def ended(self, probability: float, luck: float = 0.0) -> Hypothesis:
        """Finished."""
        return replace(self, score=self.score + log(probability) + luck)


def log(probability: float) -> float:
    """A logarithm that no probability breaks."""
    return math.log(max(probability, 1e-12))


class Search:
    """The beam over the hole of a canvas that has one."""

    def __init__(
        self,
        cache: ContextCache,
        canvas: Canvas,
        facts: ModelFacts,
        bans: Bans,
        settings: Settings,
        newline: int | None,
        text: Callable[[Hypothesis], str],
        judge: Judge | None,
    ):
        self.cache, self.canvas, self.facts, self.bans, self.settings = cache, canvas, facts, bans, settings
        self.newline, self.text, self.judge = newline, text, judge
        self.head = canvas.holes[0].cells[0].only if canvas.holes[0].head else None
        self.live = self.last = [Hypothesis()]  # the beginnings of this step, and of the step before
        self.finished: list[Hypothesis] = []
        self.refused: list[Hypothesis] = []  # they end, but do not parse
        self.cut: list[Hypothesis] = []  # they would go on, but may not
        self.settled: tuple[int, ...] = ()  # tokens that all texts share for good
        self.found: list[Hypothesis] = []  # best first

    def run(self, outcome: Outcome) -> Iterator[None]:
        """Search, yielding after each step; the canvas shows what is certain by then, `found` the texts at the end."""
        while self.live:
            if end := out_of_time(self.settings):
                outcome.end = end
                break
            self.step()
            outcome.steps += 1
            if self.live:
                self.show(outcome.steps)
            else:
                self.conclude(outcome)
            yield
        if self.live:  # time is up: what there is
            self.found = sorted(self.finished or self.doubtful() or self.live, key=lambda it: -it.score)

    @property
    def in_doubt(self) -> bool:
        """Whether it may be the text around the hole that does not parse."""
        return self.judge is not None and not self.judge.certain

    def doubtful(self) -> list[Hypothesis]:
        """The likeliest texts that end but do not parse, where that may not be their fault."""
        return sorted(self.refused, key=lambda it: -it.score)[:FINISHED] if self.in_doubt else []

    def conclude(self, outcome: Outcome) -> None:
        """Order what was found, and settle the best in the canvas."""
        self.finished = self.finished or self.doubtful()
        bar = max((it.score for it in self.finished), default=-math.inf) + FAR
        if any(it.score > bar for it in self.cut):  # what ends was hardly meant to
            self.finished, outcome.end = [], "max_tokens"
        # whatever was settled, the ends of the beginnings of then are among those that do not parse
        others = self.cut or [it for it in self.refused if it.tokens[: len(self.settled)] == self.settled]
        self.found = self.ordered(self.finished) or sorted(others or self.last, key=lambda it: -it.score)
        best, hole = self.found[0], self.canvas.holes[0]
        hole.cells = write(best, len(best.tokens), hole.cells, outcome.steps)

    def step(self) -> None:
        """Every beginning one token longer; the best are kept, and those that may end here are finished."""
        grown: list[Hypothesis] = []
        for hypothesis, (text_V, ending) in zip(self.live, self.look(), strict=True):
            onward = ending * GO_ON if self.may_break(hypothesis) else 0.0
            ending = self.end(hypothesis, ending, whole=onward > 0)
            if len(hypothesis.tokens) - (self.head is not None) >= self.settings.options.max_tokens:
                self.cut.append(hypothesis)
                continue
            if onward and self.newline is not None:
                grown.append(hypothesis.grown(self.newline, onward, self.luck()))
            wide = BEAM if hypothesis.tokens else FIRST
            for token in np.argpartition(-text_V, wide)[:wide].tolist():
                if text_V[token] > 0:
                    grown.append(hypothesis.grown(token, (1 - ending) * float(text_V[token]), self.luck()))
        self.finished = sorted(self.finished, key=lambda it: -it.score)[:FINISHED]
        bar = self.finished[0].score - MARGIN if self.finished else -math.inf
        if not self.finished and self.refused:  # something else may parse, but not without end
            bar = max(it.score for it in self.refused) - (DOUBT if self.in_doubt else FAR)
        grown = [it for it in grown if it.score > bar and self.may_go_on(it)]
        self.last, self.live = self.live, sorted(grown, key=lambda it: -it.score)[:BEAM]

    def end(self, hypothesis: Hypothesis, ending: float, whole: bool) -> float:
        """Take a text that may end as finished, or note that it does not parse; the chance of an end that remains."""
        text = self.text(hypothesis)
        may_end = ending > (0.0 if text else EMPTY) and not self.at_margin(hypothesis)
        ended = hypothesis.ended(ending, self.luck())
        if self.judge is None or self.judge.accepts(text, whole):
            if may_end:
                self.finished.append(ended)
        elif self.judge.certain:
            self.refused.append(ended)
            return 0.0  # more must follow
        elif may_end:
            self.refused.append(ended)
        return ending

    def luck(self) -> float:
        """What a temperature adds to a choice's score: Gumbel noise, by which the best of a step is drawn as by
        sampling at that temperature (Kool et al., arXiv 1903.06059, keep a beam of such draws)."""
        temperature = self.settings.options.temperature
        return temperature * float(self.settings.rng.gumbel()) if temperature else 0.0

    def full(self, hypothesis: Hypothesis) -> bool:
        """Whether it has all the lines that it may have."""
        most = self.settings.options.max_lines
        return most is not None and 1 + sum(token == self.newline for token in hypothesis.tokens) >= most

    def may_break(self, hypothesis: Hypothesis) -> bool:
        """Whether a newline, which behind the hole would be its end, may also begin another line of it."""
        ends = self.canvas.contexts[1][:1] == [self.newline]
        return ends and bool(hypothesis.tokens) and not self.full(hypothesis) and not self.at_margin(hypothesis)

    def at_margin(self, hypothesis: Hypothesis) -> bool:
        """Whether its last line, not its first, is still blank."""
        return self.newline in hypothesis.tokens and not self.text(hypothesis).rpartition("\n")[2].strip()

    def may_go_on(self, hypothesis: Hypothesis) -> bool:
        """Whether a text that begins like this may parse."""
        return self.judge is None or self.judge.may_begin(self.text(hypothesis))

    def layout(self, hypothesis: Hypothesis) -> tuple[Layout, Cell]:
        """The canvas after a beginning; only its first mask is asked for."""
        cells = [Cell(token) for token in hypothesis.tokens]
        first = Cell(only=self.head if not cells else None)
        hole = Hole(0, 0, [*cells, first, *(Cell() for _ in range(MASKS - 1))])
        layout = lay_out(Canvas(self.canvas.contexts, [hole]), self.facts)
        layout.masked = layout.masked[:1]
        return layout, first

    def look(self) -> list[tuple[np.ndarray, float]]:
        """After every beginning: what stands at the first mask if the hole goes on [V], and the chance of its end."""
        found, expert = [], self.settings.expert
        for layout, network_V, entropy, ends in self.see():
            if expert is not None:
                sight = expert.sight(layout, layout.masked[0][0], network_V, entropy, ends)
                if sight is not None:
                    found.append(expert.both(sight))
                    continue
            assert self.facts.delete_id is not None
            at = [self.facts.delete_id, *ends]
            ending = float(network_V[at].sum())
            network_V[at] = 0.0
            found.append((network_V / max(network_V.sum(), 1e-9), ending))
        return found

    def see(self) -> Iterator[tuple[Layout, np.ndarray, float, list[int]]]:
        """After every beginning: the layout, the network's probabilities [V], their entropy, the tokens of an end."""
        layouts, cells = zip(*map(self.layout, self.live), strict=True)
        bias_CV, lines = self.bans.for_cells([(cell, self.bans.shrinking) for cell in cells])
        candidates = self.cache.step(list(layouts), bias_CV, [[line] for line in lines])
        after = self.canvas.contexts[1][:1]
        for b, (layout, cell, hypothesis) in enumerate(zip(layouts, cells, self.live, strict=True)):
            last = [self.newline] if self.newline is not None and self.full(hypothesis) else []
            ends = sorted({*after, *last})
            network_V = dense(candidates, b, self.facts.vocabulary)
            yield layout, network_V, float(candidates.entropy_BR[b, 0]), ends if cell.only is None else []

    def ordered(self, finished: list[Hypothesis]) -> list[Hypothesis]:
        """The finished texts in order, best first, scored with their suffix, length and errors."""
        if not finished:
            return finished
        suffix = self.canvas.contexts[1][:SUFFIX]
        network = np.zeros(len(finished))
        if suffix and self.facts.shift and self.facts.context_blind:
            runs = [[*hypothesis.tokens, *suffix] for hypothesis in finished]
            log_probs = self.cache.continuations(self.canvas, runs)
            network = np.array(
                [probs[len(it.tokens) + 1 :].sum() for probs, it in zip(log_probs, finished, strict=True)]
            )
        judged = []
        for hypothesis, of_network in zip(finished, network, strict=True):
            counted = 0.0
            if self.settings.expert is not None:
                counted = self.settings.expert.likelihood([*self.canvas.contexts[0], *hypothesis.tokens], suffix)
            parts = {
                "beam": hypothesis.score,
                "network": float(of_network),
                "counted": counted,
                "length": float(len(hypothesis.tokens)),
            }
            judged.append(replace(hypothesis, parts=parts))
        return sorted(judged, key=lambda it: -total(it))

    def show(self, step: int) -> None:
        """Put into the canvas what all texts share, and behind it the best one's further tokens as guesses."""
        texts = [*self.live, *self.finished, *self.cut, *self.doubtful()]
        best = max(texts, key=lambda it: it.score)
        columns = zip(*(it.tokens for it in texts), strict=False)
        shared = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
        self.settled = best.tokens[:shared]
        hole = self.canvas.holes[0]
        hole.cells = write(best, shared, hole.cells, step)


def write(hypothesis: Hypothesis, settled: int, before: list[Cell], step: int) -> list[Cell]:
    """Its cells: the first `settled` hold their tokens, since the step in which they were, the others are guesses."""
    cells = []
    for n, (token, confidence) in enumerate(zip(hypothesis.tokens, hypothesis.confidences, strict=True)):
        known = before[n].step if n < len(before) and before[n].token == token else step
        if n < settled:
            cells.append(Cell(token, confidence, known))
        else:
            cells.append(Cell(None, 0.0, step, token, confidence))
    return cells


def total(hypothesis: Hypothesis) -> float:
    """A finished text's score."""
    parts = hypothesis.parts
    judged = NETWORK_SUFFIX * parts["network"] + COUNTED_SUFFIX * parts["counted"] + LENGTH * parts["length"]
    return parts["beam"] + judged


def dense(candidates: Candidates, b: int, vocabulary: int) -> np.ndarray:
    """The candidates of the first asked row as probabilities [V]; what is not among them counts as 0."""
    probs_V = np.zeros(vocabulary)
    probs_V[candidates.ids_BRA[b, 0]] = np.exp(candidates.log_probs_BRA[b, 0])
    return probs_V
