"""The masked-diffusion loss: against recorded losses and gradients, exact enumeration, and its docstring."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from model_runtime.models.dream import DreamConfig, DreamModel  # noqa: E402
from training.objectives.causal import next_token_loss  # noqa: E402
from training.objectives.masked import (  # noqa: E402
    cart_weights,
    masked_diffusion_loss,
    normaliser,
    predicting_rows,
    token_weights,
    weighted_cross_entropy,
)
from training.objectives.noise import Noise, draw_masks  # noqa: E402

GOLDEN = Path(__file__).parent.parent / "golden"
RECORDED = json.loads((GOLDEN / "sft/sft.json").read_text())
WEIGHTS = {"scheduler": "1/t", "uniform": "uniform", "cart[geo_p:0.3]": "cart"}
MASK = 7  # of the six-token model


@pytest.fixture(scope="module")
def recorded():
    return load_file(GOLDEN / "sft/sft.safetensors")


@pytest.fixture(scope="module")
def checkpoints():
    return {name: DreamModel.from_pretrained(GOLDEN / name) for name in ("dream-tiny", "dream-tiny-tied")}


@pytest.mark.parametrize(
    "case",
    RECORDED["cases"],
    ids=lambda c: f"{c['key']}-{c['loss_weight_type'][:4]}-{c['loss_norm_type']}",
)
def test_losses_and_gradient_norms_are_the_recorded_ones(recorded, checkpoints, case):
    model, key = checkpoints[case["checkpoint"]], case["key"]
    model.zero_grad()
    ids, masked = recorded[f"{key}.input_ids"], recorded[f"{key}.masked_mask"].bool()
    noisy = ids.masked_fill(masked, model.config.mask_token_id)
    loss = masked_diffusion_loss(
        model(noisy, attention_mask=recorded[f"{key}.attention_mask"]).logits,
        ids,
        masked,
        recorded[f"{key}.t"],
        maskable_BL=recorded[f"{key}.labels"] != -100,
        weight=WEIGHTS[case["loss_weight_type"]],
        normalise=case["loss_norm_type"],
    )
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-5, abs=1e-4)
    parameters = dict(model.named_parameters())
    assert case["grad_norms"].keys() <= parameters.keys()
    for name, norm in case["grad_norms"].items():
        assert parameters[name].grad.norm().item() == pytest.approx(norm, rel=1e-5, abs=1e-4), name


@pytest.mark.parametrize("case", RECORDED["cart"], ids=lambda c: c["key"])
def test_context_adaptive_weights_are_the_recorded_ones(recorded, case):
    masked = recorded[f"{case['key']}.masked_mask"].bool()
    found = torch.where(masked, cart_weights(masked, case["p"]), 0.0)
    assert torch.allclose(found, torch.where(masked, recorded[f"{case['key']}.weights"], 0.0), atol=1e-6)


# A model of six tokens, small enough to try every masking.


@pytest.fixture(scope="module")
def every_masking():
    """The six clean ids, all 64 maskings, and the nats of each token under each [64, 6] (0 where not masked)."""
    torch.manual_seed(5)
    config = DreamConfig(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
        mask_token_id=MASK,
        shift=False,  # so that the first token has a row of its own
    )
    model = DreamModel(config).eval()
    ids = torch.tensor([3, 1, 4, 1, 5, 2])
    maskings = torch.tensor(list(itertools.product([False, True], repeat=6)))
    with torch.no_grad():
        logits = model(ids.expand(64, 6).masked_fill(maskings, MASK)).logits
    nats = -logits.log_softmax(-1).gather(2, ids.expand(64, 6).unsqueeze(2)).squeeze(2)
    return ids, maskings, logits, nats * maskings


def expected(every_masking, weight, normalise, shift=False, points=12):
    """The exact expectation of the loss over t uniform in (0, 1) and all maskings: Gauss-Legendre over t."""
    ids, maskings, logits, _ = every_masking
    nodes, areas = np.polynomial.legendre.leggauss(points)
    total = 0.0
    for node, area in zip((nodes + 1) / 2, areas / 2, strict=True):
        for masking, row in zip(maskings, logits, strict=True):
            count = int(masking.sum())
            chance = node**count * (1 - node) ** (6 - count)
            loss = masked_diffusion_loss(
                row[None],
                ids[None],
                masking[None],
                torch.tensor([node]),
                maskable_BL=torch.ones(1, 6, dtype=torch.bool),
                weight=weight,
                normalise=normalise,
                shift=shift,
            )
            total += area * chance * float(loss)
    return total


def chain_rule_over_all_orders(every_masking):
    """Minus log-likelihood by the chain rule, averaged over all 720 orders of revealing."""
    _, maskings, _, nats = every_masking
    index = {tuple(masking.tolist()): n for n, masking in enumerate(maskings)}
    total = 0.0
    for order in itertools.permutations(range(6)):
        masked = [True] * 6
        for position in order:
            total += float(nats[index[tuple(masked)], position])
            masked[position] = False
    return total / 720


def test_the_bound_is_the_mean_over_all_orders(every_masking):
    exact = chain_rule_over_all_orders(every_masking)
    assert expected(every_masking, "1/t", "batch") == pytest.approx(exact, rel=1e-4)
    assert expected(every_masking, "1/t", "token") == pytest.approx(exact / 6, rel=1e-4)
    assert expected(every_masking, "1/t", "sequence") == pytest.approx(exact / 6, rel=1e-4)


def test_the_sampled_loss_is_an_unbiased_estimate(every_masking):
    """What the forward process draws, averaged, against the enumeration: within four standard errors."""
    ids, maskings, logits, _ = every_masking
    noise, rng = Noise(keep_prefix=0, truncate=0), np.random.default_rng(0)
    draws = [draw_masks(np.ones(6, bool), noise, rng) for _ in range(20_000)]
    masked = torch.tensor(np.stack([draw.masked_L for draw in draws]))
    t = torch.tensor([draw.t for draw in draws])
    which = (masked.long() * torch.tensor([32, 16, 8, 4, 2, 1])).sum(1)
    assert torch.equal(maskings[which], masked)
    nats = -logits.log_softmax(-1)[:, torch.arange(6), ids]
    samples = (nats[which] * masked * token_weights(masked, t, "1/t")).sum(1)
    error = float(samples.std() / len(samples) ** 0.5)
    assert abs(float(samples.mean()) - chain_rule_over_all_orders(every_masking)) < 4 * error
    batch = masked_diffusion_loss(
        logits[which],
        ids.expand(len(which), 6),
        masked,
        t,
        maskable_BL=torch.ones_like(masked),
        normalise="batch",
        shift=False,
    )
    assert float(batch) == pytest.approx(float(samples.mean()), rel=1e-5)


@pytest.mark.parametrize(("weight", "share"), [("1/t", 1.0), ("uniform", 1 / 2), ("linear", 1 / 6)])
def test_a_weight_integrates_to_what_its_docstring_says(weight, share):
    """Every token's cross-entropy is ln 8 under equal logits, so the loss counts tokens."""
    equal = torch.arange(6), torch.tensor(list(itertools.product([False, True], repeat=6))), torch.zeros(64, 6, 8), None
    assert expected(equal, weight, "token") == pytest.approx(share * np.log(8), rel=1e-4)


