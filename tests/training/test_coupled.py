"""Coupled-GRPO against the numbers that the DiffuCoder repository produced, and what must hold beyond them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from model_runtime.engine.generate import diffusion_generate  # noqa: E402
from model_runtime.models.dream import DreamConfig, DreamModel  # noqa: E402
from training.grpo.grading import total_rewards  # noqa: E402
from training.grpo.rollouts import counted_until  # noqa: E402
from training.objectives.coupled import (  # noqa: E402
    coupled_log_probs,
    coupled_views,
    grpo_loss,
    leave_one_out_advantages,
)
from training.objectives.estimators import (  # noqa: E402
    Draw,
    Fixes,
    draw_apple,
    draw_own,
    log_probs,
    mask_index,
    misaligned_metrics,
)

GOLDEN = Path(__file__).parent.parent / "golden"
FACTS = json.loads((GOLDEN / "coupled_grpo/coupled_grpo.json").read_text())
TENSORS = load_file(GOLDEN / "coupled_grpo/coupled_grpo.safetensors")
MASK = 500
CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module")
def model():
    return DreamModel.from_pretrained(GOLDEN / "dream-tiny", dtype=torch.float32).eval()


def tensors(key):
    """The tensors of a case by their names."""
    return {name[len(key) + 1 :]: value for name, value in TENSORS.items() if name.startswith(f"{key}.")}


def cases(group):
    return [pytest.param(case, id=case["key"]) for case in FACTS[group]]


# The recorded numbers


@pytest.mark.parametrize("case", cases("forward_process"))
def test_recorded_views(case):
    found = tensors(case["key"])
    batch_BL = found["batch"]
    completion_BL = torch.arange(batch_BL.shape[1]).expand(batch_BL.shape) >= case["prompt_len"]
    parts = case["gradient_accumulation_steps"] if case["accumulate"] else 1
    draw = draw_apple(case["seed"], *batch_BL.shape, parts)
    assert draw.t == pytest.approx(case["mask_ratio"], abs=1e-12)
    assert torch.equal(draw.uniform_MBL[0, : len(found["random_matrix"])], found["random_matrix"])
    views = coupled_views(completion_BL, draw.uniform_MBL[0], draw.t)
    for name, view_BL in zip(("full_mask", "masked", "complement"), views, strict=True):
        assert torch.equal(batch_BL.masked_fill(view_BL, MASK), found[name])
    assert case["weights"] == pytest.approx([1, 1 / draw.t, 1 / (1 - draw.t)])


@pytest.mark.parametrize("case", cases("per_token_logps"))
def test_recorded_log_probabilities(case, model):
    found = tensors(case["key"])
    ids_BL = found["input_ids"]
    parts = case["gradient_accumulation_steps"] if case["accumulate"] else 1
    for number, seed in enumerate(case["mask_seeds"]):
        draw = draw_apple(seed, *ids_BL.shape, parts)
        logp_BC = coupled_log_probs(model, ids_BL, case["completion_len"], draw.uniform_MBL[0], draw.t, MASK)
        torch.testing.assert_close(logp_BC, found["per_token_logps"][:, number], **CLOSE)


@pytest.mark.parametrize("case", cases("cases"))
def test_recorded_losses_gradients_and_metrics(case, model):
    found = tensors(case["key"])
    ids_BL = torch.cat([found["prompt_ids"], found["completion_ids"]], dim=1)
    draw = draw_apple(case["used_seed"], *ids_BL.shape)
    model.zero_grad()
    new_BC = coupled_log_probs(model, ids_BL, found["completion_ids"].shape[1], draw.uniform_MBL[0], draw.t, MASK)
    at = case["iteration_index"]
    old_BC = found["old_per_token_logps"][:, at] if "old_per_token_logps" in found else None
    ref_BC = found["ref_per_token_logps"][:, at] if case["beta"] else None
    clips = case["epsilon_low"], case["epsilon_high"]
    counted_BC = found["completion_mask"].bool()
    loss, metrics = grpo_loss(new_BC, old_BC, ref_BC, found["advantages"], counted_BC, *clips, case["beta"])
    assert float(loss.detach()) == pytest.approx(case["loss"], abs=1e-4)
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norms = {name: float(grads[name].norm()) if name in grads else 0.0 for name in case["grad_norms"]}
    assert norms == pytest.approx(case["grad_norms"], abs=1e-4, rel=1e-4)
    for name, value in found.items():
        if name.startswith("grad."):
            torch.testing.assert_close(grads[name[5:]], value, **CLOSE)
    if not counted_BC.any():
        return  # the repository logs nan; here everything is 0
    aligned, logged = case["metrics_row_aligned"], case["metrics_as_reference"]
    assert metrics["kl"] == pytest.approx(aligned["kl"] or 0.0, abs=1e-4)
    named = {"low_clip": "clip_low", "high_clip": "clip_high", "region": "clip"}
    assert {name: metrics[ours] for name, ours in named.items()} == pytest.approx(
        {name: aligned[name] for name in named}, abs=1e-6
    )
    wrong = misaligned_metrics(new_BC, old_BC, ref_BC, found["advantages"], counted_BC, *clips)
    assert wrong["clip_low"] == pytest.approx(logged["clip_ratio/low_mean"][0], abs=1e-6)
    assert wrong["clip_high"] == pytest.approx(logged["clip_ratio/high_mean"][0], abs=1e-6)
    assert wrong["clip"] == pytest.approx(logged["clip_ratio/region_mean"][0], abs=1e-6)
    assert wrong.get("kl", 0.0) == pytest.approx(logged.get("kl", [0.0])[0], abs=1e-4)


@pytest.mark.parametrize("case", cases("rollouts"))
def test_recorded_rollouts(case, model):
    """Decoding, where completions end, advantages, and old and reference log-probabilities, in one chain."""
    found = tensors(case["key"])
    sampler = {name: FACTS["rollout_sampler"][name] for name in ("alg", "alg_temp", "temperature", "top_p", "top_k")}
    canvas_BL = diffusion_generate(
        model,
        found["prompt_ids"],
        found["prompt_mask"],
        max_new_tokens=case["max_completion_length"],
        steps=case["diffusion_steps"],
        compat=True,
        **sampler,
    ).sequences
    completion_BC = canvas_BL[:, found["prompt_ids"].shape[1] :]
    assert torch.equal(completion_BC, found["completion_ids"])
    counts = [counted_until(row.tolist(), {case["eos_token_id"]}) for row in completion_BC]
    assert counts == found["completion_mask"].sum(1).tolist()
    rewards_RB = torch.tensor([[float("nan") if r is None else r for r in row] for row in case["rewards"]])
    total_B = total_rewards(rewards_RB, case["reward_weights"])
    advantages_B = leave_one_out_advantages(total_B, case["num_generations"], case["scale_rewards"])
    torch.testing.assert_close(advantages_B, found["advantages"], **CLOSE)
    if case["num_iterations"] == 1:
        return
    reference = DreamModel.from_pretrained(GOLDEN / "dream-tiny", dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if "norm" in name:
                parameter.mul_(1.02)
        for number, seed in enumerate(case["mask_seeds"]):
            draw = draw_apple(seed, *canvas_BL.shape, case["gradient_accumulation_steps"])
            for who, recorded in ((model, "old_per_token_logps"), (reference, "ref_per_token_logps")):
                logp_BC = coupled_log_probs(who, canvas_BL, completion_BC.shape[1], draw.uniform_MBL[0], draw.t, MASK)
                torch.testing.assert_close(logp_BC, found[recorded][:, number], **CLOSE)


@pytest.mark.parametrize("case", FACTS["advantages"])
def test_recorded_advantages(case):
    rewards_RB = torch.tensor([[float("nan") if r is None else r for r in row] for row in case["rewards"]])
    total_B = total_rewards(rewards_RB, case["reward_weights"])
    found_B = leave_one_out_advantages(total_B, case["num_generations"], case["scale_rewards"])
    torch.testing.assert_close(found_B, torch.tensor(case["advantages"]), **CLOSE)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_recorded_pairing_of_masks_with_steps(accumulate):
    recorded = [entry["iteration_index"] for entry in FACTS[f"step_pairing_ga{accumulate}_iter2"]]
    places = [(step, micro) for step in range(len(recorded) // accumulate) for micro in range(accumulate)]
    assert [mask_index(step, micro, accumulate, 2, fresh=False) for step, micro in places] == recorded
    assert [mask_index(step, micro, accumulate, 2, fresh=True) for step, micro in places] == [s % 2 for s, _ in places]


# Properties


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 4), st.integers(1, 30), st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_coupling_covers_each_completion_token_once(rows, length, t, seed):
    generator = torch.Generator().manual_seed(seed)
    completion_BL = torch.rand(rows, length, generator=generator) < 0.6
    uniform_BL = torch.rand(rows, length, generator=generator)
    uniform_BL[0, 0] = t  # the border belongs to one of the two as well
    full_BL, first_BL, second_BL = coupled_views(completion_BL, uniform_BL, t)
    assert torch.equal(full_BL, completion_BL)
    assert torch.equal(first_BL ^ second_BL, completion_BL)
    assert not (first_BL & second_BL).any()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.integers(1, 4), st.floats(-3, 3))
def test_advantages_are_fair_within_a_group(rewards, groups, shift):
    size = len(rewards)
    many_B = torch.tensor(rewards * groups, dtype=torch.float64)
    found_B = leave_one_out_advantages(many_B, size)
    assert torch.allclose(found_B.view(groups, size).sum(1), torch.zeros(groups, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(found_B, leave_one_out_advantages(many_B + shift, size), atol=1e-9)
    centred_B = (many_B.view(groups, size) - many_B.view(groups, size).mean(1, keepdim=True)).flatten()
    assert torch.allclose(found_B, centred_B * size / (size - 1), atol=1e-9)


def test_padding_on_the_left_changes_nothing_but_in_the_reference(model):
    """The first of the repository's defects: without the mask, a padded row gets other log-probabilities."""
    ids_BL = torch.randint(0, 490, (1, 12), generator=torch.Generator().manual_seed(0))
    padded_BL = torch.nn.functional.pad(ids_BL, (5, 0), value=499)
    uniform_BL = torch.rand(1, 17, generator=torch.Generator().manual_seed(1))
    present_BL = torch.arange(17).unsqueeze(0) >= 5
    alone_BC = coupled_log_probs(model, ids_BL, 6, uniform_BL[:, 5:], 0.4, MASK)
    beside_BC = coupled_log_probs(model, padded_BL, 6, uniform_BL, 0.4, MASK, attention_mask=present_BL.long())
    torch.testing.assert_close(beside_BC, alone_BC, rtol=0, atol=1e-5)
    blind_BC = coupled_log_probs(model, padded_BL, 6, uniform_BL, 0.4, MASK)
    assert (blind_BC - alone_BC).abs().max() > 1e-3
    model.zero_grad()
    beside_BC.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_pairs_are_averaged(model):
    """K pairs: (p0 + sum of each pair's weighted p) / (K + 1), each pair with its own masks."""
    generator = torch.Generator().manual_seed(3)
    ids_BL = torch.randint(0, 490, (2, 14), generator=generator)
    uniform_KBL = torch.rand(3, 2, 14, generator=generator)
    t_B = torch.tensor([0.3, 0.6])
    one = [coupled_log_probs(model, ids_BL, 8, uniform_KBL[k], t_B, MASK) for k in range(3)]
    completion_BL = torch.arange(14).expand(2, 14) >= 6
    p0_BC = log_probs(model, ids_BL, completion_BL, Draw(uniform_KBL, t_B), MASK, kind="full_mask")[:, 6:]
    expected_BC = (p0_BC + sum(2 * single_BC - p0_BC for single_BC in one)) / 4
    found_BC = coupled_log_probs(model, ids_BL, 8, uniform_KBL, t_B, MASK, pairs=3)
    torch.testing.assert_close(found_BC, expected_BC, rtol=0, atol=1e-5)
    turned_BC = coupled_log_probs(model, ids_BL, 8, uniform_KBL[0], t_B, MASK, pairs=3)
    assert not torch.allclose(turned_BC, one[0])
    with pytest.raises(ValueError, match="3 pairs take as many matrices"):
        coupled_log_probs(model, ids_BL, 8, uniform_KBL[:2], t_B, MASK, pairs=3)


