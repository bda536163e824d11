"""Every family's public layout: recognised, its tokens found, its numbers those of an independent implementation."""

from __future__ import annotations

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402
from synthetic import checkpoint  # noqa: E402

from model_runtime.models.families import FAMILIES, MANIFEST, read_facts  # noqa: E402
from model_runtime.models.loading import check_numbers, open_checkpoint  # noqa: E402
from model_runtime.models.spellings import token_spellings  # noqa: E402
from model_runtime.models.tokenizer import TextTokenizer  # noqa: E402
from model_runtime.protocol import ModelError  # noqa: E402

INSTRUCT = "DiffuCoder Instruct"
# repository name: family, mask, pad, expand, delete, shift, infills, chat, context
PUBLIC = {
    "DiffuCoder-7B-Base": ("DiffuCoder", "<|mask|>", "<|endoftext|>", None, None, True, True, None, 4096),
    "DiffuCoder-7B-Instruct": (INSTRUCT, "<|mask|>", "<|dlm_pad|>", None, None, True, False, "chatml", 2048),
    "DiffuCoder-7B-cpGRPO": (INSTRUCT, "<|mask|>", "<|dlm_pad|>", None, None, True, False, "chatml", 2048),
    "Dream-v0-Base-7B": ("Dream", "<|mask|>", "<|endoftext|>", None, None, True, True, None, 2048),
    "Dream-v0-Instruct-7B": ("Dream", "<|mask|>", "<|endoftext|>", None, None, True, False, "chatml", 2048),
    "Dream-Coder-v0-Base-7B": ("Dream-Coder", "<|mask|>", "<|endoftext|>", None, None, True, True, None, 2048),
    "DreamOn-v0-7B": ("DreamOn", "<|mask|>", "<|endoftext|>", "<|expand|>", "<|endoftext|>", True, True, None, 2048),
    "open-dcoder-0.5B": ("Open-dCoder", "<M>", "<|endoftext|>", None, None, True, True, None, 4096),
    "Stable-DiffCoder-8B-Instruct": (
        "Stable-DiffCoder", "<[MASK_TOKEN]>", "<[PAD▁TOKEN]>", None, None, False, False, "seed", 8192,
    ),
    "LLaDA-8B-Base": ("LLaDA", "<|mdm_mask|>", "<|endoftext|>", None, None, False, True, None, 4096),
    "LLaDA-8B-Instruct": ("LLaDA", "<|mdm_mask|>", "<|endoftext|>", None, None, False, False, "llada", 4096),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """By repository name: a tiny checkpoint in its layout."""
    parent = tmp_path_factory.mktemp("hub")
    return {name: checkpoint(parent, name) for name in PUBLIC}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_family_is_known_by_its_layout(folders, name):
    facts, spelled = read_facts(folders[name]), token_spellings(folders[name])
    family, mask, pad, expand, delete, *rest = PUBLIC[name]
    assert facts.family == family
    ids = [None if token is None else spelled[token] for token in (mask, pad, expand, delete)]
    assert [facts.mask_id, facts.pad_id, facts.expand_id, facts.delete_id] == ids
    assert [facts.shift, facts.infills, facts.chat, facts.context_length] == rest


def test_every_row_of_the_table_is_tested():
    assert {row[0] for row in PUBLIC.values()} == {family.name for family in FAMILIES}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_checkpoint_loads_and_its_tokenizer_gives_text_back(folders, name):
    model = open_checkpoint(folders[name], dtype=torch.float32).eval()
    check_numbers(model, folders[name])
    tokenizer = TextTokenizer(folders[name] / "tokenizer.json")
    assert tokenizer.joins_line_ends
    assert tokenizer.joins_blanks
    text = "def f(x):\n    return g(x)\r\n# e\u0301 é 🙂 <|mask|> <|fim_middle|>\n\n\n\tx"
    assert tokenizer.decode_bytes(tokenizer.encode(text)).decode() == text


@torch.no_grad()
@pytest.mark.parametrize("name", ["open-dcoder-0.5B", "Stable-DiffCoder-8B-Instruct"])
def test_the_numbers_are_those_of_transformers_own_code(folders, name):
    """Qwen2 with every row visible, and Llama with blocks of four, as the authors' code runs them."""
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(folders[name], dtype=torch.float32).eval()
    ours = open_checkpoint(folders[name], dtype=torch.float32).eval()
    ids = torch.randint(0, 400, (1, 11), generator=torch.Generator().manual_seed(1))
    at = torch.arange(11) // (4 if "Stable" in name else 11)
    seen = at.unsqueeze(0) <= at.unsqueeze(1)
    added = torch.zeros(1, 1, 11, 11).masked_fill(~seen, torch.finfo(torch.float32).min)
    assert (ours(ids).logits - reference(ids, attention_mask=added).logits).abs().max() < 1e-4


@torch.no_grad()
def test_lladas_numbers_are_those_of_its_blocks(folders):
    """Written out from the public code: one norm, q k v without biases, SwiGLU of ff_proj and up_proj, one head."""
    folder = folders["LLaDA-8B-Base"]
    weights = load_file(folder / "model.safetensors")
    ids = torch.randint(0, 400, (9,), generator=torch.Generator().manual_seed(1))
    angles = torch.outer(torch.arange(9.0), 500000.0 ** (-torch.arange(0, 8, 2) / 8)).repeat(1, 2)

    def norm(x, name):
        return weights[f"model.transformer.{name}.weight"] * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)

    def heads(x, turn):
        x = x.view(9, 4, 8).transpose(0, 1)
        turned = torch.cat([-x[..., 4:], x[..., :4]], -1)
        return x * angles.cos() + turned * angles.sin() if turn else x

    x = weights["model.transformer.wte.weight"][ids]
    for n in range(2):
        of = {part: weights[f"model.transformer.blocks.{n}.{part}.weight"].T for part in
              ("q_proj", "k_proj", "v_proj", "attn_out", "ff_proj", "up_proj", "ff_out")}  # fmt: skip
        h = norm(x, f"blocks.{n}.attn_norm")
        q, k, v = heads(h @ of["q_proj"], True), heads(h @ of["k_proj"], True), heads(h @ of["v_proj"], False)
        x = x + (torch.softmax(q @ k.transpose(1, 2) / 8**0.5, -1) @ v).transpose(0, 1).reshape(9, 32) @ of["attn_out"]
        h = norm(x, f"blocks.{n}.ff_norm")
        x = x + (torch.nn.functional.silu(h @ of["ff_proj"]) * (h @ of["up_proj"])) @ of["ff_out"]
    logits = norm(x, "ln_f") @ weights["model.transformer.ff_out.weight"].T
    ours = open_checkpoint(folder, dtype=torch.float32).eval()
    assert (ours(ids[None]).logits[0] - logits).abs().max() < 1e-4


