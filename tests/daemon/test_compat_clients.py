"""Clients as users have them, against a daemon of its own process with the embedded model."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import editor_requests as sent
import httpx
import openai
import pytest

from model_runtime.catalog.catalog import find_model
from model_runtime.daemon.discovery import RUNTIME_FILE
from model_runtime.engine.engine import Engine
from model_runtime.models.tokenizer import TextTokenizer
from model_runtime.protocol import FillRequest

TEXT = sent.BEFORE + sent.LINE + sent.AFTER
AT = len(sent.BEFORE + sent.LINE)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address and the token of `diffill serve --token-file`."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "runtime").mkdir(mode=0o700)
    environment = {"DIFFILL_RUNTIME_DIR": str(folder / "runtime"), "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "model_runtime", "serve", "--ready", "--token-file", str(folder / "token")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    port = json.loads((folder / "runtime" / RUNTIME_FILE).read_text())["port"]
    yield f"http://127.0.0.1:{port}", (folder / "token").read_text().strip()
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="module")
def http(served):
    """An HTTP client with the token; what a deadline would cut off waits for the model once."""
    address, token = served
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        assert client.post("/infill", json={"input_prefix": "x = "}).status_code == 200
        yield client


@pytest.fixture
def library(served):
    """The client of the package openai."""
    address, token = served
    with openai.OpenAI(base_url=f"{address}/v1", api_key=token, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def expected():
    """What the engine itself puts at the place, with and without the other file's text."""
    engine = Engine.load("embedded")

    def fill(text=TEXT, at=AT, **options):
        return engine.fill(FillRequest(text=text, holes=[(at, at)], **options)).holes[0].text

    return fill


def tokens_of(text):
    """How many tokens a text has for the embedded model."""
    return len(TextTokenizer(find_model("embedded") / "tokenizer.json").encode(text))


def without_deadline(body):
    return {name: value for name, value in body.items() if name != "t_max_predict_ms"}


@pytest.mark.parametrize("body", [sent.LLAMA_VIM, sent.LLAMA_VSCODE], ids=["llama.vim", "llama.vscode"])
def test_llama_plugins_get_what_they_show(http, expected, body):
    answer = http.post("/infill", json=without_deadline(body))
    assert answer.status_code == 200
    whole = answer.json()
    text = TEXT + "\n"
    assert whole["content"] == expected(text, related=[sent.CHUNK], top_k=40, top_p=body["top_p"])
    assert whole["content"]
    assert whole["truncated"] is False
    if "response_fields" in body:
        assert set(whole) == set(body["response_fields"])
        assert '"content":"' in answer.text.replace(" ", "")  # what llama.vim looks for before it decodes
    else:
        assert whole["timings"]["predicted_ms"] >= 0


def test_several_texts_come_as_a_list(http):
    answers = http.post("/infill", json={**without_deadline(sent.LLAMA_VIM), "n_cmpl": 3}).json()
    texts = [answer["content"] for answer in answers]
    assert 1 < len(set(texts)) == len(texts) <= 3


@pytest.mark.parametrize("body", [sent.LLAMA_VIM_RING, sent.LLAMA_VSCODE_RING], ids=["llama.vim", "llama.vscode"])
def test_what_is_sent_ahead_is_answered_without_text(http, body):
    assert http.post("/infill", json=body).json().get("content", "") == ""


def test_a_deadline_gives_the_best_so_far(http):
    answer = http.post("/infill", json={**sent.LLAMA_VIM, "t_max_predict_ms": 1, "cache_prompt": False}).json()
    assert isinstance(answer["content"], str)


@pytest.mark.parametrize(
    ("path", "body", "related"),
    [
        ("/v1/completions", sent.LLAMA_VSCODE_OPENAI, ["Context:\n\n"]),
        ("/v1/completions", sent.ZED, None),
        ("/v1/completions", sent.MINUET, None),
        ("/v1/completions", sent.TWINNY, [sent.CHUNK]),
        ("/completion", sent.CONTINUE, None),
    ],
    ids=["llama.vscode-openai", "zed", "minuet", "twinny", "continue"],
)
def test_editors_that_mark_or_send_a_suffix_fill_between_both_sides(http, expected, path, body, related):
    answer = http.post(path, json={**body, "temperature": 0.0})
    assert answer.status_code == 200
    if body.get("stream"):
        events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
        parts = [json.loads(event) for event in events if event != "[DONE]"]
        text = "".join(part["choices"][0]["text"] if "choices" in part else part["content"] for part in parts)
    else:
        whole = answer.json()
        assert set(whole) >= {"id", "object", "created", "model", "usage"}  # Zed asks for all of them
        text = whole["choices"][0]["text"]
    by_engine = expected(related=related, max_tokens=body.get("max_tokens", 256))
    assert text == (by_engine.split("\n\n")[0] if body is sent.CONTINUE else by_engine)
    assert text


def test_the_openai_package_fills(library, expected):
    options = {"model": "embedded", "prompt": TEXT[:AT], "suffix": TEXT[AT:], "max_tokens": 32}
    whole = library.completions.create(**options)
    assert whole.choices[0].text == expected(max_tokens=32)
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.completion_tokens > 0
    assert whole.usage.prompt_tokens == 1 + tokens_of(TEXT[:AT]) + tokens_of(TEXT[AT:])  # and the text's start
    streamed = list(library.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.text for chunk in streamed for choice in chunk.choices) == whole.choices[0].text
    assert streamed[-1].usage.completion_tokens == whole.usage.completion_tokens
    several = library.completions.create(**options, n=3, temperature=0.8, seed=11)
    again = library.completions.create(**options, n=3, temperature=0.8, seed=11)
    assert [choice.text for choice in several.choices] == [choice.text for choice in again.choices]
    word = whole.choices[0].text[1:3]
    stopped = library.completions.create(**options, stop=[word])
    assert stopped.choices[0].text == whole.choices[0].text.split(word)[0]
    assert [model.id for model in library.models.list()] == ["embedded"]


def test_the_openai_package_is_told_what_is_wrong(library):
    with pytest.raises(openai.BadRequestError, match="temperature is at most 10"):
        library.completions.create(model="embedded", prompt="x", temperature=11)
    with pytest.raises(openai.NotFoundError):
        library.chat.completions.create(model="embedded", messages=[])
    stranger = library.with_options(api_key="wrong")
    with pytest.raises(openai.AuthenticationError, match="the token is missing or wrong"):
        stranger.models.list()


def test_a_streamed_text_is_the_whole_one_at_any_place(http):
    """Where texts compete to the end, it comes in one piece; what the model is sure of comes in several."""
    text, pieces = TEXT + "\n" + sent.CHUNK, []
    for at, end in (found.span() for found in re.finditer(r"\S.*|(?<=\()\w+", text)):
        body = {"input_prefix": text[:at], "input_suffix": text[end:], "cache_prompt": False}
        whole = http.post("/infill", json=body).json()
        streamed = http.post("/infill", json={**body, "stream": True}).text
        parts = [json.loads(line.removeprefix("data: ")) for line in streamed.split("\n\n") if line]
        assert "".join(part["content"] for part in parts) == whole["content"], at
        assert parts[-1]["tokens_predicted"] == whole["tokens_predicted"], at
        pieces.append(len(parts) - 1)  # the last one has no text
    assert max(pieces) > 1


def test_the_figures_of_a_daemon_with_a_model(http):
    page = http.get("/metrics").text
    assert 'diffill_resident_memory_bytes{process="model"}' in page or sys.platform != "linux"
    assert "diffill_model_loaded 1" in page
