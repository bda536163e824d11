"""The measurements of decoding: what is counted as right, what is computed once, what the commands print."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from model_runtime.backends.interface import Candidates
from model_runtime.backends.loading import Loading
from model_runtime.engine.cache import lay_out
from model_runtime.engine.denoise import Bans
from model_runtime.engine.engine import Engine
from model_runtime.models.families import ModelFacts
from model_runtime.protocol import SAMPLERS, FillRequest, FillResult, HoleFill, ModelError
from training.evaluation import bits, decoding, lengths, oracle
from training.evaluation.holes import HoldoutHole, sample_validation_holes

TEXT = """\
def area(width, height):
    result = width * height
    return result


def twice(number):
    return 2 * number
"""
BOS, MASK = 1, 2


def hole_at(truth: str, text: str = TEXT) -> HoldoutHole:
    start = text.rindex(truth)
    return HoldoutHole("toolz", "toolz/x.py", text, start, start + len(truth), "line", "other")


HOLE = hole_at("result = width * height")


def facts(**changes) -> ModelFacts:
    given = {
        "name": "knowing",
        "mask_id": MASK,
        "vocabulary": 388,
        "tokenizer_size": 380,
        "context_length": 512,
        "layers": 1,
        "kv_heads": 1,
        "head_width": 1,
        "context_blind": True,
        "bos_id": BOS,
        "pad_id": 0,
        "expand_id": 3,
        "delete_id": 4,
    }
    return ModelFacts(**given | changes)


class Knowing:
    """A backend that knows which token stands where, and gives it a probability that depends on the place.

    `sure(position, masks)` is that probability; `wrong` are positions where it is given to `other` instead.
    """

    name = "knowing"

    def __init__(self, sure=lambda position, masks: 0.6, wrong=(), other=100, **changes):
        self.facts, self.sure, self.wrong, self.other = facts(**changes), sure, wrong, other
        self.truth: list[int] = []
        self.asked: list[bytes] = []

    def window(self, window):
        batch, rows = window.rows_BR.shape
        ids = np.zeros((batch, rows, 2), np.int64)
        probs = np.zeros((batch, rows, 2))
        targets = np.zeros((batch, rows))
        for b in range(batch):
            masks = int((window.ids_BW[b] == MASK).sum())
            if masks:
                self.asked.append(window.ids_BW[b].tobytes())
            for r, row in enumerate(window.rows_BR[b]):
                position = min(int(window.positions_BW[b, row]) + 1, len(self.truth) - 1)
                best = self.other if position in self.wrong else self.truth[position]
                p = self.sure(position, masks)
                ids[b, r], probs[b, r] = (best, best + 1), (p, (1 - p) / 2)
                if window.targets_BR is not None:
                    targets[b, r] = math.log(p if window.targets_BR[b, r] == best else 1e-3)
        nothing = np.zeros((1, batch, 1, window.ids_BW.shape[1], 1), np.float32)
        entropy = -(probs * np.log(probs)).sum(-1)
        return Candidates(ids, np.log(probs), probs[..., 0] - probs[..., 1], entropy, targets), nothing, nothing

    def keep(self, cached, wanted):
        return cached[:, :, :, wanted]

    def join(self, parts):
        return np.concatenate(parts, axis=3)

    def write(self, past, at, cached, rows):
        past[:, :, :, at] = cached[:, :, :, rows]


def knowing_engine(tokenizer, hole=HOLE, **options) -> tuple[Engine, oracle.OracleHole]:
    engine = Engine(Knowing(**options), tokenizer)
    known = oracle.oracle_hole(engine, hole)
    engine.backend.truth = [*known.canvas.contexts[0], *known.truth, *known.canvas.contexts[1]]
    return engine, known


def first_cell(known) -> int:
    return len(known.canvas.contexts[0])


# Fills at the true length


def test_a_canvas_of_the_true_length_has_a_mask_for_every_token(tokenizer):
    engine, known = knowing_engine(tokenizer)
    assert known.truth == tokenizer.encode(HOLE.truth)
    assert len(known.canvas.holes[0].cells) == len(known.truth) == oracle.oracle_length(engine, HOLE)
    assert known.canvas.masked() == len(known.truth)


def test_pieces_that_an_edge_keeps_need_no_mask_of_their_own(tokenizer):
    hole = hole_at("* number")  # begins after a lone space, which belongs to the first token
    engine, known = knowing_engine(tokenizer, hole)
    assert known.canvas.holes[0].head == b" "
    assert tokenizer.decode_bytes(known.truth).decode() == " " + hole.truth
    assert len(known.canvas.holes[0].cells) == len(known.truth)
    assert oracle.oracle_length(engine, hole) == len(known.truth) - 1
    (settled,) = oracle.settle_by_threshold(engine, [hole], 0)[None]
    assert settled.exact
    assert all(right for _, right, _ in settled.tokens)


def test_confidences_and_steps_are_those_of_the_tokens(tokenizer):
    engine, known = knowing_engine(tokenizer)
    start, count = first_cell(known), len(known.truth)
    engine.backend.sure = lambda position, masks: 0.95 if position < start + 3 else 0.7
    fills = oracle.settle_by_threshold(engine, [HOLE], 0)
    (at_09,), (at_05,), (slow,) = fills[0.9], fills[0.5], fills[None]
    assert at_05.steps == 1
    assert at_09.steps == 1 + count - 3  # three at once, then the best that is left
    assert slow.steps == count
    assert [step for _, _, step in at_09.tokens][:3] == [1, 1, 1]
    assert [sure for sure, _, _ in at_09.tokens] == pytest.approx([0.95] * 3 + [0.7] * (count - 3))
    assert all(fill.exact and all(right for _, right, _ in fill.tokens) for fill in (at_09, at_05, slow))


def test_a_wrong_token_is_wrong_where_it_stands(tokenizer):
    engine, known = knowing_engine(tokenizer)
    engine.backend.wrong = (first_cell(known) + 2,)
    (fill,) = oracle.settle_by_threshold(engine, [HOLE], 0)[0.9]
    assert [right for _, right, _ in fill.tokens] == [n != 2 for n in range(len(known.truth))]
    assert not fill.exact
    figures = oracle.figures([fill])
    assert figures["token_accuracy"] == 1 - 1 / len(known.truth)
    assert (figures["holes"], figures["tokens"], figures["exact"]) == (1, len(known.truth), 0.0)


def test_steps_limit_every_sampler_and_no_canvas_is_computed_twice(tokenizer):
    engine, known = knowing_engine(tokenizer)
    fills = oracle.settle_by_steps(engine, [HOLE], 0)
    assert set(fills) == {(sampler, steps) for sampler in SAMPLERS for steps in oracle.STEPS}
    count = len(known.truth)
    for (sampler, steps), (fill,) in fills.items():
        assert fill.steps <= (steps or count), (sampler, steps)
        assert len(fill.tokens) == count
    assert {fills[sampler, None][0].steps for sampler in SAMPLERS if sampler != "origin"} == {count}
    assert len(engine.backend.asked) == len(set(engine.backend.asked))
    assert engine.facts.threshold == engine.backend.facts.threshold == 0.9  # the model's own is back


def test_an_expert_mixes_each_candidates_once():
    seen = []
    once = oracle.OnceExpert(SimpleNamespace(mix=lambda *given: seen.append(given)))
    first, second = object(), object()
    for candidates in (first, second, first):
        once.mix(candidates, "layout", "canvas")
    assert seen == [(first, "layout", "canvas"), (second, "layout", "canvas")]


def rows_of(**by_threshold) -> dict:
    named = {"slow": None, "t50": 0.5, "t80": 0.8, "t90": 0.9}
    keys = ("steps_mean", "exact", "token_accuracy")
    return {named[name]: dict(zip(keys, figures, strict=True)) for name, figures in by_threshold.items()}


@pytest.mark.parametrize(
    ("rows", "proposed"),
    [
        (rows_of(slow=(9, 0.3, 0.6), t50=(2, 0.2, 0.6), t80=(4, 0.295, 0.596), t90=(6, 0.3, 0.6)), 0.8),
        (rows_of(slow=(9, 0.3, 0.6), t50=(2, 0.3, 0.59), t80=(4, 0.29, 0.6), t90=(6, 0.31, 0.599)), 0.9),
        (rows_of(slow=(9, 0.3, 0.6), t80=(4, 0.3, 0.6), t90=(4, 0.3, 0.6)), 0.9),  # no dearer, and more careful
        (rows_of(slow=(9, 0.3, 0.6), t50=(2, 0.2, 0.5), t90=(6, 0.3, 0.5)), 1.0),
    ],
)
def test_the_proposed_threshold_saves_most_within_the_allowed_loss(rows, proposed):
    assert oracle.propose_threshold(rows) == proposed


# Lengths and alternatives


class Scripted:
    """An engine that answers as told: `answers` by the request's length, or candidates where several are wanted."""

    def __init__(self, tokenizer, answers, **changes):
        self.tokenizer, self.facts, self.answers = tokenizer, facts(**changes), answers
        self.backend = SimpleNamespace(facts=self.facts, name="scripted", window=lambda window: window)
        self.requests: list[FillRequest] = []

    def fill(self, request: FillRequest) -> FillResult:
        request.check()
        self.requests.append(request)
        for segments in ([0, 0], [0, 0], [-1, -1], [-1, -1]):  # two chunks of context, two steps
            self.backend.window(SimpleNamespace(segments_BW=np.array([segments])))
        texts = self.answers[request.alternatives if request.alternatives > 1 else request.length]
        fills = [[HoleFill(*request.holes[0], text=text, confidence=0.5, length_policy="")] for text in texts]
        return FillResult(fills[0], fills[1:], "complete", 2, "scripted", request.seed, {"total": 7.0})


