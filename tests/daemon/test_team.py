"""A server that several people share: whose turn it is, who asks too much, what is written down, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat

import httpx
import openai
import pytest
from serving import TOKEN, dial, run, serving, until
from websockets.exceptions import ConnectionClosed, InvalidStatus

from model_runtime.client import RpcError, RuntimeDown, connect
from model_runtime.daemon import accounts
from model_runtime.daemon.accounts import Accounts
from model_runtime.daemon.audit import Audit
from model_runtime.daemon.connection import Limits
from model_runtime.daemon.messages import FORBIDDEN, LIMITED, STOPPING
from model_runtime.daemon.server import Sharing
from model_runtime.protocol import FillRequest, RequestError
from model_runtime.remote import remote_of

SECRET = "zanzibar_quokka"
HOLD = FillRequest(text="hold", holes=[(0, 0)], frames=True)
PLAIN = FillRequest(text=f"{SECRET} = ", holes=[(18, 18)], cache="off")


class Team:
    """A file of tokens, and an audit log."""

    def __init__(self, folder):
        self.file, self.log = folder / "tokens.json", folder / "audit.jsonl"

    def token(self, name, **limits):
        return accounts.create(self.file, name, **limits)

    def sharing(self, **options):
        return Sharing(Accounts(self.file), Audit(self.log), **options)

    def lines(self, event=None):
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in found if event in (None, line["event"])]


@pytest.fixture
def team(tmp_path):
    return Team(tmp_path)


def server(port, token):
    return remote_of(f"ws://127.0.0.1:{port}", token)


@contextlib.asynccontextmanager
async def http(port, token):
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client:
        yield client


async def holding(client):
    """A fill that goes on until it is cancelled, and runs by now."""
    running = asyncio.Event()
    fill = asyncio.create_task(client.fill(HOLD, lambda frame: running.set()))
    await running.wait()
    return fill


def test_a_named_token_fills_and_may_not_end_the_server_or_choose_its_model(team, tmp_path):
    ann = team.token("ann")

    async def scene():
        async with serving(sharing=team.sharing()) as (_, port), await connect(server=server(port, ann)) as client:
            assert (await client.fill(PLAIN)).holes[0].text == "ok"
            for forbidden in (client.stop, client.unload):
                with pytest.raises(RpcError, match="a named token cannot") as caught:
                    await forbidden()
                assert caught.value.code == FORBIDDEN
            for ask in (lambda: client.fill(PLAIN, model=str(tmp_path)), lambda: client.load("nonesuch")):
                with pytest.raises(RequestError, match="this server has one model for all"):
                    await ask()
            assert (await client.fill(PLAIN, model="embedded")).holes[0].text == "ok"
            status = await client.status()
            assert (status["pid"], status["worker"]["pid"], status["clients"]) == (None, None, 1)
            async with http(port, ann) as web:
                assert (await web.post("/infill", json={"input_prefix": "x = "})).json()["content"] == "ok"
                assert (await web.get("/metrics")).status_code == 200

    run(scene())


def test_too_many_a_minute_get_429_and_the_seconds_to_wait(team):
    ann, bob = team.token("ann", per_minute=12), team.token("bob")  # two at once, then one in five seconds

    async def scene():
        async with serving(sharing=team.sharing()) as (daemon, port), http(port, ann) as web:
            now = [daemon._door.clock()]
            daemon._door.clock = lambda: now[0]
            body = {"input_prefix": "x = ", "cache_prompt": False}
            for status in (200, 200, 429):
                answer = await web.post("/infill", json=body)
                assert answer.status_code == status
            assert answer.json()["error"]["message"] == "this token has at most 12 requests a minute"
            assert (answer.json()["error"]["type"], answer.headers["Retry-After"]) == ("rate_limit_error", "5")
            async with await connect(server=server(port, ann)) as client:
                with pytest.raises(RpcError, match="at most 12 requests a minute") as caught:
                    await client.fill(PLAIN)
                assert caught.value.code == LIMITED
                assert caught.value.retry_after_s == pytest.approx(5, abs=0.01)
                now[0] += 5.001
                await client.fill(PLAIN)
            async with http(port, bob) as other, http(port, TOKEN) as owner:
                assert (await other.post("/infill", json=body)).status_code == 200
                assert [(await owner.post("/infill", json=body)).status_code for _ in range(5)] == [200] * 5

    run(scene())


def test_the_openai_package_is_told_when_to_come_again(team):
    ann = team.token("ann", per_minute=1)

    async def scene():
        async with (
            serving(sharing=team.sharing()) as (_, port),
            openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=ann, max_retries=0) as client,
        ):
            whole = await client.completions.create(model="any", prompt="abc", suffix="d", extra_body={"seed": 1})
            assert (whole.choices[0].text, whole.usage.prompt_tokens) == ("ok", 4)
            with pytest.raises(openai.RateLimitError, match="at most 1 requests a minute") as caught:
                await client.completions.create(model="any", prompt="abc")
            assert 55 < float(caught.value.response.headers["Retry-After"]) <= 60

    run(scene())


def test_too_many_at_once_are_refused_but_what_supersedes_is_not(team):
    ann = team.token("ann", at_once=1)

    async def scene():
        async with serving(sharing=team.sharing()) as (_, port), await connect(server=server(port, ann)) as client:
            fill = await holding(client)
            with pytest.raises(RpcError, match="at most 1 requests at a time"):
                await client.fill(PLAIN)
            async with http(port, ann) as web:
                answer = await web.post("/v1/completions", json={"prompt": "x"})
                assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
            fill.cancel()
            await asyncio.gather(fill, return_exceptions=True)
            for _ in range(3):
                older = asyncio.create_task(client.fill(HOLD, session="a.py"))
                await asyncio.sleep(0)
            assert (await client.fill(PLAIN, session="a.py")).holes[0].text == "ok"
            assert (await older).end == "superseded"

    run(scene())


def test_tokens_take_turns_however_many_windows_one_has(team):
    ann, bob = team.token("ann"), team.token("bob")

    async def scene():
        async with serving(sharing=team.sharing()) as (daemon, port), contextlib.AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(await connect(server=server(port, token))) for token in (ann, ann, bob)
            ]
            fill = await holding(connections[0])

            waiting = [asyncio.create_task(client.fill(PLAIN)) for client in (*connections[:2], connections[0])]
            await until(lambda: daemon.status()["queue"]["waiting"] == 3)
            waiting.append(asyncio.create_task(connections[2].fill(PLAIN)))
            await until(lambda: daemon.status()["queue"]["waiting"] == 4)
            fill.cancel()
            await asyncio.gather(*waiting)
            order = [line["token"] for line in team.lines("fill") if line["end"] == "complete"]
            assert order == ["ann", "bob", "ann", "ann"]

    run(scene())


def test_a_revoked_token_ends_its_connections_at_the_next_word(team):
    ann = team.token("ann")

    async def scene():
        async with serving(sharing=team.sharing()) as (daemon, port), http(port, ann) as web:
            async with dial(port, ann) as raw:
                accounts.revoke(team.file, "ann")
                await raw.send("{}")
                with pytest.raises(ConnectionClosed) as caught:
                    await raw.recv()
                assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "the token was revoked")
            assert (await web.get("/v1/models")).status_code == 401
            with pytest.raises(RuntimeDown, match="the token is missing or wrong"):
                await connect(server=server(port, ann))
            await until(lambda: daemon.status()["clients"] == 0)

    run(scene())


def test_one_token_cannot_take_all_connections(team):
    ann, bob = team.token("ann"), team.token("bob")

    async def scene():
        limits = Limits(connections_each=2)
        async with serving(sharing=team.sharing(), limits=limits) as (_, port), dial(port, ann), dial(port, ann):
            with pytest.raises(InvalidStatus) as caught:
                await dial(port, ann)
            assert (caught.value.response.status_code, caught.value.response.headers["Retry-After"]) == (429, "1")
            async with dial(port, bob), dial(port, TOKEN), dial(port, TOKEN), dial(port, TOKEN):
                pass

    run(scene())


def test_the_audit_log_says_who_and_how_much_and_no_text(team):
    ann = team.token("ann", at_once=2)

    async def scene():
        async with serving(sharing=team.sharing(behind_proxy=True)) as (_, port):
            headers = {"X-Forwarded-For": "10.9.9.9, 203.0.113.7"}  # the first is what the client wrote
            async with http(port, ann) as web:
                await web.post("/infill", json={"input_prefix": PLAIN.text}, headers=headers)
                await web.post("/infill", json={"input_prefix": SECRET, "seed": SECRET})  # refused before it is a fill
            async with await connect(server=server(port, ann)) as client:
                fill = await holding(client)
                fill.cancel()
                await asyncio.gather(fill, return_exceptions=True)
                with pytest.raises(RpcError):
                    await client.fill(FillRequest(text="bug " + SECRET, holes=[(0, 0)]))
            async with http(port, "wrong-" + SECRET) as web:
                assert (await web.get("/props")).status_code == 401

    run(scene())
    text = team.log.read_text()
    assert SECRET not in text
    assert ann not in text
    assert stat.S_IMODE(team.log.stat().st_mode) == 0o600
    filled, cancelled, failed = team.lines("fill")
    assert filled == {
        **{"event": "fill", "token": "ann", "address": "203.0.113.7", "via": "/infill", "characters": 18, "holes": 1},
        **{"end": "complete", "steps": 2, "tokens": 2, "prompt_tokens": 18, "ms": filled["ms"], "time": filled["time"]},
    }
    assert (cancelled["end"], cancelled["via"]) == ("cancelled", "websocket")
    assert (failed["end"], failed["error"]) == ("error", "RpcError")
    assert (
        [line["token"] for line in team.lines("connect")]
        == ["ann"]
        == [line["token"] for line in team.lines("disconnect")]
    )
    assert [(line["via"], line["why"]) for line in team.lines("refused")] == [("/props", "unknown token")]


def test_strangers_cannot_fill_the_audit_log(team):
    async def scene():
        async with serving(sharing=team.sharing()) as (daemon, port), http(port, "wrong") as web:
            now = [daemon._door.clock()]
            daemon._door.clock = lambda: now[0]
            for _ in range(15):
                await web.get("/props")
            now[0] += 1.01
            await web.get("/props")

    run(scene())
    lines = team.lines("refused")
    assert len(lines) == 11  # a sixth of a minute's, then one more
    assert [line.get("untold") for line in lines] == [None] * 10 + [5]


def test_the_audit_log_turns_over_and_trouble_with_it_ends_nothing(tmp_path, monkeypatch, caplog):
    path = tmp_path / "audit.jsonl"
    log = Audit(path, file_bytes=500, files_kept=2)
    for number in range(100):
        log.note("fill", number=number)
    kept = sorted(tmp_path.iterdir())
    assert [one.name for one in kept] == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o600 and one.stat().st_size <= 500 for one in kept)
    assert json.loads(path.read_text().splitlines()[-1])["number"] == 99

    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return lambda *_: 0

    monkeypatch.setattr(log._lines, "stream", Full())
    log.note("fill", number=100)
    log.note("fill", number=101)
    assert caplog.text.count("the audit log cannot be written") == 1
    with pytest.raises(RequestError, match="cannot write the audit log"):
        Audit(tmp_path / "nowhere" / "audit.jsonl")


def test_an_end_lets_running_fills_end_and_nothing_new_begin(team):
    async def scene():
        async with (
            serving(grace_s=60) as (daemon, port),
            await connect(server=server(port, TOKEN)) as client,
            http(port, TOKEN) as web,
        ):
            fill = await holding(client)
            waits = asyncio.create_task(client.fill(PLAIN))
            await until(lambda: daemon.status()["queue"]["waiting"] == 1)
            stopping = asyncio.create_task(daemon.stop())
            await until(lambda: daemon._door.closing)
            with pytest.raises(RpcError, match="stopping") as caught:
                await client.fill(PLAIN)
            assert caught.value.code == STOPPING
            answer = await web.post("/infill", json={"input_prefix": "x"})
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            health = await web.get("/health")
            assert (health.status_code, health.json()) == (503, {"status": "stopping"})
            with pytest.raises(InvalidStatus) as refused:
                await dial(port)
            assert refused.value.response.status_code == 503
            assert not stopping.done()
            fill.cancel()
            assert (await waits).holes[0].text == "ok"
            await stopping

    run(scene())


@pytest.mark.parametrize("impatient", [False, True])
def test_an_end_waits_only_so_long_and_a_second_signal_not_at_all(impatient):
    async def scene():
        async with (
            serving(grace_s=60 if impatient else 0.01) as (daemon, port),
            await connect(server=server(port, TOKEN)) as client,
        ):
            fill = await holding(client)
            daemon.on_signal()
            if impatient:
                daemon.on_signal()
            with pytest.raises(RpcError, match="stopping"):
                await fill

    run(scene())