def test_a_completion_in_the_middle_is_estimated_like_one_at_the_end(model):
    """A hole: its tokens are scored with the suffix in sight, from the rows before them."""
    generator = torch.Generator().manual_seed(4)
    ids_BL = torch.randint(0, 490, (1, 12), generator=generator)
    completion_BL = torch.zeros(1, 12, dtype=torch.bool)
    completion_BL[:, 4:7] = True
    draw = draw_own(0, [5], completion_BL)
    found_BL = log_probs(model, ids_BL, completion_BL, draw, MASK, kind="full_mask")
    with torch.no_grad():
        logits_LV = model(ids_BL.masked_fill(completion_BL, MASK)).logits[0]
    expected = [float(logits_LV[at - 1].log_softmax(-1)[ids_BL[0, at]]) for at in range(4, 7)]
    assert found_BL[0, 4:7].tolist() == pytest.approx(expected, abs=1e-5)
    assert not found_BL[0, :4].any()
    assert not found_BL[0, 7:].any()


def test_a_models_log_probability_does_not_depend_on_how_logits_are_asked_for(model):
    """A model that gives all logits, with no `rows`, as published ones do."""

    class Plain:
        config = SimpleNamespace(shift=True)

        def __call__(self, ids):
            return SimpleNamespace(logits=model(ids).logits)

    ids_BL = torch.randint(0, 490, (2, 9), generator=torch.Generator().manual_seed(5))
    uniform_BL = torch.rand(2, 9, generator=torch.Generator().manual_seed(6))
    one, other = (coupled_log_probs(who, ids_BL, 5, uniform_BL, 0.5, MASK) for who in (model, Plain()))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_row_draws_the_same_masks_in_any_batch():
    completion_BL = torch.zeros(3, 10, dtype=torch.bool)
    completion_BL[:, 4:8] = True
    together, alone = draw_own(7, [1, 2, 3], completion_BL), draw_own(7, [2], completion_BL[1:2])
    assert torch.equal(together.uniform_MBL[:, 1], alone.uniform_MBL[:, 0])
    assert together.t[1] == alone.t[0]
    assert 0.2 <= float(together.t.min()) <= float(together.t.max()) <= 0.8
    assert not torch.equal(together.uniform_MBL[:, 0], together.uniform_MBL[:, 1])