def test_length_policies_are_measured_on_the_same_requests(tokenizer):
    count = len(tokenizer.encode(HOLE.truth))
    longer = HOLE.truth + " + width"
    answers = {"fixed:64": [""], "probe": [longer], "expand": [HOLE.truth + "  "], "search": ["y"]}
    answers[f"fixed:{count}"] = ["x"]
    engine = Scripted(tokenizer, answers)
    rows = lengths.measure_lengths(engine, [HOLE, HOLE], seed=5)
    assert list(rows) == ["fixed:64", "probe", "expand", "search", "oracle"]
    assert len(engine.requests) == 5 * 3  # the first fill of a policy is made twice, and counted once
    for request in engine.requests:
        assert (request.text, request.holes) == (HOLE.prefix + HOLE.suffix, [(HOLE.start, HOLE.start)])
        assert (request.max_lines, request.seed) == (1, 5)
    found = {policy: lengths.summarize_lengths(group) for policy, group in rows.items()}
    assert [found[policy]["exact"] for policy in rows] == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert [found[policy]["same_length"] for policy in rows] == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert found["fixed:64"]["length_error"] == count
    assert found["probe"]["length_error"] == len(tokenizer.encode(longer)) - count
    assert found["expand"]["similarity"] == 1.0
    assert (found["probe"]["passes_mean"], found["probe"]["steps_mean"], found["probe"]["ms_median"]) == (3, 2, 7)


