"""The endpoints of llama.cpp and OpenAI, with a model that needs no weights: shapes, access, hanging up, bad input."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tracemalloc

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import TOKEN, dial, run, serving, until

from model_runtime.daemon.connection import Limits
from model_runtime.daemon.listening import listen
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.daemon.server import Daemon

BEARER = {"Authorization": f"Bearer {TOKEN}"}
HOLD = {"input_prefix": "hold"}
POSTS = ("/infill", "/completion", "/v1/completions")


@contextlib.asynccontextmanager
async def asking(**options):
    """A daemon, and an HTTP client that has its token."""
    async with (
        serving(**options) as (daemon, port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=BEARER, timeout=30, trust_env=False) as client,
    ):
        yield daemon, client


def events(answer: httpx.Response) -> list:
    """The data of server-sent events."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    parts = answer.text.split("\n\n")
    assert parts.pop() == ""
    return [part.removeprefix("data: ") for part in parts]


def test_infill_answers_as_llama_cpp_does():
    async def scene():
        async with asking() as (_, client):
            body = {"input_prefix": "a = ", "input_suffix": "\n", "n_predict": 8}
            one = (await client.post("/infill", json=body)).json()
            assert (one["content"], one["stop"], one["stop_type"], one["tokens_predicted"]) == ("ok", True, "eos", 2)
            assert one["timings"]["predicted_n"] == 2
            assert (one["tokens_evaluated"], one["timings"]["prompt_n"], one["tokens_cached"]) == (5, 5, 0)
            kept = (await client.post("/infill", json=body)).json()
            assert (kept["tokens_evaluated"], kept["timings"]["prompt_n"], kept["tokens_cached"]) == (5, 0, 5)
            assert isinstance(one["timings"]["predicted_per_second"], float)
            many = (await client.post("/infill", json={**body, "n_cmpl": 2})).json()
            assert [(part["index"], part["content"]) for part in many] == [(0, "ok")]  # this model has but one
            cut = (await client.post("/infill", json={**body, "stop": ["k"]})).json()
            assert (cut["content"], cut["stop_type"], cut["stopping_word"]) == ("o", "word", "k")
            chosen = (await client.post("/infill", json={**body, "response_fields": ["content"]})).json()
            assert chosen == {"content": "ok"}

    run(scene())


def test_an_infill_of_no_tokens_loads_the_model_and_answers_at_once():
    async def scene():
        async with asking() as (daemon, client):
            body = {"input_extra": [], "prompt": "", "n_predict": 0, "t_max_predict_ms": 1, "response_fields": [""]}
            assert (await client.post("/infill", json=body)).json() == {}
            await until(lambda: daemon.status()["model"]["state"] == "ready")
            assert daemon.status()["answered"] == dict.fromkeys(daemon.status()["answered"], 0)

    run(scene())


@pytest.mark.parametrize(("path", "field"), [("/infill", "input_prefix"), ("/completion", "prompt")])
def test_llama_streams_end_with_the_figures(path, field):
    async def scene():
        async with asking() as (_, client):
            first = events(await client.post(path, json={field: "a", "stream": True}))
            again = events(await client.post(path, json={field: "b", "stream": True}))
            for told in (first, again):
                *pieces, last = map(json.loads, told)
                assert "".join(piece["content"] for piece in pieces) == "ok"
                assert not any(piece["stop"] for piece in pieces)
                assert (last["content"], last["stop"], last["tokens_predicted"]) == ("", True, 2)

    run(scene())


