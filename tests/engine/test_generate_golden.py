"""The decoder against numbers recorded from the reference: every sampler case, filter, schedule and default.

The recordings are float32 on a CPU, made with torch 2.13: seeded draws and the order of ties belong to that
version.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from model_runtime.engine import generate  # noqa: E402
from model_runtime.engine.filters import sample_tokens, top_k_logits, top_p_logits, uniform  # noqa: E402
from model_runtime.engine.generate import diffusion_generate, reveal_ratios  # noqa: E402
from model_runtime.models.dream import DreamModel  # noqa: E402

GOLDEN = Path(__file__).parent.parent / "golden"
SAMPLER = GOLDEN / "sampler"


def recorded(name: str) -> dict:
    return json.loads((SAMPLER / name).read_text())


def sampler_cases():
    for path in sorted(SAMPLER.glob("dream-tiny*.json")):
        if path.name.endswith("entrypoint.json"):
            continue
        data = json.loads(path.read_text())
        for case in data["cases"]:
            yield pytest.param(data["checkpoint"], case, id=f"{data['checkpoint']}-{case['group']}-{case['id']}")


CASES = list(sampler_cases())


@lru_cache
def load(checkpoint: str):
    return DreamModel.from_pretrained(GOLDEN / checkpoint).eval()


class Counting:
    """A model that counts its forwards."""

    def __init__(self, model):
        self.model, self.config, self.forwards = model, model.config, 0

    def __call__(self, *args, **kwargs):
        self.forwards += 1
        return self.model(*args, **kwargs)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def hooks(case: dict) -> dict:
    """The hooks that a recorded case ran with."""
    found = {}
    if suffix := case.get("hook_suffix"):

        def write_suffix(step, x_BL, logits_BLV):
            x_BL[:, -len(suffix) :] = torch.tensor(suffix)
            return x_BL

        found["generation_tokens_hook_func"] = write_suffix
    if bias := case.get("logits_hook_bias"):

        def add(step, x_BL, logits_BLV):
            logits_BLV[:, :, bias["token"]] += bias["add"]
            return logits_BLV

        found["generation_logits_hook_func"] = add
    return found


def last_changes(start_BL, history) -> list:
    """For each position the last step that changed it, or -1."""
    last_BL = torch.full_like(start_BL, -1)
    for step, x_BL in enumerate(history):
        last_BL[x_BL != start_BL] = step
        start_BL = x_BL
    return last_BL.tolist()


def is_direct(case: dict) -> bool:
    """Recorded from the reference's inner loop, because its public function refuses to append nothing."""
    return case["group"] == "infill_direct" or case["id"].endswith("infill-direct")


def decode(checkpoint: str, case: dict, compat: bool):
    """Run a recorded case as it was recorded; return the result and the number of forwards."""
    model = Counting(load(checkpoint))
    input_ids = torch.tensor(case["input_ids"])
    attention_mask = None if case["attention_mask"] is None else torch.tensor(case["attention_mask"])
    kwargs = dict(case["kwargs"])
    if case["seed"] is not None:
        torch.manual_seed(case["seed"])
    if not is_direct(case):
        out = diffusion_generate(
            model, input_ids, attention_mask, **kwargs, **hooks(case), output_history=True, compat=compat
        )
        return out, model.forwards
    if not compat:  # nothing to append: allowed by default
        return diffusion_generate(model, input_ids, **kwargs, output_history=True), model.forwards
    sampling = {name: kwargs[name] for name in ("temperature", "top_p", "top_k")}
    ratios = reveal_ratios(kwargs["steps"], case["effective"]["eps"])
    history = []
    x_BL = generate._denoise(
        model=model,
        x_BL=input_ids,
        real_BL=None,
        ratios=ratios,
        alg=kwargs["alg"],
        alg_temp=kwargs.get("alg_temp"),
        sampling=sampling,
        hooks=(None, None),
        history=history,
        generator=None,
        compat=True,
    )
    return generate.Generated(x_BL, history), model.forwards


def check(case: dict, out) -> None:
    assert out.sequences.tolist() == case["sequences"]
    assert [x_BL.tolist() for x_BL in out.history] == case["history"]
    start_BL = torch.tensor(case["input_ids"])
    appended = case["effective"]["max_length"] - start_BL.shape[1]
    mask_id = case["effective"]["mask_token_id"]
    start_BL = torch.nn.functional.pad(start_BL, (0, appended), value=mask_id)
    if suffix := case.get("hook_suffix"):
        start_BL[:, -len(suffix) :] = torch.tensor(suffix)
    assert last_changes(start_BL, out.history) == case["last_changed_at_step"]


@pytest.mark.parametrize(("checkpoint", "case"), CASES)
def test_the_reference_is_repeated_in_compat_mode(checkpoint, case, monkeypatch):
    draws = []

    def spy(*args):
        drawn_N = uniform(*args)
        draws.append(drawn_N.tolist())
        return drawn_N

    monkeypatch.setattr(generate, "uniform", spy)
    out, forwards = decode(checkpoint, case, compat=True)
    check(case, out)
    assert forwards == case["n_forward"]
    assert draws == case.get("rand_draws", [])
    mask_id = case["effective"]["mask_token_id"]
    assert (out.sequences == mask_id).sum() == case["mask_left_at_end"]


# Groups in which the recorded runs met no quirk of the reference, so that the default mode has to agree. In
# one case an id that the default mode bans is likely enough to change the order of two negative entropies.
PLAIN = {"greedy", "greedy-filtered", "batch", "leftpad", "infill_direct", "infill_public", "hook", "origin"}
BAN_CHANGES_THE_ORDER = ("dream-tiny-tied", "entropy-infill-two-holes")


