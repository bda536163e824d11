"""Which rows a run reads, in what order, and what they hold."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from small import module  # noqa: E402

from model_runtime.models.tokenizer import TextTokenizer  # noqa: E402
from training.conversations import Exchange, documented_functions, exchange_of, lay_out  # noqa: E402
from training.corpus.pack import load_pack  # noqa: E402
from training.errors import TrainingError  # noqa: E402
from training.mixture import BLOCK, Mixture, shuffled  # noqa: E402
from training.models import adapt_vocabulary, new_model, read_files, write_files  # noqa: E402
from training.noisy import Noising, NoisyBatches, TokenIds, noisy_row  # noqa: E402
from training.objectives.dreamon import Resizing  # noqa: E402
from training.objectives.noise import Noise  # noqa: E402
from training.rows import CleanRow, Conversation, ConversationRows, PackedRows  # noqa: E402
from training.stages.recipe import Phase, Shape  # noqa: E402

MASK, EOS, NEWLINE = 900, 901, 902
IDS = TokenIds(MASK, None, EOS, EOS, NEWLINE, 903, EOS)


@given(st.integers(1, 300), st.integers(0, 50))
def test_a_shuffle_is_a_permutation(count, seed):
    assert sorted(shuffled(n, count, seed) for n in range(count)) == list(range(count))


def test_shuffles_differ_by_seed_and_keep_no_order():
    one, other = ([shuffled(n, 5000, seed) for n in range(5000)] for seed in (1, 2))
    assert one != other
    assert abs(np.corrcoef(np.arange(5000), one)[0, 1]) < 0.05


@settings(max_examples=20)
@given(st.integers(0, 9))
def test_every_row_is_read_once_an_epoch(seed):
    sizes = {"a": 300, "b": 91, "c": 7}
    mixture = Mixture(sizes, [], 4, seed)
    read = collections.Counter(mixture(n) for n in range(398))
    assert {source for source, _ in read} == set(sizes)
    assert len(read) == 398
    assert [mixture(n) for n in range(398, 796)] != [mixture(n) for n in range(398)]  # another order next time
    assert all(0 <= index < sizes[source] for source, index in read)


def test_a_mixture_switches_at_its_steps_and_keeps_its_shares():
    phases = [Phase(0, {"a": 3, "b": 1}), Phase(100, {"b": 1}), Phase(150, {"a": 1, "b": 1})]
    mixture = Mixture({"a": 10_000, "b": 10_000}, phases, 10, 5)
    rows = [mixture(n) for n in range(3000)]
    first = [source for source, _ in rows[:1000]]
    for start in range(0, 768, BLOCK):  # exact in every block
        assert first[start : start + BLOCK].count("a") == BLOCK * 3 // 4
    assert {source for source, _ in rows[1000:1500]} == {"b"}
    assert 0.4 < [source for source, _ in rows[1500:]].count("a") / 1500 < 0.6
    assert len(set(rows)) == 3000  # a source goes on where it was, across phases


@pytest.mark.parametrize("bos", [None, 7])
@pytest.mark.parametrize("length", [16, 50, 333])
def test_rows_hold_the_stream_of_documents(pack, bos, length):
    loaded = load_pack(pack)
    stream = np.concatenate([np.append(loaded.document(n), EOS) for n in range(3, 20)])
    rows = PackedRows(loaded, (3, 20), length, bos, EOS)
    stride = length - (bos is not None)
    assert len(rows) == len(stream) // stride
    for n in range(len(rows)):
        row = rows[n]
        assert len(row.ids_L) == length
        if bos is not None:
            assert row.ids_L[0] == bos
        assert (row.ids_L[length - stride :] == stream[n * stride : (n + 1) * stride]).all()


def test_conversations_are_padded_and_those_too_long_left_out():
    conversations = [Conversation([1, 2], [3, 4, 5]), Conversation([1] * 9, [2]), Conversation([1], [])]
    rows = ConversationRows(conversations, 8, 7, 0)
    assert len(rows) == 1
    assert rows.too_long == 1
    assert rows[0].ids_L.tolist() == [7, 1, 2, 3, 4, 5, 0, 0]
    assert rows[0].prompt == 3
    with pytest.raises(TrainingError, match="none of 2 conversations fits in 4 tokens"):
        ConversationRows(conversations, 4, 7, 0)


def test_the_prompt_is_masked_until_the_condition_is_added():
    row = CleanRow(np.arange(40), 1, 20)
    how = Noising("conditional", IDS, Noise(truncate=0, keep_prefix=0), Resizing(), ramp_epochs=1.0)

    def share_with_prompt(epochs: float) -> float:
        rng = np.random.default_rng(0)
        rows = [noisy_row(row, how, epochs, rng) for _ in range(400)]
        assert not any(one["maskable_BL"][0] for one in rows)
        assert all(one["maskable_BL"][20:].all() for one in rows)
        return float(np.mean([one["maskable_BL"][1:20].any() for one in rows]))

    assert share_with_prompt(0.0) == 1
    assert 0.4 < share_with_prompt(0.5) < 0.6
    assert share_with_prompt(1.0) == share_with_prompt(4.0) == 0


def test_pads_are_trained_on():
    rows = ConversationRows([Conversation([1, 2], [3])], 16, None, 0)
    how = Noising("conditional", IDS, Noise(truncate=0, keep_prefix=0), Resizing(), ramp_epochs=0)
    rng = np.random.default_rng(0)
    masked = np.mean([noisy_row(rows[0], how, 2.0, rng)["masked_BL"] for _ in range(300)], axis=0)
    assert not masked[:2].any()
    assert (masked[3:] > 0.3).all()


@given(st.integers(0, 300))
def test_what_is_shown_and_asked_fits_together(seed):
    rng = np.random.default_rng(seed)
    row = CleanRow(np.where(rng.random(30) < 0.2, NEWLINE, rng.integers(0, 800, 30)), 1, 1)
    how = Noising("masked", IDS, Noise(truncate=0.5, keep_prefix=0.3, spans=0.3), Resizing(share=0.5, max_delete=6))
    one = noisy_row(row, how, 0.0, rng)
    masked, shown, wanted = one["masked_BL"], one["noisy_BL"], one["targets_BL"]
    assert (shown[masked] == MASK).all()
    assert (shown[~masked] == wanted[~masked]).all()
    assert not (masked & ~one["maskable_BL"]).any()
    assert not (masked & ~one["present_BL"]).any()
    assert not masked[0]


class Counting:
    """Rows that say which they are."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> CleanRow:
        return CleanRow(np.full(6, index), 1, 1)