def test_completions_answer_as_openai_does():
    async def scene():
        async with asking() as (_, client):
            body = {"model": "whatever", "prompt": ["a", "b"], "suffix": "c", "max_tokens": 8}
            whole = (await client.post("/v1/completions", json=body)).json()
            assert (whole["object"], whole["model"]) == ("text_completion", "fake")
            assert [(one["index"], one["text"], one["finish_reason"]) for one in whole["choices"]] == [
                (0, "ok", "stop"),
                (1, "ok", "stop"),
            ]
            assert whole["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}
            streaming = {"prompt": "a", "stream": True, "stop": "k", "stream_options": {"include_usage": True}}
            *told, last = events(await client.post("/v1/completions", json=streaming))
            assert last == "[DONE]"
            *pieces, usage = map(json.loads, told)
            assert "".join(one["choices"][0]["text"] for one in pieces) == "o"
            assert [one["choices"][0]["finish_reason"] for one in pieces] == [None] * (len(pieces) - 1) + ["stop"]
            assert usage["choices"] == []
            assert usage["usage"] == {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            assert (await client.get("/v1/models")).json()["data"][0]["id"] == "embedded"
            assert (await client.get("/props")).json()["model_path"] == "embedded"

    run(scene())


def test_two_texts_of_a_stream_come_whole():
    async def scene():
        async with asking() as (_, client):
            *told, last = events(await client.post("/v1/completions", json={"prompt": ["a", "b"], "stream": True}))
            assert [json.loads(one)["choices"][0]["index"] for one in told] == [0, 1]
            assert last == "[DONE]"

    run(scene())


@pytest.mark.parametrize("path", [*POSTS, "/v1/models", "/props", "/metrics"])
def test_who_may_not_ask_is_told(path):
    async def scene():
        async with asking(origins=["http://friend.example"]) as (_, client):
            method = "POST" if path in POSTS else "GET"

            async def status(**headers):
                request = client.build_request(method, path, json={})
                del request.headers["Authorization"]
                request.headers.update(headers)
                answer = await client.send(request)
                assert answer.status_code == 200 or answer.json()["error"]["message"]
                return answer.status_code

            for good in ({"X-Api-Key": TOKEN}, {"Api-Key": TOKEN}, {"Authorization": f"bearer  {TOKEN}"}):
                assert await status(**good) == 200
            for bad in ({}, {"X-Api-Key": "wrong"}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
                assert await status(**bad) == 401
            assert await status(**BEARER, Origin="http://evil.example") == 403
            assert await status(**BEARER, Origin="http://friend.example") == 200

    run(scene())


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("path", POSTS)
def test_who_hangs_up_stops_the_model_within_a_step(path, streaming):
    async def scene():
        async with asking() as (daemon, client):
            await client.post("/infill", json={"input_prefix": "a"})
            body = json.dumps({"prompt": "hold", "stream": streaming}).encode()
            _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await until(lambda: daemon.status()["queue"]["running"])
            writer.close()
            await until(lambda: daemon.status()["answered"]["cancelled"])
            await until(lambda: not daemon.status()["queue"]["running"])
            last = daemon.status()["last"]
            assert (last["end"], last["steps"] <= 1) == ("cancelled", True)
            assert (await client.post("/infill", json={"input_prefix": "b"})).json()["content"] == "ok"
            page = (await client.get("/metrics")).text
            assert f'diffill_http_responses_total{{path="{path}",status="499"}} 1' in page

    run(scene())


def test_a_deadline_is_kept_whatever_the_model_does():
    async def scene():
        async with asking() as (_, client):
            late = asyncio.create_task(client.post("/infill", json=HOLD))
            answer = (await client.post("/infill", json={"input_prefix": "a", "t_max_predict_ms": 30})).json()
            assert (answer["content"], answer["stop_type"]) == ("", "limit")
            late.cancel()

    run(scene())


@pytest.mark.parametrize(
    ("sent", "status", "sentence"),
    [
        (b"", 400, "the body is not JSON"),
        (b"\xff\xfe", 400, "the body is not UTF-8"),
        (b'{"prompt": "\xc3"}', 400, "the body is not UTF-8"),
        (b"[" * 10_000, 400, "the body is not JSON"),
        (b"[" + b"[]," * 20_000 + b"0]", 413, "a body may not have more than 20000 values"),
        (b'{"a":' * 10_000, 400, "the body is not JSON"),
        (b'{"seed": ' + b"9" * 5000 + b"}", 400, "the body is not JSON"),
        (b'{"temperature": NaN}', 400, "the body is not JSON"),
        (b'{"temperature": 1e999}', 400, "temperature is too large a number"),
        (b'{"prompt": "\\ud800"}', 400, "prompt holds half a surrogate pair, which is no character"),
        (b"null", 400, "the body must be an object, not null"),
        (b'{"prompt": 1}', 400, "prompt must be a text, not a whole number"),
        (b" " * 70_000, 413, "a body has at most 65536 bytes"),
    ],
    ids=range(13),
)
@pytest.mark.parametrize("path", POSTS)
def test_bad_bodies_get_a_sentence(path, sent, status, sentence):
    async def scene():
        async with asking(limits=Limits(body=65536)) as (_, client):
            if len(sent) > 65536:
                status_wanted, sentence_wanted = 413, "a body has at most 65536 bytes"
            else:
                status_wanted, sentence_wanted = status, sentence
            answer = await client.post(path, content=sent)
            assert (answer.status_code, answer.json()["error"]["message"]) == (status_wanted, sentence_wanted)
            assert (await client.get("/health")).status_code == 200

    run(scene())


@pytest.mark.parametrize("told_before", [True, False], ids=["length", "chunks"])
def test_fifty_megabytes_are_refused_and_not_kept(told_before):
    async def scene():
        async with asking() as (daemon, client):
            megabyte = b" " * (1 << 20)

            async def body():
                for _ in range(50):
                    yield megabyte

            tracemalloc.start()
            headers = {"Content-Length": str(50 << 20)} if told_before else {}
            answer = await client.post("/infill", content=body(), headers=headers)
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert most < 16 << 20
            assert answer.status_code == 413
            assert "at most" in answer.json()["error"]["message"]
            assert (await client.post("/infill", json={"input_prefix": "a"})).json()["content"] == "ok"
            assert daemon.status()["queue"] == {"waiting": 0, "running": 0}

    run(scene())


async def exchange(port: int, sent: bytes) -> bytes:
    """Send some bytes and read until the daemon closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        writer.write(sent)
        await writer.drain()
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def post(length: int, body: bytes = b"") -> bytes:
    """A request's head that promises a body of some length, and what comes of it."""
    head = f"POST /infill HTTP/1.1\r\nHost: x\r\nX-Api-Key: {TOKEN}\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + body


def test_slow_bodies_are_given_up():
    async def scene():
        async with asking(limits=Limits(body_s=0.02)) as (_, client):
            answer = await exchange(client.base_url.port, post(100, b"{"))
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"the body did not come within 0.02 s" in answer
            assert (await client.get("/v1/models")).status_code == 200

    run(scene())


@pytest.mark.parametrize("rest", [b"POST /infill HTTP/1.1\r\nX: ", b"2"], ids=["head", "body"])
def test_what_goes_on_slowly_after_an_answer_is_given_up(rest):
    async def scene():
        async with asking(limits=Limits(first_request_s=0.02, dropped_s=0.02)) as (_, client):
            reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            body = b"Content-Length: 9\r\n\r\n1" if rest == b"2" else b"\r\n"
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n" + body)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
            writer.write(rest)
            assert await reader.read() == b""
            writer.close()

    run(scene())


def test_floods_of_headers_are_refused():
    async def scene():
        async with asking() as (_, client):
            head = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n"
            flood = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 100) for n in range(10_000))
            answer = await exchange(client.base_url.port, head + flood + b"\r\n")
            assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
            assert (await client.get("/v1/models")).status_code == 200

    run(scene())


def test_a_reader_who_never_reads_is_cut_off():
    async def scene():
        limits = Limits(unread_s=0.02)
        async with asking(limits=limits, send_buffer=1) as (_, client):
            _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port, limit=1)
            get = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"

            async def flood():
                while True:
                    writer.write(get * 100)
                    await writer.drain()

            with pytest.raises(ConnectionError):
                await flood()
            assert (await client.get("/health")).status_code == 200

    run(scene())