@pytest.mark.parametrize(
    ("checkpoint", "case"),
    [
        case
        for case in CASES
        if case.values[1]["group"] in PLAIN and (case.values[0], case.values[1]["id"]) != BAN_CHANGES_THE_ORDER
    ],
)
def test_the_default_mode_agrees_where_the_reference_has_no_quirk(checkpoint, case):
    out, forwards = decode(checkpoint, case, compat=False)
    check(case, out)
    assert forwards == case["n_forward"]


@pytest.mark.parametrize(
    ("checkpoint", "case"),
    [case for case in CASES if case.values[1]["group"] in ("uneven", "mask_predicted", "rightpad")],
)
def test_the_default_mode_mends_the_quirks(checkpoint, case):
    out, _ = decode(checkpoint, case, compat=False)
    mask_id = case["effective"]["mask_token_id"]
    assert mask_id not in out.sequences
    prompt_BL = torch.tensor(case["input_ids"])
    kept_BL = prompt_BL != mask_id
    assert torch.equal(out.sequences[:, : prompt_BL.shape[1]][kept_BL], prompt_BL[kept_BL])


@pytest.mark.parametrize("checkpoint", ["dream-tiny", "dream-tiny-tied"])
class TestEntryPoint:
    """Errors and defaults of the public function in compat mode."""

    def call(self, checkpoint, **kwargs):
        return diffusion_generate(load(checkpoint), torch.arange(6).unsqueeze(0), compat=True, **kwargs)

    @pytest.mark.parametrize(
        ("name", "kwargs"),
        [
            ("max_length_equal_input", {"max_length": 6}),
            ("max_new_tokens_0", {"max_new_tokens": 0}),
            ("bad_alg", {"max_new_tokens": 2, "alg": "nope"}),
        ],
    )
    def test_errors(self, checkpoint, name, kwargs):
        expected = recorded(f"{checkpoint}.entrypoint.json")[name]
        assert not expected["ok"]
        with pytest.raises((ValueError, RuntimeError)) as caught:
            self.call(checkpoint, steps=2, **kwargs)
        assert caught.type.__name__ == expected["error"].split(":")[0]

    @pytest.mark.parametrize(("name", "kwargs"), [("max_length_8", {"max_length": 8}), ("no_length_given", {})])
    def test_lengths(self, checkpoint, name, kwargs):
        expected = recorded(f"{checkpoint}.entrypoint.json")[name]
        assert list(self.call(checkpoint, steps=2, **kwargs).sequences.shape) == expected["shape"]

    def test_defaults(self, checkpoint, monkeypatch):
        expected = recorded(f"{checkpoint}.entrypoint.json")["defaults_when_no_generation_config_is_passed"]
        seen = {}

        def record(model, x_BL, real_BL, ratios, alg, alg_temp, sampling, *rest):
            seen.update(sampling, alg=alg, alg_temp=alg_temp, ratios=ratios, max_length=x_BL.shape[1])
            return x_BL

        monkeypatch.setattr(generate, "_denoise", record)
        self.call(checkpoint)
        for name in ("temperature", "top_p", "top_k", "alg", "alg_temp"):
            assert seen[name] == expected[name], name
        assert seen["max_length"] == 6 + expected["max_length"]
        assert torch.equal(seen["ratios"], reveal_ratios(expected["steps"], expected["eps"]))
        self.call(checkpoint, temperature=None, top_p=None, top_k=None)
        assert (seen["temperature"], seen["top_p"], seen["top_k"]) == (0.0, None, None)

    def test_the_mask_id_comes_from_the_config(self, checkpoint):
        expected = recorded(f"{checkpoint}.entrypoint.json")["defaults_when_no_generation_config_is_passed"]
        config = load(checkpoint).config
        for name in ("mask_token_id", "pad_token_id", "bos_token_id", "eos_token_id"):
            assert getattr(config, name) == expected[name], name


FILTERS = recorded("filters.json")["cases"]


@pytest.mark.parametrize("case", [pytest.param(case, id=case["key"]) for case in FILTERS])
def test_filter(case):
    tensors = load_file(SAMPLER / "filters.safetensors")
    logits_NV = tensors[case.get("input", "logits")]
    if case["fn"] == "top_p_logits":
        assert torch.equal(top_p_logits(logits_NV, case["top_p"]), tensors[case["key"]])
    elif case["fn"] == "top_k_logits":
        assert torch.equal(top_k_logits(logits_NV, case["top_k"]), tensors[case["key"]])
    else:
        confidence = "maskgit_plus"
        if case.get("margin_confidence"):
            confidence = "topk_margin"
        elif case.get("neg_entropy"):
            confidence = "entropy"
        options = {name: case[name] for name in ("temperature", "top_p", "top_k") if name in case}
        if "seed" in case:
            torch.manual_seed(case["seed"])
        confidence_N, ids_N = sample_tokens(logits_NV, confidence, **options)
        assert torch.equal(ids_N, tensors[case["key"] + ".x0"])
        torch.testing.assert_close(confidence_N, tensors[case["key"]], rtol=1e-6, atol=1e-7)


def test_schedule():
    data = recorded("schedule.json")
    assert len(data["schedules"]) == 330
    for case in data["schedules"]:
        ratios = reveal_ratios(case["steps"], case["eps"])
        left, counts = torch.tensor([case["n_mask"]]), []
        for ratio in ratios:
            counts.append(int((left.float() * ratio).long()))
            left = left - counts[-1]
        assert counts == case["transferred"], case
    for name, times in data["timesteps"].items():
        eps, steps = name.split(":")
        t = torch.tensor(times)
        expected = 1 - t[1:] / t[:-1]
        assert torch.equal(reveal_ratios(int(steps), float(eps))[:-1], expected[:-1]), name
