"""The daemon as a user has it: a process of its own, started by its first client, with the embedded model."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from serving import run
from websockets.asyncio.client import connect as open_websocket

from model_runtime.client import RpcError, connect
from model_runtime.daemon.discovery import LOG_FILE, read_runtime_file
from model_runtime.engine.engine import Engine
from model_runtime.protocol import FillRequest, ModelError, RequestError, RewriteRequest

SECRET = "zanzibar_quokka"
CODE = f"def area(width, height):\n    {SECRET} = 2\n    return \n\n\nprint(area(2, 3))\n"
AT = CODE.index("return ") + len("return ")
DOC = Path(__file__).parents[2] / "docs" / "protocol.md"


def request(**options) -> FillRequest:
    return FillRequest(**{"text": CODE, "holes": [(AT, AT)], "length": "fixed:6", **options})


def long_request(**options) -> FillRequest:
    """A fill of many steps."""
    return request(length="fixed:64", steps=64, sampler="entropy", frames=True, cache="off", **options)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """A runtime directory for all tests here: its daemon is started by the first and stopped after the last."""
    folder = tmp_path_factory.mktemp("runtime")
    folder.chmod(0o700)
    old = os.environ.pop("DIFFILL_TOKEN", None), os.environ.get("DIFFILL_RUNTIME_DIR")
    os.environ["DIFFILL_RUNTIME_DIR"] = str(folder)
    yield folder
    done = subprocess.run([sys.executable, "-m", "model_runtime", "serve", "--stop"], timeout=60)
    for name, value in zip(("DIFFILL_TOKEN", "DIFFILL_RUNTIME_DIR"), old, strict=True):
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    assert done.returncode == 0


def test_the_first_fill_starts_everything_and_equals_a_fill_without_a_daemon(daemon):
    async def scene():
        states, frames = [], []
        async with await connect(on_progress=lambda progress: states.append(progress.state)) as client:
            result = await client.fill(request(frames=True), on_frame=frames.append)
            again = await client.fill(request())
            rewritten = await client.rewrite(
                RewriteRequest(text=CODE, range=(AT - 7, AT), length="fixed:4", strength=1.0)
            )
        return states, frames, result, again, rewritten

    states, frames, result, again, rewritten = run(scene())
    alone = Engine.load("embedded").fill(request())
    assert (result.holes, result.end, result.model) == (alone.holes, alone.end, alone.model)
    assert states == ["loading", "ready"]
    assert frames
    assert [frame.step for frame in frames] == sorted(frame.step for frame in frames)
    assert (again.holes, again.timing_ms["total"]) == (result.holes, 0.0)
    assert rewritten.holes[0].start >= AT - 7


def test_what_is_typed_along_a_suggestion_is_answered_from_memory(daemon):
    async def scene():
        async with await connect() as client:
            whole = (await client.fill(request())).holes[0].text
            before = (await client.status())["answered"]
            for count in range(1, len(whole)):
                typed = CODE[:AT] + whole[:count] + CODE[AT:]
                rest = await client.fill(request(text=typed, holes=[(AT + count, AT + count)]))
                assert rest.holes[0].text == whole[count:]
            after = (await client.status())["answered"]
            return whole, before, after

    whole, before, after = run(scene())
    assert after["model"] == before["model"]
    assert after["cache"] == before["cache"] + len(whole) - 1


def test_a_newer_request_takes_the_model_from_an_older_one(daemon):
    async def scene():
        async with await connect() as client:
            seen = asyncio.Event()
            older = asyncio.create_task(client.fill(long_request(), lambda frame: seen.set(), session="a.py"))
            await seen.wait()
            newer = await client.fill(request(seed=7), session="a.py")
            assert (await older).end == "superseded"
            assert [hole.text for hole in older.result().holes] == [""]
            assert newer.end in ("complete", "max_tokens")

    run(scene())


def test_cancelling_the_task_cancels_the_fill(daemon):
    async def scene():
        async with await connect() as client:
            seen = asyncio.Event()
            task = asyncio.create_task(client.fill(long_request(), lambda frame: seen.set()))
            await seen.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while (status := await client.status())["queue"]["running"]:
                pass
            assert status["last"]["end"] == "cancelled"
            assert status["last"]["steps"] < 64

    run(scene())


def test_a_deadline_answers_with_what_there_is(daemon):
    async def scene():
        async with await connect() as client:
            return await client.fill(long_request(deadline_ms=1.0))

    result = run(scene())
    assert result.end == "deadline"
    assert result.steps < 64


def test_refusals_are_our_errors(daemon):
    async def scene():
        async with await connect() as client:
            with pytest.raises(RequestError, match="lies outside"):
                await client.fill(request(holes=[(999, 999)]))
            with pytest.raises(RequestError, match="has no field 'colour'"):
                await client._ask("fill", {"request": {**vars(request()), "colour": "red"}})
            with pytest.raises(ModelError, match="nonesuch"):
                await client.fill(request(), model="nonesuch")
            with pytest.raises(RpcError, match="there is no method"):
                await client._ask("fly", {})
            assert (await client.fill(request())).holes

    run(scene())


def test_two_language_servers_at_once_each_get_their_own(daemon):
    program = (
        "import asyncio, sys\n"
        "from model_runtime.client import connect\n"
        "from model_runtime.protocol import FillRequest\n"
        "async def main(name):\n"
        "    async with await connect() as client:\n"
        "        for n in range(3):\n"
        "            text = f'{name}_{n} = '\n"
        "            request = FillRequest(text=text, holes=[(len(text), len(text))], length='fixed:2')\n"
        "            result = await client.fill(request, session='same')\n"
        "            print(result.end, result.holes[0].start == len(text))\n"
        "asyncio.run(main(sys.argv[1]))\n"
    )
    servers = [
        subprocess.Popen([sys.executable, "-c", program, name], stdout=subprocess.PIPE, text=True)
        for name in ("one", "second")
    ]
    for server in servers:
        out, _ = server.communicate(timeout=60)
        assert server.returncode == 0
        assert re.fullmatch(r"((complete|max_tokens|empty) True\n){3}", out)


def test_a_killed_worker_and_a_killed_daemon_cost_one_request_at_most(daemon):
    async def scene():
        async with await connect() as client:
            await client.load()
            status, seen = await client.status(), asyncio.Event()
            task = asyncio.create_task(client.fill(long_request(), lambda frame: seen.set()))
            await seen.wait()
            os.kill(status["worker"]["pid"], signal.SIGKILL)
            with pytest.raises(RpcError, match="the model process died"):
                await task
            assert (await client.fill(request(seed=11))).holes
            seen.clear()
            task = asyncio.create_task(client.fill(long_request(), lambda frame: seen.set()))
            await seen.wait()
            os.kill(status["pid"], signal.SIGKILL)
            result = await task  # sent again, to the daemon that the client started
            assert result.end in ("complete", "max_tokens")
            again = await client.status()
            assert again["pid"] != status["pid"]
            assert again["worker"]["pid"] not in (None, status["worker"]["pid"])

    run(scene(), 120)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits another process's memory")
def test_a_worker_without_memory_says_so_and_is_replaced(daemon):
    import resource

    async def scene():
        async with await connect() as client:
            await client.unload()  # one that filled before has memory to spare
            await client.load()
            pid = (await client.status())["worker"]["pid"]
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            limit = (pages * resource.getpagesize() + 2**20, resource.getrlimit(resource.RLIMIT_AS)[1])
            resource.prlimit(pid, resource.RLIMIT_AS, limit)
            text = "".join(f"value_{n} = {n}\n" for n in range(2000))
            hole = [(len(text), len(text))]

            async def ask_for_more_and_more():
                for tokens in (
                    64,
                    256,
                    512,
                ):  # in one piece: context that is kept is encoded in chunks, which need little
                    options = {"length": f"fixed:{tokens}", "max_tokens": tokens, "steps": 1, "sampler": "entropy"}
                    await client.fill(FillRequest(text=text, holes=hole, cache="off", **options))

            with pytest.raises(RpcError, match=r"the model process died \(out of memory\)"):
                await ask_for_more_and_more()
            assert (await client.fill(request(seed=13))).holes

    run(scene())


def test_unloading_gives_the_memory_back(daemon):
    async def scene():
        async with await connect() as client:
            await client.load()
            pid = (await client.status())["worker"]["pid"]
            os.kill(pid, 0)
            await client.unload()
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            assert (await client.status())["model"]["state"] == "unloaded"
            assert (await client.fill(request(seed=12))).holes

    run(scene())


def conversation() -> list[tuple[str, dict]]:
    """The example of docs/protocol.md: (">", what a client says) and ("<", what the daemon answers)."""
    lines = re.search(r"```text\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)[1].splitlines()
    assert all(line[:2] in ("> ", "< ") for line in lines)
    return [(line[0], json.loads(line[2:])) for line in lines]


def shape(value):
    """Names and types of a JSON value: numbers are numbers, and a list of objects is as its first."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value and isinstance(value[0], dict) else "list"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def test_the_documented_conversation_is_what_is_said(daemon):
    async def scene():
        async with await connect() as client:
            await client.load()
            await client.unload()
        found = read_runtime_file(daemon)
        socket = await open_websocket(
            f"ws://{found.host}:{found.port}/",
            additional_headers={"Authorization": f"Bearer {found.token}"},
            subprotocols=["diffill.v1"],
            proxy=None,
        )
        async with socket:
            framed = False
            for way, said in conversation():
                if way == ">":
                    await socket.send(json.dumps(said))
                    continue
                heard = json.loads(await socket.recv())
                while framed and heard.get("method") == "frame":  # the page shows the first of a fill
                    heard = json.loads(await socket.recv())
                framed = heard.get("method") == "frame"
                if "error" in said:
                    assert heard == said
                elif "id" in said and said["result"].get("pid"):
                    assert heard["result"].keys() == said["result"].keys()
                else:
                    assert shape(heard) == shape(said)
                    assert (heard.get("id"), heard.get("method")) == (said.get("id"), said.get("method"))

    run(scene())


def test_the_log_tells_what_happened_and_no_text(daemon):
    done = subprocess.run(
        [sys.executable, "-m", "model_runtime", "serve", "--log"], capture_output=True, text=True, timeout=60
    )
    assert "model loaded in" in done.stdout
    assert "after" in done.stdout
    for path in daemon.iterdir():
        assert SECRET.encode() not in path.read_bytes(), path.name
    assert (daemon / LOG_FILE).stat().st_mode & 0o077 == 0