def test_processes_share_a_steps_rows():
    def rows(world: int, micro: int) -> list[torch.Tensor]:
        mixture = Mixture({"x": 64}, [], 8, 3)
        how = Noising("masked", IDS, Noise(), Resizing())
        made = [NoisyBatches({"x": Counting()}, mixture, how, micro, rank, world, 3) for rank in range(world)]
        parts = [made[rank][n] for n in range(8 // (world * micro)) for rank in range(world)]
        return [torch.cat([getattr(part, name) for part in parts]) for name in ("noisy_BL", "masked_BL", "t_B")]

    whole = rows(1, 8)
    for world, micro in ((1, 2), (2, 4), (4, 1)):
        assert all(torch.equal(a, b) for a, b in zip(whole, rows(world, micro), strict=True))


# Conversations


def test_documented_functions_become_exchanges():
    text = (
        module(1) + 'class A:\n    def f(self, n=1):\n        """Add one.\n\n        More."""\n        return n + 1\n'
    )
    found = list(documented_functions(text))
    assert len(found) == 4
    method = next(one for one in found if "`f(self, n=1)`" in one.prompt)
    assert method.prompt == "Write a Python function `f(self, n=1)`: Add one."
    assert method.answer == "```python\ndef f(self, n=1):\n    return n + 1\n```"
    for one in found:
        compile(one.answer.removeprefix("```python\n").removesuffix("```"), "x", "exec")
    assert list(documented_functions("def broken(:\n")) == []


@pytest.mark.parametrize(
    ("record", "prompt", "answer"),
    [
        ({"instruction": "a", "output": "b"}, "a", "b"),
        ({"prompt": "a", "response": "b"}, "a", "b"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a", "b"),
        (
            {"text": "Add.", "code": "def f():\r\n  pass", "test_list": ["assert f()"]},
            "Add.\nTest case: assert f()",
            "```python\ndef f():\n  pass\n```",
        ),
    ],
)
def test_fields_of_public_instruction_sets(record, prompt, answer):
    assert exchange_of(record, "x") == Exchange(prompt, answer)


def test_text_never_becomes_a_special_token(pack, tmp_path):
    files = read_files(pack)
    model = new_model(Shape(32, 48, 1, 2), files)
    adapt_vocabulary(model, files)
    write_files(tmp_path, files)
    tokenizer = TextTokenizer(tmp_path / "tokenizer.json")
    special = {tokenizer.id_of(token) for token in ("<|im_start|>", "<|im_end|>", "<|mask|>", "<|endoftext|>")}
    made = lay_out(Exchange("<|im_end|> <|mask|>", "<|endoftext|>"), tokenizer, "be <|im_start|> kind")
    start, end = tokenizer.id_of("<|im_start|>"), tokenizer.id_of("<|im_end|>")
    assert [i for i in made.prompt if i in special] == [start, end, start, end, start]
    assert [i for i in made.answer if i in special] == [end]
    assert made.answer[-1] == end
