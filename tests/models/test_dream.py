"""The architecture against recorded logits, its files, and the window pass against whole forwards."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from model_runtime.models.attention import attend_in_blocks, rotary, rotate, visible_from_segments  # noqa: E402
from model_runtime.models.dream import DreamConfig, DreamModel  # noqa: E402
from model_runtime.models.families import HOLE, PADDING  # noqa: E402

GOLDEN = Path(__file__).parent.parent / "golden"
NAMES = ("dream-tiny", "dream-tiny-tied")
CASES = [
    (name, case)
    for name in NAMES
    for case in json.loads((GOLDEN / "logits" / f"{name}.json").read_text())
    if not case.startswith("_")
]


@pytest.fixture(scope="module")
def golden():
    """By name: the checkpoint as a model, and what was recorded."""
    return {
        name: (DreamModel.from_pretrained(GOLDEN / name).eval(), load_file(GOLDEN / "logits" / f"{name}.safetensors"))
        for name in NAMES
    }


def recorded_case(recorded: dict, case: str) -> dict:
    return {key[len(case) + 1 :]: value for key, value in recorded.items() if key.startswith(case + ".")}


@pytest.mark.parametrize(("name", "case"), CASES)
@torch.no_grad()
def test_logits_are_the_recorded_ones(golden, name, case):
    model, recorded = golden[name]
    given_ = recorded_case(recorded, case)
    mask, positions = given_.get("attention_mask"), given_.get("position_ids")
    logits = model(given_["input_ids"], attention_mask=mask, position_ids=positions).logits
    assert logits.shape == given_["logits"].shape
    # what stands at padding means nothing
    real = torch.ones_like(given_["input_ids"], dtype=torch.bool) if mask is None else mask.bool()
    assert (logits - given_["logits"])[real].abs().max() < 1e-4
    if mask is not None:  # positions that follow from the mask are those recorded
        derived = model(given_["input_ids"], attention_mask=mask).logits
        assert (derived - given_["logits"])[real].abs().max() < 1e-4


def test_every_kind_of_case_was_recorded():
    assert len(CASES) == 16
    assert {"left_pad", "right_pad", "inner_right_pad", "position_ids", "one_token"} <= {case for _, case in CASES}


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_last_hidden_states_are_the_recorded_ones(golden, name):
    model, recorded = golden[name]
    ids = recorded["single_nomask.input_ids"]
    positions = torch.arange(ids.shape[1])[None]
    hidden, k, v = model.hidden(ids, positions)
    assert (hidden - recorded["single_nomask.hidden_states"][-1]).abs().max() < 1e-4
    config = model.config
    width = config.hidden_size // config.num_attention_heads
    shape = (config.num_hidden_layers, 1, config.num_key_value_heads, ids.shape[1], width)
    assert k.shape == v.shape == shape


def stored_names(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names |= set(file.keys())
    return names


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shard_size", ["100MB", "100KB"])
@torch.no_grad()
def test_saving_keeps_the_public_layout(golden, name, shard_size, tmp_path):
    model, recorded = golden[name]
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors").exists() == (shard_size == "100MB")
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_size == "100KB")
    names = stored_names(tmp_path)
    assert names == stored_names(GOLDEN / name)
    assert ("lm_head.weight" in names) == (name == "dream-tiny")
    before = json.loads((GOLDEN / name / "config.json").read_text())
    after = json.loads((tmp_path / "config.json").read_text())
    for key in (
        "architectures",
        "bos_token_id",
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "mask_token_id",
        "max_position_embeddings",
        "model_type",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "pad_token_id",
        "rms_norm_eps",
        "rope_theta",
        "tie_word_embeddings",
        "vocab_size",
    ):
        assert after.get(key) == before[key], key
    again = DreamModel.from_pretrained(tmp_path).eval()
    ids = recorded["batch_masks.input_ids"]
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_a_tied_head_is_the_embedding(golden):
    tied, untied = golden["dream-tiny-tied"][0], golden["dream-tiny"][0]
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"attention": "causal"}, "attention"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"hidden_act": "gelu"}, "hidden_act"),
    ],
)
def test_what_the_architecture_does_not_do_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        DreamConfig(**changes)


# --- visibility ---

SEGMENTS = st.sampled_from([PADDING, HOLE, 0, 1, 2])


@given(st.lists(st.tuples(SEGMENTS, st.integers(0, 9)), min_size=1, max_size=12), st.data())
def test_visibility_is_what_the_words_say(keys, data):
    queries = data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=6))
    seg_q, pos_q = (torch.tensor([list(column)]) for column in zip(*queries, strict=True))
    seg_k, pos_k = (torch.tensor([list(column)]) for column in zip(*keys, strict=True))
    visible = visible_from_segments(seg_q, pos_q, seg_k, pos_k)
    assert visible.shape == (1, len(queries), len(keys))
    for w, (segment, position) in enumerate(queries):
        for t, (key_segment, key_position) in enumerate(keys):
            if segment == HOLE:
                expected = key_segment != PADDING
            elif segment == PADDING:
                continue  # nobody reads what padding computes
            else:
                expected = key_segment == segment and key_position <= position
            assert bool(visible[0, w, t]) == expected


# --- the window pass ---


def small_model(attention: str, layers: int) -> DreamModel:
    torch.manual_seed(layers)
    config = DreamConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_theta=10_000.0,
        initializer_range=0.2,
        attention=attention,
    )
    model = DreamModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # zero at birth: a forgotten bias would go unseen
                parameter.normal_(0, 0.2)
    return model


MODELS = {
    (attention, layers): small_model(attention, layers) for attention in ("full", "context_blind") for layers in (1, 3)
}


class Canvas:
    """Rows of a canvas: ids, positions, segments, all [1, L]."""

    def __init__(self, ids, segments, positions=None):
        self.ids, self.segments = torch.tensor([ids]), torch.tensor([segments])
        self.positions = torch.arange(len(ids))[None] if positions is None else positions

    def rows(self, at):
        return self.ids[:, at], self.positions[:, at], self.segments[:, at]


@torch.no_grad()
def window(model, canvas, at, past=None, past_at=None):
    """Logits of all rows `at`, and their keys and values; `past` are keys and values of the rows `past_at`."""
    at = torch.as_tensor(at)
    if past is None:
        config = model.config
        width = config.hidden_size // config.num_attention_heads
        none = torch.zeros(config.num_hidden_layers, 1, config.num_key_value_heads, 0, width)
        past, past_at = (none, none), torch.zeros(0, dtype=torch.long)
    past_at = torch.as_tensor(past_at)
    _, past_positions, past_segments = canvas.rows(past_at)
    return model.window(*canvas.rows(at), *past, past_positions, past_segments, torch.arange(len(at))[None])


@st.composite
def canvases(draw, blind=True):
    """Context, hole, context, hole, context; contexts may be empty, a hole has a cell or more."""
    ids, segments = [], []
    for n in range(draw(st.integers(2, 3))):
        context = draw(st.lists(st.integers(0, 59), min_size=n == 0, max_size=8))
        ids += context
        segments += [n if blind else HOLE] * len(context)
        if n < 2:
            hole = draw(st.lists(st.integers(0, 59), min_size=1, max_size=4))
            ids += hole
            segments += [HOLE] * len(hole)
    return Canvas(ids, segments)


@given(canvases(), st.data())
def test_context_blind_cached_in_any_pieces_equals_the_whole(canvas, data):
    model = MODELS["context_blind", 3]
    length = canvas.ids.shape[1]
    whole, whole_k, whole_v = window(model, canvas, range(length))
    context = [i for i in range(length) if canvas.segments[0, i] != HOLE]
    holes = [i for i in range(length) if canvas.segments[0, i] == HOLE]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(context)), max_size=3)) | {0, len(context)})
    past, done = None, []
    for start, end in itertools.pairwise(cuts):
        piece = context[start:end]
        logits, k, v = window(model, canvas, piece, past, done)
        assert torch.allclose(logits, whole[:, piece], atol=1e-5)
        past = (k, v) if past is None else (torch.cat([past[0], k], dim=3), torch.cat([past[1], v], dim=3))
        done += piece
    logits, k, v = window(model, canvas, holes, past, done)
    assert torch.allclose(logits, whole[:, holes], atol=1e-5)
    assert torch.allclose(k, whole_k[:, :, :, holes], atol=1e-5)
    assert torch.allclose(v, whole_v[:, :, :, holes], atol=1e-5)


@given(canvases())
def test_the_whole_window_is_the_forward(canvas):
    for attention in ("full", "context_blind"):
        model = MODELS[attention, 3]
        with torch.no_grad():
            if attention == "full":
                canvas = Canvas(canvas.ids[0].tolist(), [HOLE] * canvas.ids.shape[1])
                forward = model(canvas.ids).logits
            else:
                forward = model(canvas.ids, segments=canvas.segments).logits
        logits, _, _ = window(model, canvas, range(canvas.ids.shape[1]))
        assert torch.allclose(logits, forward, atol=1e-5)


@given(canvases(), st.data())
def test_what_a_hole_becomes_leaves_blind_context_alone(canvas, data):
    model = MODELS["context_blind", 3]
    length = canvas.ids.shape[1]
    context = [i for i in range(length) if canvas.segments[0, i] != HOLE]
    _, k, v = window(model, canvas, range(length))
    for i in range(length):
        if canvas.segments[0, i] == HOLE:
            canvas.ids[0, i] = data.draw(st.integers(0, 59))
    _, k_after, v_after = window(model, canvas, range(length))
    assert torch.equal(k[:, :, :, context], k_after[:, :, :, context])
    assert torch.equal(v[:, :, :, context], v_after[:, :, :, context])


@pytest.mark.parametrize("change", ["insert", "delete"])
@pytest.mark.parametrize(("attention", "layers"), [("full", 1), ("context_blind", 1), ("context_blind", 3)])
def test_kept_keys_only_need_new_positions(attention, layers, change):
    """A token comes or goes before the suffix; prefix and suffix are read from the cache at their new places."""
    model, blind = MODELS[attention, layers], attention == "context_blind"
    prefix, hole, suffix = [7, 8, 9, 10, 11], [1, 2, 3], [20, 21, 22, 23, 24, 25]
    changed = [*hole, 4] if change == "insert" else hole[:-1]

    def canvas_of(cells):
        segments = [0 if blind else HOLE] * len(prefix) + [HOLE] * len(cells) + [1 if blind else HOLE] * len(suffix)
        return Canvas(prefix + cells + suffix, segments)

    def context_of(cells):
        return [*range(len(prefix)), *range(len(prefix) + len(cells), len(prefix) + len(cells) + len(suffix))]

    before, after = canvas_of(hole), canvas_of(changed)
    _, k, v = window(model, before, range(before.ids.shape[1]))
    kept = k[:, :, :, context_of(hole)], v[:, :, :, context_of(hole)]
    cells = range(len(prefix), len(prefix) + len(changed))
    logits, _, _ = window(model, after, cells, kept, context_of(changed))
    fresh, fresh_k, fresh_v = window(model, after, range(after.ids.shape[1]))
    assert torch.allclose(logits, fresh[:, list(cells)], atol=1e-5)
    assert torch.allclose(kept[0], fresh_k[:, :, :, context_of(changed)], atol=1e-5)
    assert torch.allclose(kept[1], fresh_v[:, :, :, context_of(changed)], atol=1e-5)


def test_full_attention_of_several_layers_drifts_when_a_hole_changes():
    """Why the cache is an approximation there: the context has seen what stood in the hole."""
    model = MODELS["full", 3]
    before, after = (Canvas([7, 8, *hole, 20, 21], [HOLE] * (4 + len(hole))) for hole in ([1, 2], [3, 4]))
    context = [0, 1, 4, 5]
    _, k, v = window(model, before, range(6))
    stale, _, _ = window(model, after, [2, 3], (k[:, :, :, context], v[:, :, :, context]), context)
    fresh, _, _ = window(model, after, range(6))
    assert (stale - fresh[:, [2, 3]]).abs().max() > 1e-3


@torch.no_grad()
def test_a_shared_past_serves_every_row_of_a_batch():
    model = MODELS["context_blind", 3]
    context = Canvas([7, 8, 9, 20, 21], [0, 0, 0, 1, 1])
    _, k, v = window(model, context, range(5))
    lengths, width = (1, 2, 4), 4
    ids, positions, segments, past_positions = [], [], [], []
    alone = []
    for length in lengths:
        cells = [30 + n for n in range(length)]
        canvas = Canvas([7, 8, 9, *cells, 20, 21], [0, 0, 0, *[HOLE] * length, 1, 1])
        logits, _, _ = window(model, canvas, range(5 + length))
        alone.append(logits[0, 3 : 3 + length])
        spare = width - length
        ids.append(cells + [0] * spare)
        positions.append([3 + n for n in range(length)] + [0] * spare)
        segments.append([HOLE] * length + [PADDING] * spare)
        past_positions.append([0, 1, 2, 3 + length, 4 + length])
    logits, keys, _ = model.window(
        torch.tensor(ids),
        torch.tensor(positions),
        torch.tensor(segments),
        k,
        v,
        torch.tensor(past_positions),
        torch.tensor([[0, 0, 0, 1, 1]]).expand(3, -1),
        torch.arange(width).expand(3, -1),
    )
    assert keys.shape[1] == 3
    assert not logits.isnan().any()
    for row, expected in enumerate(alone):
        assert torch.allclose(logits[row, : lengths[row]], expected, atol=1e-5)


@torch.no_grad()
def test_asked_rows_come_in_the_order_asked():
    model = MODELS["full", 3]
    canvas = Canvas([5, 6, 7, 8], [HOLE] * 4)
    whole, k, _ = window(model, canvas, range(4))
    empty = k[:, :, :, :0]
    none = torch.zeros(1, 0, dtype=torch.long)
    rows = torch.tensor([[3, 0, 3]])
    logits, _, _ = model.window(*canvas.rows(torch.arange(4)), empty, empty, none, none, rows)
    assert torch.allclose(logits, whole[:, [3, 0, 3]], atol=1e-5)


@torch.no_grad()
def test_padding_may_stand_left_or_right():
    model = MODELS["full", 3]
    ids = torch.tensor([[5, 6, 7, 8]])
    alone = model(ids).logits
    padding = torch.tensor([[0, 0]])
    for left in (True, False):
        padded = torch.cat([padding, ids] if left else [ids, padding], dim=1)
        mask = torch.tensor([[0, 0, 1, 1, 1, 1] if left else [1, 1, 1, 1, 0, 0]])
        logits = model(padded, attention_mask=mask).logits
        assert torch.allclose(logits[mask.bool()], alone[0], atol=1e-5)


@settings(max_examples=20)
@given(st.integers(0, 200), st.integers(0, 50), st.integers(0, 50))
def test_turned_keys_meet_by_distance_only(shift, a, b):
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(at_q, at_k):
        turned_q = rotate(q, *rotary(torch.tensor([[at_q]]), 8, 10_000.0))
        turned_k = rotate(k, *rotary(torch.tensor([[at_k]]), 8, 10_000.0))
        return float((turned_q * turned_k).sum())

    assert score(a, b) == pytest.approx(score(a + shift, b + shift), abs=1e-4)


@settings(max_examples=30)
@given(
    st.integers(1, 3),
    st.sampled_from([(4, 4), (4, 2), (6, 1)]),
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(0, 9),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_attention_in_blocks_is_attention(batch, heads, window, rows, seed, dtype):
    torch.manual_seed(seed)
    heads, shared = heads
    q, k, v = (torch.randn(batch, count, window, 8, dtype=dtype) for count in (heads, shared, shared))
    visible = (torch.rand(batch, 1, window, window) < 0.4) | torch.eye(window, dtype=torch.bool)
    repeated = (one.float().repeat_interleave(heads // shared, 1) for one in (k, v))
    wanted = torch.nn.functional.scaled_dot_product_attention(q.float(), *repeated, attn_mask=visible)
    found = attend_in_blocks(q, k, v, visible, rows)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), wanted, atol=1e-5 if dtype == torch.float32 else 0.06, rtol=0)


def test_training_in_bfloat16_follows_training_in_float32():
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = DreamModel(DreamConfig(vocab_size=50, num_key_value_heads=2, **shape))
    ids, visible = torch.randint(50, (2, 12)), torch.ones(2, 12, 12, dtype=torch.bool).tril()
    gradients = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(ids, attention_mask=visible.unsqueeze(1)).logits
        torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids.flatten()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        model.zero_grad()
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999