def variances(model, kind, draws, ids_BL, completion_BL, t):
    """The variance of the estimate of each token, over draws of masks: its mean over tokens."""
    with torch.no_grad():
        found = [log_probs(model, ids_BL, completion_BL, Draw(draw, t), 63, kind=kind)[completion_BL] for draw in draws]
    return float(torch.stack(found).var(0).mean()), torch.stack(found).mean(0)


def test_coupling_lowers_the_variance_at_equal_cost():
    """Equal forwards, equal expectation; measured 0.1 to 0.6 on small models."""
    torch.manual_seed(0)
    config = DreamConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        mask_token_id=63,
    )
    config.num_key_value_heads = 2
    model = DreamModel(config).eval()
    generator = torch.Generator().manual_seed(1)
    ids_BL = torch.randint(0, 60, (4, 20), generator=generator)
    completion_BL = torch.arange(20).expand(4, 20) >= 8
    draws = torch.rand(150, 2, 4, 20, generator=generator)
    for t in (0.3, 0.5, 0.7):
        coupled, mean = variances(model, "coupled", draws, ids_BL, completion_BL, t)
        decoupled, other = variances(model, "decoupled", draws, ids_BL, completion_BL, t)
        assert coupled / decoupled < 0.7, (t, coupled / decoupled)
        assert float((mean - other).abs().mean()) < 0.5  # a tenth of what is estimated: the noise of 150 draws


