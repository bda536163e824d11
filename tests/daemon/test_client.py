"""The client against servers that are no daemon: it says so in a sentence, and waits for nothing that cannot come."""

from __future__ import annotations

import json

import pytest
from serving import TOKEN, run
from websockets.asyncio.server import serve

from model_runtime.client import RuntimeDown, connect
from model_runtime.daemon.messages import SUBPROTOCOL
from model_runtime.protocol import FillRequest, RequestError
from model_runtime.remote import remote_of


@pytest.mark.parametrize(
    "said",
    [
        "no JSON",
        "[" * 5000,
        "[]",
        "3",
        "null",
        '"x"',
        "{}",
        '{"id": NUMBER}',
        '{"id": []}',
        '{"id": NUMBER, "error": "x"}',
        '{"id": NUMBER, "error": {"code": 1}}',
        '{"method": "frame"}',
        '{"method": "progress", "params": []}',
    ],
)
def test_what_is_not_our_protocol_ends_the_wait(said):
    async def scene():
        async def answer(socket):
            async for asked in socket:
                await socket.send(said.replace("NUMBER", str(json.loads(asked)["id"])))

        async with serve(answer, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as server:
            address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with await connect(server=remote_of(address, TOKEN), on_progress=lambda told: None) as client:
                with pytest.raises(RuntimeDown, match="does not speak our protocol"):
                    await client.fill(FillRequest(text="x", holes=[(1, 1)]))

    run(scene(), 20.0)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "team..example", "team\udc80.example"])
def test_a_host_that_can_have_no_address_is_one_sentence(host):
    with pytest.raises(RequestError, match="names a host"):
        remote_of(f"wss://{host}", TOKEN)
