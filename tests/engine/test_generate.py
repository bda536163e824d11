"""What the default mode of the decoder promises, on models small enough to check it exactly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from hypothesis import assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from model_runtime.engine.filters import exponential, sample_tokens  # noqa: E402
from model_runtime.engine.generate import diffusion_generate, reveal_ratios  # noqa: E402

GOLDEN = Path(__file__).parent.parent / "golden"
VOCABULARY, TOKENIZER, MASK, BOS, EOS, EXPAND = 24, 20, 19, 18, 17, 16
PLAIN_IDS = st.integers(0, EXPAND - 1)
RANKED = ["maskgit_plus", "topk_margin", "entropy"]


class Fake:
    """Logits from a table, by the position and id of a row and the ids and positions of all it can see.

    Integers decide the row of the table, so that padding and batching cannot change a logit by rounding.
    """

    def __init__(self, favoured: tuple[int, ...] = (), **config):
        fields = {
            "mask_token_id": MASK,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "pad_token_id": EOS,
            "expand_token_id": EXPAND,
            "tokenizer_size": TOKENIZER,
        }
        self.config = SimpleNamespace(**(fields | config))
        self.table = torch.randn(997, VOCABULARY, generator=torch.Generator().manual_seed(3)) * 3
        self.table[:, list(favoured)] += 50.0
        self.seen = []

    def __call__(self, input_ids, attention_mask=None, position_ids=None):
        self.seen.append((attention_mask, position_ids))
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
            position_ids = torch.arange(input_ids.shape[1]).expand_as(input_ids)
        everything_B1 = ((input_ids + 3) ** 2 * (position_ids + 5) * attention_mask).sum(1, keepdim=True)
        row_BL = (everything_B1 + 31 * position_ids + 7 * input_ids) % len(self.table)
        return SimpleNamespace(logits=self.table[row_BL])


def ids(*rows):
    return torch.tensor(rows)


canvases = st.integers(1, 8).flatmap(
    lambda length: st.lists(
        st.lists(PLAIN_IDS | st.just(MASK), min_size=length, max_size=length), min_size=1, max_size=3
    )
)


@settings(deadline=None, max_examples=150)
@given(
    canvases,
    st.integers(0, 5),
    st.integers(1, 7),
    st.sampled_from(["origin", *RANKED]),
    st.sampled_from([None, 0.0, 1e-4, 0.5]),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sampled_from([None, 0.0, 0.7, 1.0]),
    st.sampled_from([None, 1, 3, 100]),
)
def test_masks_are_filled_and_nothing_else_is(rows, appended, steps, alg, alg_temp, temperature, top_p, top_k):
    input_ids = ids(*rows)
    assume(appended or (input_ids == MASK).any())
    before = input_ids.clone()
    out = diffusion_generate(
        Fake(favoured=(MASK, BOS, EXPAND, TOKENIZER)),
        input_ids,
        max_new_tokens=appended,
        steps=steps,
        alg=alg,
        alg_temp=alg_temp,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        output_history=True,
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(input_ids, before)
    start_BL = torch.nn.functional.pad(input_ids, (0, appended), value=MASK)
    hole_BL = start_BL == MASK
    assert out.sequences.shape == start_BL.shape
    assert torch.equal(out.sequences[~hole_BL], start_BL[~hole_BL])
    produced_N = out.sequences[hole_BL]
    assert not torch.isin(produced_N, ids(MASK, BOS, EXPAND)).any()
    assert (produced_N < TOKENIZER).all()

    assert len(out.history) == steps
    assert torch.equal(out.history[-1], out.sequences)
    for x_BL, ratio in zip(out.history, reveal_ratios(steps), strict=True):
        changed_BL = x_BL != start_BL
        assert (start_BL[changed_BL] == MASK).all()
        if alg != "origin":
            expected_B = ((start_BL == MASK).sum(1).float() * ratio).long()
            assert torch.equal(changed_BL.sum(1), expected_B)
        start_BL = x_BL


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.lists(PLAIN_IDS | st.just(MASK), min_size=1, max_size=6), min_size=1, max_size=3),
    st.lists(st.integers(0, 3), min_size=3, max_size=3),
    st.integers(0, 4),
    st.integers(1, 5),
    st.sampled_from(RANKED),
    st.sampled_from([EOS, MASK, 5]),
    st.booleans(),
)
def test_a_padded_row_decodes_as_alone(rows, lefts, appended, steps, alg, pad_id, shift):
    """Padding on the left, the right or both, even by [MASK]; rows with different numbers of [MASK]s."""
    assume(appended or any(MASK in row for row in rows))
    width = max(left + len(row) for left, row in zip(lefts, rows, strict=False))
    padded, real = [], []
    for left, row in zip(lefts, rows, strict=False):
        right = width - left - len(row)
        padded.append([pad_id] * left + row + [pad_id] * right)
        real.append([0] * left + [1] * len(row) + [0] * right)
    model = Fake(shift=shift)
    options = {"max_new_tokens": appended, "steps": steps, "alg": alg}
    real_BL = torch.nn.functional.pad(ids(*real), (0, appended), value=1).bool()
    out = diffusion_generate(model, ids(*padded), ids(*real), **options, output_history=True)
    for b, row in enumerate(rows):
        if not appended and MASK not in row:
            assert out.sequences[b].tolist() == padded[b]
            continue
        alone = diffusion_generate(model, ids(row), **options, output_history=True)
        for x_BL, alone_1L in zip(out.history, alone.history, strict=True):
            assert torch.equal(x_BL[b][real_BL[b]], alone_1L[0])
            assert (x_BL[b][~real_BL[b]] == pad_id).all()


@pytest.mark.parametrize("alg", RANKED)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_row_decodes_as_alone_with_a_real_model(alg, side):
    pytest.importorskip("transformers")
    from model_runtime.models.dream import DreamModel

    model = DreamModel.from_pretrained(GOLDEN / "dream-tiny").eval()
    mask_id = model.config.mask_token_id
    short, long = [86, 102, mask_id, 453, 17], [253, 185, 306, 372, 331, 242, 426, 9]
    pad, none = [499] * 3, [0] * 3
    row = pad + short if side == "left" else short + pad
    real = none + [1] * 5 if side == "left" else [1] * 5 + none
    options = {"max_new_tokens": 7, "steps": 5, "alg": alg}
    out = diffusion_generate(model, ids(row, long), ids(real, [1] * 8), **options).sequences
    alone = diffusion_generate(model, ids(short), **options).sequences
    assert torch.equal(out[0][ids(real + [1] * 7)[0].bool()], alone[0])
    assert torch.equal(out[1], diffusion_generate(model, ids(long), **options).sequences[0])


def test_a_mask_without_padding_is_not_passed_on():
    model = Fake()
    diffusion_generate(model, ids([1, MASK]), ids([1, 1]), steps=2)
    assert model.seen == [(None, None)] * 2


def test_positions_skip_padding():
    model = Fake()
    diffusion_generate(model, ids([EOS, 1, 2]), ids([0, 1, 1]), max_new_tokens=1, steps=1)
    attention_mask, position_ids = model.seen[0]
    assert attention_mask.tolist() == [[0, 1, 1, 1]]
    assert position_ids.tolist() == [[1, 0, 1, 2]]


@pytest.mark.parametrize(("shift", "source"), [(True, 1), (False, 2)])
def test_shift_comes_from_the_config(shift, source):
    model = Fake(shift=shift)
    canvas = ids([4, 5, MASK, 6])
    logits = model(canvas).logits[0, source].clone()
    logits[[MASK, BOS, EXPAND]] = -torch.inf
    logits[TOKENIZER:] = -torch.inf
    out = diffusion_generate(model, canvas, steps=1, alg="entropy")
    assert out.sequences[0, 2] == logits.argmax()


@pytest.mark.parametrize("alg", ["origin", *RANKED])
def test_a_seed_decides_everything(alg):
    options = {"max_new_tokens": 12, "steps": 5, "alg": alg, "alg_temp": 0.5, "temperature": 1.0}

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return diffusion_generate(Fake(), ids([1, 2], [3, 4]), **options, generator=generator).sequences

    state = torch.get_rng_state()
    first = run(1)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    assert torch.equal(run(1), first)
    assert not torch.equal(run(2), first)

    torch.manual_seed(1)
    assert torch.equal(diffusion_generate(Fake(), ids([1, 2], [3, 4]), **options).sequences, first)


def test_temperature_zero_draws_nothing():
    state = torch.get_rng_state()
    diffusion_generate(Fake(), ids([1, 2]), max_new_tokens=5, steps=3, alg="entropy")
    assert torch.equal(torch.get_rng_state(), state)


def test_the_tokens_hook_runs_once_before_and_after_every_step():
    calls = []

    def hook(step, x_BL, logits_BLV):
        calls.append((step, None if logits_BLV is None else list(logits_BLV.shape)))
        x_BL[:, -2:] = 7
        return x_BL

    canvas = ids([1, 2, MASK, MASK, MASK, MASK])
    out = diffusion_generate(
        Fake(), canvas, steps=3, alg="maskgit_plus", generation_tokens_hook_func=hook, output_history=True
    )
    assert calls == [(None, None), *((step, [1, 6, VOCABULARY]) for step in range(3))]
    assert all((x_BL[:, -2:] == 7).all() for x_BL in out.history)
    assert canvas.tolist() == [[1, 2, MASK, MASK, MASK, MASK]], "the hook reached the caller's tensor"
    assert MASK not in out.sequences


def test_the_logits_hook_sees_shifted_logits_and_decides():
    steps = []

    def hook(step, x_BL, logits_BLV):
        steps.append(step)
        raw_BLV = Fake()(x_BL).logits
        assert torch.equal(logits_BLV[:, 1:], raw_BLV[:, :-1])
        assert torch.equal(logits_BLV[:, 0], raw_BLV[:, 0])
        return torch.nn.functional.one_hot(torch.full_like(x_BL, 9), VOCABULARY) * 80.0

    out = diffusion_generate(
        Fake(), ids([1, 2]), max_new_tokens=3, steps=4, alg="entropy", generation_logits_hook_func=hook
    )
    assert steps == [0, 1, 2, 3]
    assert out.sequences.tolist() == [[1, 2, 9, 9, 9]]


def test_an_end_id_that_is_also_the_first_id_may_be_produced():
    model = Fake(favoured=(EOS,), bos_token_id=EOS)
    assert diffusion_generate(model, ids([1]), max_new_tokens=2, steps=1).sequences.tolist() == [[1, EOS, EOS]]


def test_compat_appends_where_the_default_fills_the_canvas():
    canvas = ids([1, MASK, 2])
    assert diffusion_generate(Fake(), canvas, steps=1).sequences.shape == (1, 3)
    assert diffusion_generate(Fake(), canvas, steps=1, compat=True).sequences.shape == (1, 23)


def test_history_survives_a_hook_that_reuses_its_tensor():
    canvas = ids([1, MASK, MASK, MASK])
    buffer = canvas.clone()
    options = {"steps": 3, "alg": "entropy", "output_history": True}
    out = diffusion_generate(
        Fake(), canvas, **options, generation_tokens_hook_func=lambda step, x, logits: buffer.copy_(x)
    )
    expected = diffusion_generate(Fake(), canvas, **options)
    assert [x.tolist() for x in out.history] == [x.tolist() for x in expected.history]


def test_history_only_on_request():
    assert diffusion_generate(Fake(), ids([1, MASK]), steps=1).history is None


CANVAS = torch.tensor([[1, 2, MASK]])


@pytest.mark.parametrize(
    ("message", "kwargs"),
    [
        ("alg is", {"alg": "nope"}),
        ("steps", {"steps": 0}),
        ("steps", {"steps": 2.5}),
        ("eps", {"eps": 1.0}),
        ("eps", {"eps": -0.1}),
        ("alg_temp", {"alg_temp": -1.0}),
        ("temperature", {"temperature": -1.0}),
        ("temperature", {"temperature": float("nan")}),
        ("top_p", {"top_p": 1.5}),
        ("top_k", {"top_k": 0}),
        ("not both", {"max_length": 5, "max_new_tokens": 2}),
        ("2 tokens long", {"max_length": 2}),
        ("2 tokens long", {"max_new_tokens": -1}),
        ("generator", {"generator": 3}),
        ("attention_mask", {"attention_mask": torch.ones(1, 4)}),
        ("input_ids", {"input_ids": torch.tensor([1, MASK])}),
        ("input_ids", {"input_ids": torch.tensor([[1.0, 2.0]])}),
        ("nothing to fill", {"input_ids": torch.tensor([[1, 2]])}),
        ("mask_token_id", {"model": Fake(mask_token_id=None)}),
        ("full attention", {"model": Fake(attention="context_blind")}),
        ("tokens_hook", {"generation_tokens_hook_func": lambda step, x, logits: None}),
        ("logits_hook", {"generation_logits_hook_func": lambda step, x, logits: logits[0]}),
        ("nan", {"generation_logits_hook_func": lambda step, x, logits: logits * torch.nan}),
        (
            "no id",
            {"generation_logits_hook_func": lambda step, x, logits: torch.full_like(logits, -torch.inf)},
        ),
    ],
)
def test_mistakes_are_named(message, kwargs):
    with pytest.raises(ValueError, match=message):
        diffusion_generate(**({"model": Fake(), "input_ids": CANVAS, "steps": 2} | kwargs))


@pytest.mark.parametrize("kwargs", [{}, {"temperature": 1.0, "top_p": 0.9, "top_k": 3}])
def test_compat_takes_the_likeliest_ids_when_it_cannot_draw(kwargs):
    logits_NV = torch.tensor([[0.0, 3.0, 1.0], [torch.nan, 0.0, 0.0]])
    _, ids_N = sample_tokens(logits_NV, **kwargs, compat=True)
    assert ids_N[0] == 1


@pytest.mark.parametrize("k", [1, 5])
def test_dividing_by_exponential_noise_is_the_multinomial_draw(k):
    """The draws of the reference are torch.multinomial's; ours have to be the same ones."""
    weights = torch.rand(4, 50, generator=torch.Generator().manual_seed(5))
    expected = torch.multinomial(weights, k, generator=torch.Generator().manual_seed(9))
    noise = exponential(weights, torch.Generator().manual_seed(9))
    assert torch.equal((weights / noise).topk(k).indices, expected)


def test_positions_are_drawn_by_confidence():
    """Of two [MASK]s with 0.9 and 0.6, alg_temp 0.5 fills either first in the ratio exp(1.8) : exp(1.2)."""

    def hook(step, x_BL, logits_BLV):
        probabilities_BLV = torch.full_like(logits_BLV, 1e-9)
        probabilities_BLV[:, 0, 1:3] = torch.tensor([0.9, 0.1])
        probabilities_BLV[:, 1, 1:3] = torch.tensor([0.6, 0.4])
        return probabilities_BLV.log()

    rows = 4000
    out = diffusion_generate(
        Fake(),
        torch.full((rows, 2), MASK),
        steps=2,
        eps=0.0,
        alg="maskgit_plus",
        alg_temp=0.5,
        generation_logits_hook_func=hook,
        output_history=True,
        generator=torch.Generator().manual_seed(0),
    )
    first = (out.history[0][:, 0] != MASK).float().mean()
    assert ((out.history[0] != MASK).sum(1) == 1).all()
    assert abs(first - 1 / (1 + torch.e ** (1.2 - 1.8))) < 0.03