def test_nemos_variant_weighs_nothing_and_needs_no_full_mask(model):
    generator = torch.Generator().manual_seed(8)
    ids_BL = torch.randint(0, 490, (1, 10), generator=generator)
    completion_BL = torch.arange(10).unsqueeze(0) >= 4
    draw = Draw(torch.rand(2, 1, 10, generator=generator), 0.4)
    coupled_BL, nemo_BL, full_BL = (
        log_probs(model, ids_BL, completion_BL, draw, MASK, kind=kind) for kind in ("coupled", "nemo", "full_mask")
    )
    first_BL = draw.uniform_MBL[0] < 0.4
    weight_BL = torch.where(first_BL, 1 / 0.4, 1 / 0.6)
    torch.testing.assert_close(2 * coupled_BL - full_BL, nemo_BL * weight_BL, rtol=0, atol=1e-4)


def test_fixes_are_on_and_apple_turns_them_off_one_by_one():
    assert all(vars(Fixes().resolved("none")).values())
    assert not any(vars(Fixes().resolved("apple")).values())
    assert Fixes(attention_mask=True).resolved("apple").attention_mask
    assert not Fixes(own_masks=False).resolved("none").own_masks


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: leave_one_out_advantages(torch.ones(4), 1), "at least two completions"),
        (lambda: leave_one_out_advantages(torch.ones(5), 2), "no whole number of groups of 2"),
        (lambda: coupled_views(torch.ones(1, 3), torch.rand(1, 3), 1.0), "t lies between 0 and 1"),
        (
            lambda: coupled_log_probs(None, torch.ones(1, 3).long(), 4, torch.rand(1, 3), 0.5, 0),
            "between 1 and 3, not 4",
        ),
        (lambda: coupled_log_probs(None, torch.ones(1, 3).long(), 2, torch.rand(1, 3), 0.5, 0, pairs=0), "at least 1"),
        (
            lambda: grpo_loss(torch.zeros(1, 2), None, None, torch.zeros(1), torch.ones(1, 2), beta=0.1),
            "needs the log-probabilities of the reference",
        ),
    ],
)
def test_what_makes_no_sense_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_equal_rewards_teach_nothing():
    assert leave_one_out_advantages(torch.full((6,), 0.7), 3, scale=True).abs().max() < 1e-5
    loss, metrics = grpo_loss(torch.randn(2, 4), None, None, torch.zeros(2), torch.ones(2, 4), beta=0.0)
    assert float(loss) == 0
    assert metrics["kl"] == 0