def test_a_model_that_cannot_grow_holes_is_not_asked_to(tokenizer):
    assert lengths.policies_of(Scripted(tokenizer, {}, expand_id=None)) == ["fixed:64", "probe", "oracle"]


def test_ranking_is_held_against_the_first_and_the_best(tokenizer, monkeypatch, capsys):
    other = hole_at("return result")
    engines = {HOLE.truth: [HOLE.truth, "nothing"], other.truth: ["return 2", "return r", other.truth]}

    class Two(Scripted):
        def fill(self, request):
            truth = HOLE.truth if request.holes == [(HOLE.start, HOLE.start)] else other.truth
            self.answers = {4: engines[truth], "auto": ["return"]}
            return super().fill(request)

    monkeypatch.setattr(decoding.Engine, "load", lambda model, threads, keep_bytes: Two(tokenizer, {}))
    monkeypatch.setattr(decoding, "read_holes", lambda *_: [HOLE, other])
    assert decoding.main(["ranking", "--count", "2", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    report = json.loads(out.splitlines()[-1])
    assert [report["answers"][name]["exact"] for name in report["answers"]] == [0.0, 0.5, 1.0]
    assert (report["won"], report["lost"], report["candidates_mean"]) == (1, 0, 2.5)
    assert "| first candidate    |" in out


# The commands


@pytest.mark.parametrize("source", ["packages", "validation"])
@pytest.mark.parametrize("what", ["steps", "reliability"])
def test_a_command_prints_tables_draws_and_ends_with_json(what, source, tokenizer, monkeypatch, capsys, tmp_path):
    engine, known = knowing_engine(tokenizer)
    engine.backend.wrong = (first_cell(known),)
    monkeypatch.setattr(decoding.Engine, "load", lambda model, threads, keep_bytes: engine)
    monkeypatch.setattr(decoding, "read_holes", lambda *_: [HOLE])
    assert decoding.main([what, "--count", "1", "--source", source, "--out", str(tmp_path / "figures")]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert (report["what"], report["model"], report["source"]) == (what, "knowing", source)
    assert all(line == line.rstrip() for line in lines)
    assert len({len(line) for line in lines[: lines.index("")]}) == 1  # a table's lines are equally long
    (picture,) = (tmp_path / "figures").iterdir()
    assert picture.name == (f"{what}.svg" if source == "packages" else f"{what}-validation.svg")
    assert "<svg" in picture.read_text("utf-8")
    if what == "reliability":
        count = len(known.truth)
        assert sum(one["count"] for one in report["bins"]) == count
        assert report["error"] == pytest.approx(abs((count - 1) / count - 0.6), abs=1e-4)
        assert (report["first_step_tokens"], report["proposed"]) == (1, 0.6)
    else:
        assert len(report["rows"]) == len(SAMPLERS) * len(oracle.STEPS)


def test_what_cannot_be_measured_is_said_in_one_sentence(tmp_path, monkeypatch, capsys):
    assert decoding.main(["steps", "--count", "0"]) == 2
    assert decoding.main(["steps", "--source", "validation", "--pack", str(tmp_path)]) == 2

    def refuse(*_, **__):
        raise ModelError("there is no such model")

    monkeypatch.setattr(decoding.Engine, "load", refuse)
    monkeypatch.setattr(decoding, "read_holes", lambda *_: [HOLE])
    assert decoding.main(["lengths", "--model", "nothing"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line for line in errors if line.strip()] == [
        "--count is at least 1, not 0",
        f"{tmp_path} holds no packed corpus (python -m training.corpus.build)",
        "there is no such model",
    ]


def test_validation_holes_come_from_validation_modules_alone(tokenizer, tokenizer_path, tmp_path):
    documents = [
        ("one", "one/seen.py", "code", "seen = 1\n" * 5),
        ("two", "two/kept.py", "code", "kept = 2\nif kept:\n    print(kept)\n"),
        ("two", "two/test_it.py", "tests", "tested = 3\n" * 5),
        ("two", "two/readme.rst", "code", "prose = 4\n" * 5),
        ("two", "two/old.py", "code", "print 'old'\n" * 5),
    ]
    encoded = [tokenizer.encode(text) for *_, text in documents]
    np.save(tmp_path / "tokens.npy", np.array([token for tokens in encoded for token in tokens], np.uint16))
    np.save(tmp_path / "documents.npy", np.cumsum([0, *map(len, encoded)]))
    listing = [{"source": source, "path": path, "kind": kind} for source, path, kind, _ in documents]
    (tmp_path / "documents.json").write_text(json.dumps(listing))
    (tmp_path / "report.json").write_text(json.dumps({"validation_from": 1}))
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_path.read_bytes())
    holes = sample_validation_holes(tmp_path, 3, seed=1)
    assert {(hole.package, hole.path, hole.text) for hole in holes} == {("two", "two/kept.py", documents[1][3])}
    assert {hole.truth for hole in holes} == {"kept = 2", "if kept:", "print(kept)"}
    assert holes == sample_validation_holes(tmp_path, 3, seed=1)
    with pytest.raises(ValueError, match="there are 3 holes of kind line in two, not 4"):
        sample_validation_holes(tmp_path, 4)


# Bits


def test_bits_of_known_probabilities(tokenizer):
    engine, known = knowing_engine(tokenizer)
    count = len(known.truth)
    engine.backend.sure = lambda position, masks: 0.5 if masks == count else 0.8
    (at_once,), (chain,) = bits.hole_costs(engine, [HOLE])
    assert at_once.nats == pytest.approx(-count * math.log(0.5))
    assert chain.nats == pytest.approx(-math.log(0.5) - (count - 1) * math.log(0.8))
    assert (chain.tokens, chain.bytes) == (count, len(HOLE.truth))
    cost = bits.causal_cost(engine, engine.backend.truth[1:])
    assert cost.nats == pytest.approx(-cost.tokens * math.log(0.8))
    assert (cost.tokens, cost.bytes) == (len(engine.backend.truth) - 1, len(TEXT))
    summary = bits.summarize([cost, cost])
    assert summary["nats_per_token"] == pytest.approx(-math.log(0.8))
    assert summary["bits_per_byte"] == pytest.approx(cost.nats / math.log(2) / len(TEXT))
    assert summary["bits_per_byte_95"] == pytest.approx((summary["bits_per_byte"],) * 2)


def test_an_interval_is_wider_where_units_differ():
    costs = [bits.Cost(nats, 10, 30) for nats in (10.0, 20.0, 30.0)]
    low, high = bits.summarize(costs)["bits_per_byte_95"]
    half = 1.959964 * 10 / math.sqrt(3) / 30 / math.log(2)  # the mean's, as all have the same size
    assert (low, high) == pytest.approx((20 / 30 / math.log(2) - half, 20 / 30 / math.log(2) + half))


def test_stretches_cover_the_texts_and_are_drawn_once(tokenizer):
    engine, _ = knowing_engine(tokenizer)
    texts = [TEXT * 40, TEXT]
    everything = bits.next_token_costs(engine, texts, 10**6, 0)
    assert sum(cost.bytes for cost in everything) == sum(map(len, texts))
    assert max(cost.tokens for cost in everything) == bits.STRETCH
    assert len(bits.next_token_costs(engine, texts, 2, 0)) == 2


def test_bits_are_those_of_the_plain_model(tokenizer, tokenizer_path, tmp_path):
    torch = pytest.importorskip("torch")
    from model_runtime.backends.torch import TorchBackend
    from model_runtime.models.dream import DreamConfig, DreamModel

    torch.manual_seed(5)
    special = {"pad_token_id": 0, "bos_token_id": BOS, "mask_token_id": MASK, "tokenizer_size": 380}
    shape = {"vocab_size": 388, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    config = DreamConfig(**special, **shape, **heads, attention="context_blind", initializer_range=0.25)
    model = DreamModel(config).eval().requires_grad_(False)
    model.save_pretrained(tmp_path)
    engine = Engine(TorchBackend(tmp_path, loading=Loading(device="cpu")), tokenizer)

    known = oracle.oracle_hole(engine, HOLE)
    tokens = torch.tensor(tokenizer.encode(TEXT))
    row = torch.cat([torch.tensor([BOS]), tokens])[None]
    log_probs_1LV = model(row, segments=torch.zeros_like(row)).logits.log_softmax(-1)
    nats = -float(log_probs_1LV[0, :-1].gather(1, tokens[:, None]).sum())
    assert bits.causal_cost(engine, tokens.tolist()).nats == pytest.approx(nats, rel=1e-4)

    bias = torch.from_numpy(Bans(engine.facts, tokenizer).lines[0])
    segments = torch.from_numpy(lay_out(known.canvas, engine.facts).segments)[None]
    start, chain, at_once = len(known.canvas.contexts[0]), 0.0, 0.0
    for revealed, token in enumerate(known.truth):
        ids = torch.from_numpy(lay_out(known.canvas, engine.facts).ids).clone()
        ids[start : start + revealed] = torch.tensor(known.truth[:revealed], dtype=torch.long)
        log_probs_LV = (model(ids[None], segments=segments).logits[0] + bias).log_softmax(-1)
        chain -= float(log_probs_LV[start + revealed - 1, token])
        if revealed == 0:
            at_once = -sum(float(log_probs_LV[start + n - 1, true]) for n, true in enumerate(known.truth))
    (first,), (second,) = bits.hole_costs(engine, [HOLE])
    assert first.nats == pytest.approx(at_once, rel=1e-4)
    assert second.nats == pytest.approx(chain, rel=1e-4)


def test_the_bits_command_ends_with_json(tokenizer, monkeypatch, capsys):
    engine, _ = knowing_engine(tokenizer)
    monkeypatch.setattr(bits.Engine, "load", lambda *_: engine)
    monkeypatch.setattr(bits, "read_holes", lambda *_: [HOLE])
    monkeypatch.setattr(bits, "read_package", lambda package: [(package, "x.py", TEXT)])
    assert bits.main(["--count", "2"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(report["measures"]) == ["next token", "hole at once", "hole left to right"]
    assert report["measures"]["hole at once"]["nats_per_token"] == pytest.approx(-math.log(0.6), abs=1e-4)
    engine.facts = facts(context_blind=False)
    assert bits.main(["--count", "2"]) == 0
    assert "next token" not in json.loads(capsys.readouterr().out.splitlines()[-1])["measures"]