def test_more_requests_than_can_be_borne_are_sent_away():
    async def scene():
        async with asking(limits=Limits(requests=2)) as (daemon, client):
            held = [asyncio.create_task(client.post("/infill", json=HOLD)) for _ in range(2)]
            await until(lambda: sum(daemon.status()["queue"].values()) == 2)
            refused = await client.get("/v1/models")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            for task in held:
                task.cancel()
            await until(lambda: daemon.status()["answered"]["cancelled"] == 2)
            assert (await client.get("/v1/models")).status_code == 200

    run(scene())


@pytest.mark.parametrize(
    ("text", "status", "type_"), [("bug", 500, "server_error"), ("memory", 503, "unavailable_error")]
)
@pytest.mark.parametrize("streaming", [False, True])
def test_what_goes_wrong_in_the_model_has_a_status_and_no_text(text, status, type_, streaming):
    async def scene():
        async with asking() as (_, client):
            answer = await client.post("/infill", json={"input_prefix": f"{text} zanzibar", "stream": streaming})
            assert (answer.status_code, answer.json()["error"]["type"]) == (status, type_)
            assert "zanzibar" not in answer.text
            assert (await client.post("/infill", json={"input_prefix": "a"})).json()["content"] == "ok"

    run(scene())


def test_paths_and_methods_that_there_are_not():
    async def scene():
        async with asking() as (_, client):
            for method, path, status in (
                ("GET", "/v1/chat/completions", 404),
                ("GET", "/infill", 405),
                ("DELETE", "/v1/models", 405),
            ):
                answer = await client.request(method, path)
                assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)

    run(scene())


def test_metrics_are_what_prometheus_reads():
    async def scene():
        async with asking() as (_, client), dial(client.base_url.port):
            for _ in range(2):
                await client.post("/infill", json={"input_prefix": "a"})
            await client.post("/infill", json={"prompt": 1})
            answer = await client.get("/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            found = {
                (sample.name, *sorted(sample.labels.values())): sample.value
                for family in text_string_to_metric_families(answer.text)
                for sample in family.samples
            }
            for family in text_string_to_metric_families(answer.text):
                assert family.documentation
                assert family.type != "unknown"
            assert found["diffill_fills_total", "model"] == found["diffill_fills_total", "cache"] == 1
            assert found["diffill_fill_seconds_count",] == found["diffill_fill_seconds_bucket", "+Inf"] == 2
            assert (found["diffill_steps_total",], found["diffill_tokens_total",]) == (2, 2)
            assert (found["diffill_clients",], found["diffill_model_loaded",]) == (1, 1)
            assert found["diffill_kept_answers_total", "hits"] == 1
            assert found["diffill_http_responses_total", "/infill", "200"] == 2
            assert found["diffill_http_responses_total", "/infill", "400"] == 1
            assert found["diffill_resident_memory_bytes", "daemon"] > 1e6

    run(scene())


def test_http_clients_keep_the_daemon_from_leaving():
    async def scene():
        daemon, listener = Daemon(Scheduler(), TOKEN, idle_exit_s=0.05), listen()
        task = asyncio.create_task(daemon.serve(listener))
        with daemon.visit(), daemon.visit():
            assert daemon._leaving is None
        assert daemon._leaving is not None
        await task

    run(scene())
