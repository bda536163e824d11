"""What a streamed answer says when, with a worker that says what the test wants."""

from __future__ import annotations

import asyncio
import json

import pytest
from puppet import PuppetWorker
from serving import TOKEN, run, serving

from model_runtime.protocol import Frame, FrameHole, to_json


class Reader:
    """A request whose answer is read event by event."""

    def __init__(self, port: int, path: str = "/infill", **body):
        self._port, self._path, self._body = port, path, json.dumps({"stream": True, **body}).encode()

    async def __aenter__(self) -> Reader:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {TOKEN}\r\nContent-Length: {len(self._body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + self._body)
        return self

    async def __aexit__(self, *_):
        self._writer.close()

    async def event(self):
        """The next event's data."""
        line = b""
        while not line.startswith(b"data: "):
            line = await self._reader.readline()
            assert line, "no further event"
        data = line.removeprefix(b"data: ").strip()
        return json.loads(data) if data != b"[DONE]" else "[DONE]"


class Puppet(PuppetWorker):
    """A worker that also says frames."""

    def frame(self, text: str, *settled: tuple[int, int]):
        job = [message["job"] for message in self.told if message["do"] == "fill"][-1]
        self.say({"job": job, "frame": to_json(Frame(1, 2, [FrameHole(text, list(settled))]))})

    async def has(self, **told):
        """Wait until it was told something."""
        while not any(told.items() <= message.items() for message in self.told):
            await asyncio.sleep(0)


async def begin(daemon) -> Puppet:
    """Load the puppet's model, and let it be known that its fills are single ones."""
    loading = daemon.scheduler.load()
    while not Puppet.made or not Puppet.made[-1].told:
        await asyncio.sleep(0)
    Puppet.made[-1].load()
    await loading
    daemon.scheduler.policy = "expand"
    return Puppet.made[-1]


def test_text_is_sent_as_soon_as_it_is_settled_from_the_left():
    async def scene():
        async with serving(Puppet) as (daemon, port):
            worker = await begin(daemon)
            async with Reader(port, input_prefix="x", stop=["end"]) as reader:
                await worker.has(do="fill")
                worker.frame("░b░", (1, 2))
                worker.frame("ab░", (0, 2))
                assert (await reader.event())["content"] == "ab"
                worker.frame("abc e░", (0, 5))
                assert (await reader.event())["content"] == "c "
                worker.frame("abc else", (0, 8))
                assert (await reader.event())["content"] == "els"
                worker.finish("abc else\nend")
                assert (await reader.event())["content"] == "e\n"
                last = await reader.event()
                assert (last["stop"], last["stop_type"]) == (True, "word")

    run(scene())


def test_what_was_sent_stays_even_if_the_result_is_another():
    async def scene():
        async with serving(Puppet) as (daemon, port):
            worker = await begin(daemon)
            async with Reader(port, "/v1/completions", prompt="x") as reader:
                await worker.has(do="fill")
                worker.frame("ab░", (0, 2))
                assert (await reader.event())["choices"][0]["text"] == "ab"
                worker.finish("other")
                assert (await reader.event())["choices"][0] == {
                    **{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}
                }
                assert await reader.event() == "[DONE]"

    run(scene())


@pytest.mark.parametrize("policy", [None, "probe:3 of 3,4,5"])
def test_a_model_that_makes_several_fills_sends_the_best_at_the_end(policy):
    async def scene():
        async with serving(Puppet) as (daemon, port):
            worker = await begin(daemon)
            daemon.scheduler.policy = policy
            async with Reader(port, "/v1/completions", prompt="x") as reader:
                await worker.has(do="fill")
                assert not worker.told[-1]["request"]["frames"]
                worker.finish("whole")
                assert (await reader.event())["choices"][0]["text"] == "whole"

    run(scene())


def test_an_error_after_the_first_event_is_an_event():
    async def scene():
        async with serving(Puppet) as (daemon, port):
            worker = await begin(daemon)
            async with Reader(port, input_prefix="x") as reader:
                await worker.has(do="fill")
                worker.frame("ab░", (0, 2))
                assert (await reader.event())["content"] == "ab"
                worker.say({"job": 1, "error": "model", "message": "the model is broken"})
                error = (await reader.event())["error"]
                assert (error["code"], error["message"]) == (500, "the model is broken")

    run(scene())


def test_who_hangs_up_in_the_middle_of_a_stream_stops_the_model():
    async def scene():
        async with serving(Puppet) as (daemon, port):
            worker = await begin(daemon)
            async with Reader(port, input_prefix="x") as reader:
                await worker.has(do="fill")
                worker.frame("ab░", (0, 2))
                await reader.event()
            await worker.has(do="cancel", job=1)

    run(scene())
