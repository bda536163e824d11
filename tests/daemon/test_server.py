"""Who may connect, what a connection bears, and what is answered to whom."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request

import pytest
from serving import TOKEN, dial, run, serving
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from model_runtime.daemon.connection import Limits, Outbox
from model_runtime.daemon.listening import listen
from model_runtime.daemon.messages import (
    BUSY,
    CANCELLED,
    INVALID_PARAMS,
    INVALID_REQUEST,
    MODEL_ERROR,
    PARSE_ERROR,
    STOPPING,
    SUBPROTOCOL,
    TOO_LARGE,
)
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.daemon.server import Daemon

REQUEST = {"text": "x", "holes": [[0, 0]]}
HOLD = {"request": {"text": "hold", "holes": [[0, 0]], "frames": True}}


def text(number, method, params=None):
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}})


async def answer_to(client, number):
    """The answer with this id; what comes before it is dropped."""
    while (message := json.loads(await client.recv())).get("id", "no id") != number:
        pass
    return message


async def ask(client, number, method, params=None):
    await client.send(text(number, method, params))
    return await answer_to(client, number)


async def frame_of(client, number):
    """Wait for a frame of a request."""
    while (message := json.loads(await client.recv())).get("method") != "frame" or message["params"]["id"] != number:
        pass


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"token": None}, 401),
        ({"token": "wrong"}, 401),
        ({"token": TOKEN + "x"}, 401),
        ({"token": "é"}, 401),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://friend.example.evil.example"}, 403),
        ({"subprotocols": ()}, 400),
        ({"subprotocols": ("diffill.v0",)}, 400),
    ],
)
def test_who_may_not_connect_is_told_before_the_upgrade(options, status):
    async def scene():
        async with serving(origins=["http://friend.example"]) as (daemon, port):
            with pytest.raises(InvalidStatus) as caught:
                await dial(port, **options)
            assert caught.value.response.status_code == status
            assert caught.value.response.body
            assert daemon.status()["clients"] == 0

    run(scene())


def test_who_may_connect_gets_the_subprotocol():
    async def scene():
        options = {"origin": "http://friend.example", "subprotocols": ("other", SUBPROTOCOL)}
        async with serving(origins=["http://friend.example"]) as (_, port), dial(port, **options) as client:
            assert client.subprotocol == SUBPROTOCOL
            assert (await ask(client, 1, "status"))["result"]["clients"] == 1

    run(scene())


def get(port, path, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_probe_needs_no_token_and_tells_nothing():
    async def scene():
        async with serving() as (_, port):
            status, body = await asyncio.to_thread(get, port, "/health")
            assert (status, json.loads(body)) == (200, {"status": "ok"})
            assert (await asyncio.to_thread(get, port, "/health", Origin="http://evil.example"))[0] == 403
            assert (await asyncio.to_thread(get, port, "/other"))[0] == 404

    run(scene())


def test_bad_messages_are_answered_and_the_connection_is_kept():
    async def scene():
        async with serving(limits=Limits(message=1000, frame=5000)) as (_, port), dial(port) as client:
            for sent, code in (
                ("{", PARSE_ERROR),
                ("[]", INVALID_REQUEST),
                (b"\x00\x01", INVALID_REQUEST),
                ('{"jsonrpc": "1.0"}', INVALID_REQUEST),
                (" " * 1001, TOO_LARGE),
            ):
                await client.send(sent)
                answer = json.loads(await client.recv())
                assert (answer["id"], answer["error"]["code"]) == (None, code)
            assert (await ask(client, 1, "fill", {"request": {}}))["error"]["code"] == INVALID_PARAMS
            assert (await ask(client, 2, "fill", {"request": REQUEST}))["result"]["holes"][0]["text"] == "ok"
            assert (await ask(client, 3, "load", {"model": "nonesuch"}))["error"]["code"] == MODEL_ERROR
            loaded = (await ask(client, 4, "load"))["result"]
            assert loaded.pop("ms") >= 0
            assert loaded == {"instructions": True}
            assert (await ask(client, 5, "unload"))["result"] == {}

    run(scene())


@pytest.mark.parametrize("sent", [b"\x83\x00\x00\x00\x00\x00", b"\x81\xff" + b"\x00" * 3 + b"\x10" + b"\x00" * 8])
def test_broken_and_oversize_frames_close_their_connection_only(sent):
    async def scene():
        async with serving(limits=Limits(frame=5000)) as (_, port), dial(port) as other:
            async with dial(port) as client:
                client.transport.write(sent)  # a reserved opcode; a header that announces gigabytes
                with pytest.raises(ConnectionClosed) as caught:
                    await client.recv()
                assert caught.value.rcvd.code in (1002, 1009)
            assert (await ask(other, 1, "fill", {"request": REQUEST}))["result"]["end"] == "complete"

    run(scene())


def test_half_open_connections_are_closed():
    async def scene():
        async with serving(limits=Limits(first_request_s=0.01)) as (_, port):
            for said in (b"", b"GET / HTTP/1.1\r\nHost: "):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(said)
                assert await reader.read() == b""
                writer.close()
            async with dial(port) as client:  # one that spoke in time stays
                assert "result" in await ask(client, 1, "fill", {"request": REQUEST})

    run(scene())


def test_clients_beyond_the_limit_are_refused():
    async def scene():
        async with serving(limits=Limits(connections=1)) as (_, port), dial(port):
            with pytest.raises(InvalidHandshake) as caught:
                await dial(port)
            assert caught.value.response.status_code == 503

    run(scene())


def test_requests_beyond_the_limit_and_ids_in_use_are_refused():
    async def scene():
        async with serving(limits=Limits(pending=2)) as (_, port), dial(port) as client:
            for number in (1, 2):
                await client.send(text(number, "fill", HOLD))
            await client.send(text(2, "fill", HOLD))
            assert (await answer_to(client, 2))["error"]["code"] == INVALID_REQUEST
            assert (await ask(client, 3, "fill", HOLD))["error"]["code"] == BUSY
            assert (await ask(client, 4, "status"))["result"]["queue"]["running"] <= 1

    run(scene())


def test_a_cancelled_request_is_answered_once_and_frames_stop():
    async def scene():
        async with serving() as (_, port), dial(port) as client:
            await client.send(text("a", "fill", HOLD))
            await frame_of(client, "a")
            for _ in range(2):
                await client.send('{"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": "a"}}')
            assert (await answer_to(client, "a"))["error"]["code"] == CANCELLED
            await client.send(text("b", "fill", {"request": REQUEST}))
            rest = []
            while (message := json.loads(await client.recv())).get("id") != "b":
                rest.append(message)
            assert rest == []

    run(scene())


def test_status_is_answered_while_a_fill_runs():
    async def scene():
        async with serving() as (_, port), dial(port) as client:
            await client.send(text(1, "fill", HOLD))
            await frame_of(client, 1)
            for number in range(2, 50):
                assert (await ask(client, number, "status"))["result"]["queue"]["running"] == 1

    run(scene())


def test_a_client_that_dies_without_goodbye_takes_its_requests_along():
    async def scene():
        async with serving() as (daemon, port), dial(port) as other:
            client = await dial(port)
            await client.send(text(1, "fill", HOLD))
            await frame_of(client, 1)
            client.transport.abort()
            assert (await ask(other, 1, "fill", {"request": REQUEST}))["result"]["end"] == "complete"
            assert daemon.scheduler.answered["cancelled"] == 1
            assert daemon.status()["clients"] == 1

    run(scene())


def test_sessions_of_two_clients_are_two_sessions_even_by_one_name():
    async def scene():
        async with serving() as (_, port), dial(port) as one, dial(port) as two:
            await one.send(text(1, "fill", {**HOLD, "session": "file:///a.py"}))
            await frame_of(one, 1)
            await two.send(text(1, "fill", {"request": REQUEST, "session": "file:///a.py"}))
            await one.send(text(2, "fill", {"request": REQUEST, "session": "file:///a.py"}))
            assert (await answer_to(one, 1))["result"]["end"] == "superseded"
            assert (await answer_to(one, 2))["result"]["end"] == "complete"
            assert (await answer_to(two, 1))["result"]["end"] == "complete"

    run(scene())


def test_loading_is_told_to_every_client():
    async def scene():
        async with serving() as (_, port), dial(port) as one, dial(port) as two:
            await one.send(text(1, "load"))
            for client in (one, two):
                told = [json.loads(await client.recv()) for _ in range(2)]
                assert [message["method"] for message in told] == ["progress", "progress"]
                assert [message["params"]["state"] for message in told] == ["loading", "ready"]

    run(scene())


def test_the_daemon_leaves_some_time_after_the_last_client():
    async def scene():
        daemon, listener = Daemon(Scheduler(), TOKEN, idle_exit_s=0.05), listen()
        task = asyncio.create_task(daemon.serve(listener))
        async with dial(listener.getsockname()[1]) as client:
            assert (await ask(client, 1, "status"))["result"]["clients"] == 1
            assert not task.done()
        await task

    run(scene())


def test_stopping_answers_what_is_pending():
    async def scene():
        async with serving() as (_, port), dial(port) as client, dial(port) as other:
            await client.send(text(1, "fill", HOLD))
            await frame_of(client, 1)
            await other.send(text(1, "stop"))
            assert (await answer_to(client, 1))["error"]["code"] == STOPPING
            assert (await answer_to(other, 1))["result"] == {}
            with pytest.raises(ConnectionClosed):
                await answer_to(client, "no such id")

    run(scene())


def test_a_reader_who_never_reads_is_dropped_and_the_others_are_served():
    async def scene():
        async with serving(limits=Limits(unread=50)) as (daemon, port), dial(port) as other:
            slow = await dial(port, max_queue=1)
            left = asyncio.Event()
            slow.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)

            async def flood():
                try:
                    for _ in range(100_000):
                        await slow.send("{" * 900)
                except ConnectionClosed:
                    left.set()

            flooding = asyncio.create_task(flood())
            await left.wait()
            assert (await ask(other, 1, "fill", {"request": REQUEST}))["result"]["end"] == "complete"
            assert daemon.status()["clients"] == 1
            await flooding

    run(scene())


def test_a_reader_who_never_reads_is_cut_off_with_what_is_still_to_be_sent():
    async def scene():
        limits = Limits(unread=1024, close_s=0.01)
        async with serving(limits=limits, send_buffer=1) as (daemon, port), dial(port) as other:
            slow = await dial(port, max_queue=1)
            slow.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)

            async def flood():
                while True:
                    await slow.send("{" * 900)

            with pytest.raises(ConnectionClosed):
                await flood()
            assert (await ask(other, 1, "fill", {"request": REQUEST}))["result"]["end"] == "complete"
            assert daemon.status()["clients"] == 1

    run(scene())


def test_of_frames_only_the_newest_waits_and_none_comes_after_the_answer():
    async def scene():
        outbox = Outbox(10)
        for n in range(5):
            outbox.put_frame(1, f"frame {n}")
        outbox.put_frame(2, "other")
        assert [await outbox.get(), await outbox.get()] == ["frame 4", "other"]
        outbox.put_frame(1, "last")
        outbox.put_frame(2, "dropped")
        outbox.close_frames(1, send=True)
        outbox.close_frames(2, send=False)
        outbox.put("answer")
        assert [await outbox.get(), await outbox.get()] == ["last", "answer"]
        for n in range(11):
            outbox.put(str(n))
        assert outbox.overflown.is_set()

    run(scene())
