"""The cache of context: exact where the method is exact, and off when it is off."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeBackend, fake_facts
from snippet import SNIPPET

from model_runtime.engine.cache import ContextCache, lay_out
from model_runtime.engine.canvas import Canvas, Cell, Hole, add_masks, build_canvas
from model_runtime.engine.engine import Engine
from model_runtime.engine.kept import KeptContext
from model_runtime.protocol import FillRequest

HOLES = {
    "one": [(SNIPPET.index("width * height"), SNIPPET.index("\n    if"))],
    "inside tokens": [(SNIPPET.index("nt_area"), SNIPPET.index("nt_area") + 4)],
    "several": [(14, 17), (40, 40), (120, 133), (len(SNIPPET), len(SNIPPET))],
    "side by side": [(30, 40), (40, 50)],
    "at the start": [(0, 9)],
}


class Recording:
    """A backend that remembers its windows."""

    def __init__(self, backend):
        self.backend, self.facts, self.name = backend, backend.facts, backend.name
        self.keep, self.join, self.write = backend.keep, backend.join, backend.write
        self.windows = []

    def window(self, window):
        self.windows.append(window)
        return self.backend.window(window)


@pytest.fixture(scope="module")
def engines(tiny_models):
    made = {}
    for attention, tiny in tiny_models.items():
        made[attention] = Engine.load(tiny.folder, backend="onnx", threads=1)
        made[attention].backend = Recording(made[attention].backend)
    return made


def fill(engine, holes, **options):
    engine.backend.windows.clear()
    return engine.fill(FillRequest(text=SNIPPET, holes=holes, **options))


@pytest.mark.parametrize("options", [{"length": "fixed:6"}, {"length": "expand", "max_tokens": 12}], ids=str)
@pytest.mark.parametrize("sampler", ["threshold", "entropy"])
@pytest.mark.parametrize("holes", HOLES.values(), ids=HOLES)
def test_cached_is_uncached_for_blind_context(engines, holes, sampler, options):
    engine = engines["context_blind"]
    cached = fill(engine, holes, cache="on", sampler=sampler, **options)
    plain = fill(engine, holes, cache="off", sampler=sampler, **options)
    assert [hole.text for hole in cached.holes] == [hole.text for hole in plain.holes]
    assert (cached.end, cached.steps) == (plain.end, plain.steps)
    for one, other in zip(cached.holes, plain.holes, strict=True):
        assert [(t.start, t.end, t.step) for t in one.tokens] == [(t.start, t.end, t.step) for t in other.tokens]
        assert [t.confidence for t in one.tokens] == pytest.approx([t.confidence for t in other.tokens], abs=1e-4)


@pytest.mark.parametrize("attention", ["context_blind", "full"])
@pytest.mark.parametrize("holes", HOLES.values(), ids=HOLES)
def test_the_first_step_is_exact_for_every_model(engines, attention, holes):
    """Under full attention too: the context has seen these very masks."""
    backend, tokenizer = engines[attention].backend, engines[attention].tokenizer
    canvas = build_canvas(tokenizer, backend.facts, SNIPPET, holes)
    for hole in canvas.holes:
        add_masks(hole, 3)
    layout = lay_out(canvas, backend.facts)
    bias, lines = np.zeros((1, backend.facts.vocabulary), np.float32), [[0] * len(layout.masked)]
    on, off = (ContextCache(backend, canvas, enabled).step([layout], bias, lines) for enabled in (True, False))
    np.testing.assert_allclose(on.log_probs_BRA, off.log_probs_BRA, atol=1e-4)
    np.testing.assert_allclose(on.margin_BR, off.margin_BR, atol=1e-4)
    np.testing.assert_allclose(on.entropy_BR, off.entropy_BR, atol=1e-3)
    assert (on.ids_BRA[:, :, 0] == off.ids_BRA[:, :, 0]).all()


@pytest.mark.parametrize("attention", ["context_blind", "full"])
def test_off_is_the_forward_over_the_whole_canvas(engines, tiny_models, attention):
    import torch

    backend, tokenizer = engines[attention].backend, engines[attention].tokenizer
    canvas = build_canvas(tokenizer, backend.facts, SNIPPET, HOLES["several"])
    for hole in canvas.holes:
        add_masks(hole, 3)
    canvas.holes[1].cells[-1].token = 40
    layout = lay_out(canvas, backend.facts)
    bias, lines = np.zeros((1, backend.facts.vocabulary), np.float32), [[0] * len(layout.masked)]
    candidates = ContextCache(backend, canvas, enabled=False).step([layout], bias, lines)
    with torch.no_grad():
        segments = torch.from_numpy(layout.segments[None]) if attention == "context_blind" else None
        logits = tiny_models[attention].model(torch.from_numpy(layout.ids[None]), segments=segments).logits[0]
    rows = [position - 1 for position, _, _ in layout.masked]  # row i predicts token i + 1
    expected = torch.log_softmax(logits[rows], dim=-1).topk(64).values
    np.testing.assert_allclose(candidates.log_probs_BRA[0], expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("attention", ["context_blind", "full"])
def test_what_is_computed_in_each_step(engines, attention):
    engine, holes = engines[attention], HOLES["several"]
    canvas = build_canvas(engine.tokenizer, engine.facts, SNIPPET, holes)
    context = sum(map(len, canvas.contexts))
    cells = sum(len(hole.cells) for hole in canvas.holes) + 6 * len(holes)

    result = fill(engine, holes, cache="off", length="fixed:6", steps=4)
    assert len(engine.backend.windows) == result.steps == 4
    for window in engine.backend.windows:
        assert window.past is None
        assert window.ids_BW.shape == (1, context + cells)

    engine.kept = KeptContext()
    result = fill(engine, holes, cache="context", length="fixed:6", steps=4)
    assert result.steps == 4
    leads = len(holes)  # the row before a hole predicts its first token
    blind = attention == "context_blind"
    count = 4 if blind else 3  # under full attention the first step computes the context too
    first, steps = engine.backend.windows[:-count], engine.backend.windows[-count:]
    assert first[0].past is None
    assert sum(window.ids_BW.shape[1] for window in first) == (context - leads if blind else context + cells)
    for window in steps:
        assert window.ids_BW.shape == (1, cells + leads)
        assert window.past.positions_BP.shape == (1, context - leads)
        assert window.rows_BR.shape[1] == (window.ids_BW == engine.facts.mask_id).sum()

    fill(engine, holes, cache="context", length="fixed:6", steps=4)
    assert len(engine.backend.windows) == 4


@pytest.mark.parametrize("length", ["fixed:5", "expand"])
def test_full_attention_off_does_not_depend_on_what_was_filled_before(engines, length):
    engine = engines["full"]
    first = fill(engine, HOLES["several"], cache="off", length=length, max_tokens=9)
    fill(engine, HOLES["one"], cache="on", length=length, max_tokens=9)
    again = fill(engine, HOLES["several"], cache="off", length=length, max_tokens=9)
    assert (first.holes, first.steps, first.end) == (again.holes, again.steps, again.end)


# --- where everything stands ---


def laid_out(contexts, cells, **facts):
    holes = [Hole(0, 0, [Cell(token) for token in row]) for row in cells]
    return lay_out(Canvas(contexts, holes), fake_facts(**facts))


def test_a_layout_of_blind_context():
    layout = laid_out([[10, 11, 12], [20, 21], [30]], [[None, 7], [None]])
    assert layout.ids.tolist() == [10, 11, 12, 2, 7, 20, 21, 2, 30]
    assert layout.segments.tolist() == [0, 0, -1, -1, -1, 1, -1, -1, 2]
    assert layout.in_window.tolist() == [False, False, True, True, True, False, True, True, False]
    assert [(position, hole) for position, hole, _ in layout.masked] == [(3, 0), (7, 1)]


def test_a_layout_of_full_attention_has_one_segment():
    layout = laid_out([[10, 11], [20], [30]], [[None], [None]], context_blind=False)
    assert set(layout.segments.tolist()) == {-1}
    assert layout.in_window.tolist() == [False, True, True, True, True, False]


def test_without_a_shift_no_row_before_the_hole_is_needed():
    layout = laid_out([[10, 11], [], [30]], [[None], [None]], shift=False)
    assert layout.segments.tolist() == [0, 0, -1, -1, 2]
    assert layout.in_window.tolist() == [False, False, True, True, False]


def test_holes_side_by_side_predict_from_the_hole_before(tokenizer):
    """Even when the first of them has shrunk to nothing."""
    canvas = Canvas([[10, 11], [], [30]], [Hole(0, 0, []), Hole(0, 1, [Cell()])])
    backend = FakeBackend()
    layout = lay_out(canvas, backend.facts)
    cache = ContextCache(backend, canvas, enabled=True)
    cache.step([layout], np.zeros((1, 388), np.float32), [[0]])
    window = backend.windows[-1]
    assert window.ids_BW.tolist() == [[11, 2]]
    assert window.rows_BR.tolist() == [[0]]


def test_variants_of_a_canvas_run_as_one_batch():
    """As probing does: other lengths of one hole over the same context, each as if it were alone."""
    backend = FakeBackend()
    contexts = [[10, 11, 12], [20, 21]]
    canvases = [Canvas(contexts, [Hole(0, 0, [Cell() for _ in range(n)])]) for n in (1, 4, 2)]
    layouts = [lay_out(canvas, backend.facts) for canvas in canvases]
    bias = np.zeros((1, 388), np.float32)
    lines = [[0] * len(layout.masked) for layout in layouts]
    for enabled in (True, False):
        cache = ContextCache(backend, canvases[0], enabled)
        together = cache.step(layouts, bias, lines)
        for b, layout in enumerate(layouts):
            alone = cache.step([layout], bias, [lines[b]])
            count = len(layout.masked)
            np.testing.assert_allclose(together.log_probs_BRA[b, :count], alone.log_probs_BRA[0])