def test_the_context_adaptive_weight_integrates_to_a_sixth_of_its_kernel():
    equal = torch.arange(6), torch.tensor(list(itertools.product([False, True], repeat=6))), torch.zeros(64, 6, 8), None
    kernel = sum(0.5 * 0.3 * 0.7 ** (abs(i - j) - 1) for i in range(6) for j in range(6) if i != j)
    assert expected(equal, "cart", "batch") == pytest.approx(kernel / 6 * np.log(8), rel=1e-4)
    alone = torch.zeros(1, 401, dtype=torch.bool)
    assert float(cart_weights(alone)[0, 200]) == pytest.approx(1.0, abs=1e-4)  # far from both ends


# Details of the quotient.


def random_batch(seed=0, rows=5, length=9, vocabulary=11):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, length, vocabulary, generator=generator)
    ids = torch.randint(vocabulary, (rows, length), generator=generator)
    maskable = torch.rand(rows, length, generator=generator) < 0.8
    masked = maskable & (torch.rand(rows, length, generator=generator) < 0.6)
    return logits, ids, masked, torch.rand(rows, generator=generator) * 0.9 + 0.1, maskable


@pytest.mark.parametrize("normalise", ["masked", "token", "sequence", "batch"])
def test_parts_of_a_batch_add_up_to_the_whole(normalise):
    """What accumulation and several processes rely on."""
    logits, ids, masked, t, maskable = random_batch()
    whole = masked_diffusion_loss(logits, ids, masked, t, maskable_BL=maskable, normalise=normalise)
    total, divisor = 0.0, 0.0
    for part in (slice(0, 2), slice(2, 5)):
        scale, count = normaliser(masked[part], maskable[part], normalise)
        weights = token_weights(masked[part], t[part], "1/t") * scale[:, None]
        rows = logits[part].flatten(0, 1)[predicting_rows(masked[part], True)]
        total += float(weighted_cross_entropy(rows, ids[part][masked[part]], weights[masked[part]]))
        divisor += float(count.sum())
    assert total / divisor == pytest.approx(float(whole), rel=1e-5)


def test_with_the_shift_a_token_is_predicted_one_row_earlier():
    logits, ids, masked, t, maskable = random_batch()
    shifted = torch.cat([logits[:, :1], logits[:, :-1]], dim=1)
    left = masked_diffusion_loss(logits, ids, masked, t, maskable_BL=maskable)
    right = masked_diffusion_loss(shifted, ids, masked, t, maskable_BL=maskable, shift=False)
    assert float(left) == pytest.approx(float(right), rel=1e-6)


def test_nothing_masked_costs_nothing_and_has_a_gradient():
    logits, ids, masked, t, maskable = random_batch()
    logits.requires_grad_()
    loss = masked_diffusion_loss(logits, ids, masked & False, t, maskable_BL=maskable)
    loss.backward()
    assert loss.item() == 0
    assert float(logits.grad.abs().sum()) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"weight": "1/T"}, "weight is one of"), ({"normalise": "mean"}, "normalise is one of")],
)
def test_an_unknown_choice_is_an_error(settings, message):
    logits, ids, masked, t, maskable = random_batch()
    with pytest.raises(ValueError, match=message):
        masked_diffusion_loss(logits, ids, masked, t, maskable_BL=maskable, **settings)


def test_masked_tokens_must_be_maskable():
    logits, ids, masked, t, maskable = random_batch()
    with pytest.raises(ValueError, match="not in maskable"):
        masked_diffusion_loss(logits, ids, masked, t, maskable_BL=maskable & ~masked)


def test_the_next_token_loss_is_the_plain_one():
    logits, ids, *_ = random_batch()
    counted = torch.ones_like(ids, dtype=torch.bool)
    counted[:, 0] = False
    plain = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert float(next_token_loss(logits, ids, counted_BL=counted)) == pytest.approx(float(plain), rel=1e-6)
    with pytest.raises(ValueError, match="first token"):
        next_token_loss(logits, ids, counted_BL=torch.ones_like(counted))