def test_kin_are_told_apart_by_what_they_were_fetched_as(folders, tmp_path):
    folder = shutil.copytree(folders["Dream-v0-Base-7B"], tmp_path / "some-model")
    assert read_facts(folder).family == "Dream"
    (folder / MANIFEST).write_text(json.dumps({"name": "diffucoder-7b-base", "repository": "apple/DiffuCoder-7B-Base"}))
    assert read_facts(folder).family == "DiffuCoder"
    snapshot = tmp_path / "models--Dream-org--Dream-Coder-v0-Base-7B" / "snapshots" / "0123abcd"
    shutil.copytree(folders["Dream-v0-Base-7B"], snapshot)
    assert read_facts(snapshot).family == "Dream-Coder"
    marked = shutil.copytree(folders["DreamOn-v0-7B"], tmp_path / "another")
    assert read_facts(marked).family == "DreamOn"  # by its <|expand|>


@pytest.fixture
def spoilt(folders, tmp_path):
    """A copy of a checkpoint to spoil, and a function that says what is then told."""
    folder = shutil.copytree(folders["DiffuCoder-7B-Base"], tmp_path / "DiffuCoder-7B-Base")

    def told() -> str:
        with pytest.raises(ModelError) as error:
            check_numbers(open_checkpoint(folder, dtype=torch.float32), folder)
        assert "\n" not in str(error.value)
        return str(error.value)

    return folder, told


def change(folder, edit):
    """Rewrite the weights as `edit` leaves them."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def test_half_a_shard(spoilt):
    folder, told = spoilt
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "is cut short" in told()


def test_a_missing_tensor(spoilt):
    folder, told = spoilt
    change(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    assert "lack model.layers.1.mlp.up_proj.weight" in told()


def test_a_wrong_shape(spoilt):
    folder, told = spoilt
    change(folder, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(3, 32)}))
    assert "lm_head.weight" in told()
    assert "[3, 32]" in told()


def test_numbers_that_are_none(spoilt):
    folder, told = spoilt
    change(folder, lambda tensors: tensors["model.layers.0.mlp.down_proj.weight"].fill_(float("nan")))
    assert "model.layers.0.mlp.down_proj.weight holds numbers that are not finite" in told()


def test_the_config_of_another_model(spoilt, folders):
    folder, told = spoilt
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    assert "different models" in told()
    shutil.copy(folders["LLaDA-8B-Base"] / "config.json", folder)
    assert "different models" in told()


def test_pickles_are_refused(spoilt):
    folder, told = spoilt
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "can run code" in told()


def test_a_link_out_of_the_folder(spoilt, tmp_path):
    folder, told = spoilt
    (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    assert "leads out of its folder" in told()


def test_a_mask_that_config_and_tokenizer_do_not_agree_on(spoilt):
    folder, told = spoilt
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mask_token_id": 3}))
    assert "the tokenizer's <|mask|> is" in told()


@pytest.mark.parametrize("name", ["LLaDA-8B-Base", "DreamOn-v0-7B", "open-dcoder-0.5B", "DiffuCoder-7B-Base"])
def test_a_checkpoint_fills_a_hole(folders, name):
    """Through the engine; what random weights say is text, and what stands around the hole stays."""
    from model_runtime.engine.engine import Engine
    from model_runtime.protocol import FillRequest, apply_fills

    text = "def f(x):\n    return \n\nprint(f(1))\n"
    engine = Engine.load(folders[name], backend="torch")
    result = engine.fill(FillRequest(text=text, holes=[(21, 21)], length="fixed:3"))
    assert result.model == name
    whole = apply_fills(text, result.holes)
    assert whole.startswith("def f(x):\n    return ")
    assert whole.endswith("\n\nprint(f(1))\n")
    assert "<|" not in result.holes[0].text


@pytest.mark.parametrize("name", ["DiffuCoder-7B-Instruct", "Stable-DiffCoder-8B-Instruct", "LLaDA-8B-Instruct"])
def test_a_checkpoint_follows_an_instruction(folders, name):
    from model_runtime.engine.engine import Engine
    from model_runtime.protocol import RewriteRequest

    text = "def f(x):\n    return x\n"
    engine = Engine.load(folders[name], backend="torch")
    request = RewriteRequest(text=text, range=(10, len(text)), instruction="return y", max_tokens=8, steps=4)
    result = engine.rewrite(request)
    assert result.end in ("complete", "empty", "max_tokens")
    assert all((hole.start, hole.end, hole.length_policy) == (10, len(text), "chat") for hole in result.holes)
