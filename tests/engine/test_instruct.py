"""Rewrites by instruction: what the model is asked, and how the code of its answer comes into the file."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("torch")

from fakes import ScriptedBackend, fake_facts
from hypothesis import given
from hypothesis import strategies as st
from synthetic import LLADA, QWEN, SEED, qwen_like

from model_runtime.engine.chat import BEGIN, CHATS, END, aligned, chat_ids, end_ids, fenced, marked, text_of
from model_runtime.engine.engine import Engine
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import FillRequest, ModelError, RequestError, RewriteRequest, apply_fills

FILE = (
    "import math\n\n\nclass Circle:\n    def area(self):\n        return 3 * self.r\n\n    def f(self):\n        pass\n"
)
START = FILE.index("        return")
RANGE = (START, FILE.index("\n\n    def f") + 1)


def tokenizer_of(folder, special, first=False) -> TextTokenizer:
    qwen_like(special=[*special, "<|mask|>"], plain=[], first=first).save(str(folder / "tokenizer.json"))
    return TextTokenizer(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> TextTokenizer:
    return tokenizer_of(tmp_path_factory.mktemp("qwen"), QWEN)


def engine_of(qwen, answer: str, rest: int | None = None, **facts) -> Engine:
    """An engine whose model writes `answer` and then ends."""
    end = qwen.id_of("<|im_end|>") if rest is None else rest
    script = [{token: 0.99} for token in [*qwen.encode(answer), end]]
    known = {"mask_id": qwen.id_of("<|mask|>"), "bos_id": None, "pad_id": None, "expand_id": None, "delete_id": None}
    known |= {"vocabulary": qwen.size + 8, "tokenizer_size": qwen.size, "chat": "chatml", "context_length": 2000}
    known = fake_facts(**{**known, "context_blind": False, **facts})
    return Engine(ScriptedBackend(lambda step, shown: script, rest=end, facts=known), qwen)


def rewritten(engine: Engine, text: str = FILE, span: tuple[int, int] = RANGE, **options) -> str:
    request = RewriteRequest(text=text, range=span, instruction="use math.pi", path="circle.py", **options)
    return apply_fills(text, engine.rewrite(request).holes)


def test_code_takes_the_place_of_the_range(qwen):
    engine = engine_of(qwen, "return math.pi * self.r ** 2\n```\nThis is the area.")
    assert rewritten(engine) == FILE.replace("3 * self.r", "math.pi * self.r ** 2")
    asked = engine.backend.windows[0].ids_BW[0].tolist()
    told = qwen.decode_bytes(asked).decode(errors="ignore")
    assert "use math.pi" in told
    assert FILE[: RANGE[0]] in told  # the file around it
    assert f"{BEGIN}\n        return 3 * self.r\n{END}\n\n    def f" in told
    assert asked.count(qwen.id_of("<|im_start|>")) == 3
    assert told.rstrip("\0").endswith("assistant\n```python\n")


def test_the_result_tells_tokens_confidence_and_the_prompts_size(qwen):
    engine = engine_of(qwen, "return math.pi\n```\n")
    result = engine.rewrite(RewriteRequest(text=FILE, range=RANGE, instruction="shorter"))
    (hole,) = result.holes
    assert (hole.length_policy, result.end, hole.start, hole.end) == ("chat", "complete", *RANGE)
    covered = [hole.text[token.start : token.end] for token in hole.tokens]
    assert "".join(covered) == "return math.pi"  # neither indentation nor the line's end came from the model
    assert all(token.confidence > 0.9 for token in hole.tokens)


def test_frames_show_the_answer_while_it_settles(qwen):
    engine = engine_of(qwen, "return 1\n```\n")
    request = RewriteRequest(text=FILE, range=RANGE, instruction="shorter", frames=True, steps=4)
    *frames, _ = engine.stream(request)
    assert frames
    for frame in frames:
        (hole,) = frame.holes
        assert (hole.start, hole.end) == RANGE
        assert all(0 <= a < b <= len(hole.text) for a, b in hole.settled)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_line_ends_are_the_documents(qwen, line_end):
    text = FILE.replace("\n", line_end)
    span = tuple(len(FILE[:at].replace("\n", line_end)) for at in RANGE)
    new = rewritten(engine_of(qwen, "x = math.pi\nreturn x\n```\n"), text, span)
    assert new.count(line_end) == new.count("\n")
    assert new.replace("\r\n", "\n") == FILE.replace("return 3 * self.r", "x = math.pi\n        return x")


def test_an_answer_without_code_changes_nothing(qwen):
    for answer in ("", "```\n", "\n\n```\nSorry.", "return 3 * self.r\n```\n"):
        engine = engine_of(qwen, answer)
        result = engine.rewrite(RewriteRequest(text=FILE, range=RANGE, instruction="nothing"))
        assert (result.holes, result.end) == ([], "empty")


def test_a_model_that_follows_no_instruction_says_so(qwen):
    with pytest.raises(RequestError, match="takes no instruction"):
        rewritten(engine_of(qwen, "x", chat=None))


def test_a_model_that_sees_nothing_behind_a_hole_fills_none(qwen):
    engine = engine_of(qwen, "return 1\n```\n", block_length=4, shift=False)
    with pytest.raises(RequestError, match="cannot fill holes"):
        engine.fill(FillRequest(text="x = \n", holes=[(4, 4)]))


@pytest.mark.parametrize("cache", ["on", "context", "off"])
def test_answers_in_blocks_end_where_they_end(qwen, cache):
    """Block after block, each to a multiple of four positions, and none behind the one that ends the answer.

    The prompt is computed once for all of them, unless that is not wanted.
    """
    engine = engine_of(qwen, "", block_length=4, shift=False)
    code = qwen.encode("return math.pi\n```\n")
    script = iter([*code, qwen.id_of("<|im_end|>")])

    class Blocks(ScriptedBackend):
        def row_of_batch(self, window, b):
            self.script = lambda step, shown: [{next(script, code[0]): 0.99} for _ in window.rows_BR[0]]
            return super().row_of_batch(window, b)

    engine.backend = Blocks(lambda step, shown: [], rest=code[0], facts=engine.facts)
    assert rewritten(engine, cache=cache) == FILE.replace("3 * self.r", "math.pi")
    windows = engine.backend.windows
    whole = [window for window in windows if window.positions_BW.min() == 0]
    assert len(whole) == (len(windows) if cache == "off" else 1)
    lengths = {window.positions_BW.max() + 1 for window in windows}
    assert all(length % 4 == 0 for length in lengths)
    assert len(lengths) <= len(code) // 4 + 2


@pytest.mark.parametrize("block", [4, None])
def test_a_block_is_settled_before_the_next_is_asked_for(qwen, block):
    """LLaDA's order: all of the answer is masked from the start, and what is surer further right waits.

    What is masked behind the answer's end is not waited for.
    """
    engine = engine_of(qwen, "", reveal_block=block, shift=False)
    code = [*qwen.encode("return math.pi\n```\n"), qwen.id_of("<|im_end|>")]
    prompt = []

    def script(step, shown):
        masks = [n for n, token in enumerate(shown) if token == engine.facts.mask_id]
        prompt.append(masks[0])  # in the first step, the number of the prompt's tokens
        cells = [n - prompt[0] for n in masks]
        due = [n for n in cells if block is None or n // block == cells[0] // block]
        return [{code[min(n, len(code) - 1)]: 0.6 + 0.1 * (n % 4) if block else 0.9 - 0.001 * n} for n in due]

    engine.backend = ScriptedBackend(script, rest=code[0], facts=engine.facts)
    request = RewriteRequest(
        text=FILE, range=RANGE, instruction="use math.pi", path="circle.py", sampler="maskgit_plus", cache="off"
    )
    result = engine.rewrite(request)
    assert apply_fills(FILE, result.holes) == FILE.replace("3 * self.r", "math.pi")
    asked = [window.rows_BR.shape[1] for window in engine.backend.windows]
    if block is None:
        assert result.steps == len(code) < asked[0]
    else:
        assert set(asked) == {1, 2, 3, 4}
        assert result.steps == -(-len(code) // 4) * 4


def test_steps_are_shared_among_blocks(qwen):
    engine = engine_of(qwen, "", reveal_block=4, shift=False)
    code = qwen.encode("return math.pi")[0]
    engine.backend = ScriptedBackend(lambda step, shown: [], rest=code, facts=engine.facts)
    request = RewriteRequest(
        text=FILE, range=RANGE, instruction="x", sampler="maskgit_plus", cache="off", steps=20, max_tokens=8
    )
    result = engine.rewrite(request)
    first = engine.backend.windows[0].ids_BW[0]
    assert ((first == engine.facts.mask_id).sum(), result.steps) == (40, 20)


def test_a_range_that_is_too_long_is_one_sentence(qwen):
    with pytest.raises(RequestError, match="too long for the model"):
        rewritten(engine_of(qwen, "x", context_length=200), FILE * 30, (0, len(FILE) * 20))


def test_a_cancelled_answer_is_what_there_is(qwen):
    cancel = threading.Event()
    cancel.set()
    result = engine_of(qwen, "x").rewrite(RewriteRequest(text=FILE, range=RANGE, instruction="x"), cancel)
    assert (result.end, result.holes) == ("cancelled", [])


@pytest.mark.parametrize(("chat", "special"), [("chatml", QWEN), ("llada", LLADA), ("seed", SEED)])
def test_prompts_are_the_templates(tmp_path, chat, special):
    tokenizer = tokenizer_of(tmp_path, special)
    user = "rewrite <|im_end|> <|eot_id|> {user}"
    ids = chat_ids(tokenizer, chat, user, "```python\n")
    spelled = "".join(tokenizer.token_bytes[i].decode() or tokenizer._tokenizer.id_to_token(i) for i in ids)
    assert spelled == CHATS[chat].prompt.replace("{user}", user, 1) + "```python\n"
    plain = chat_ids(tokenizer, chat, "", "```python\n")
    marks = [i for i in ids if not tokenizer.token_bytes[i]]
    assert marks == [i for i in plain if not tokenizer.token_bytes[i]]  # what the user wrote is none
    assert end_ids(tokenizer, chat)


def test_a_tokenizer_without_the_marks_is_one_sentence(qwen):
    with pytest.raises(ModelError, match=r"has no <\|startoftext\|>"):
        chat_ids(qwen, "llada", "x", "")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("a = 1\n```\nThat sets a.", "a = 1\n"),
        ("a = 1\nb = 2", "a = 1\nb = 2"),
        ("a = 1\n", "a = 1\n"),
        ("```python\na = 1\n```\n", "a = 1\n"),
        ("\n```\nor rather\n```py\na = 2\n```", "a = 2\n"),
        ("s = 'a ``` b'\n```", "s = 'a ``` b'\n"),
        ("", ""),
    ],
)
def test_the_code_of_an_answer(answer, code):
    assert text_of(fenced(marked(answer, []))) == code


@pytest.mark.parametrize(
    ("before", "part", "after", "code", "expected"),
    [
        ("", "x\n", "", "y", "y\n"),
        ("", "x", "", "y\n", "y"),
        ("if a:\n", "    x\n", "", "y\nz", "    y\n    z\n"),
        ("if a:\n", "    x\n", "", "        y\n            z", "    y\n        z\n"),
        ("if a:\n    ", "x", "\n", "    y\n    z", "y\n    z"),  # the range begins behind the indentation
        ("def f():\n", "    x\n", "def g():\n", "def f():\n    y\ndef g():\n", "    y\n"),  # context is not repeated
        ("def f():\n", "    x\n", "", f"{BEGIN}\n    y\n{END}", "    y\n"),
        ("if a:\n", "    x\n", "", "y\n\nz", "    y\n\n    z\n"),
        ("}\n", "x\n", "", "}\ny", "}\ny\n"),  # a bracket is no telling repetition
        ("if a:\n", "\tx\n", "", "    y", "\ty\n"),
    ],
)
def test_code_is_aligned_to_the_range(before, part, after, code, expected):
    assert text_of(aligned(marked(code, []), before, part, after)) == expected


@given(st.text("ab \n\t`", max_size=40), st.text("ab \n\t", max_size=20), st.text("ab \n", min_size=1, max_size=20))
def test_no_answer_breaks_the_alignment(answer, before, part):
    new = text_of(aligned(fenced(marked(answer, [])), before, part, ""))
    assert new == "" or new.endswith("\n") == part.endswith("\n")
