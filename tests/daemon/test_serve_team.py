"""`diffill serve` for a team, as whoever runs it meets it: what goes together, what is said, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys

import certificates
import pytest
from serving import run

from model_runtime.cli import main
from model_runtime.client import connect
from model_runtime.daemon import accounts
from model_runtime.daemon.discovery import RUNTIME_FILE, read_runtime_file
from model_runtime.daemon.listening import listen
from model_runtime.protocol import FillRequest
from model_runtime.remote import remote_of

CODE = "def area(width, height):\n    return \n\n\nprint(area(2, 3))\n"
AT = CODE.index("return ") + len("return ")
LONG = FillRequest(
    text=CODE, holes=[(AT, AT)], length="fixed:64", steps=64, sampler="entropy", frames=True, cache="off"
)


@pytest.fixture
def papers(tmp_path):
    return certificates.issue(tmp_path)


@pytest.fixture
def environment(runtime, tmp_path):
    """What a server starts with: a home of its own."""
    ours = ("DIFFILL_SERVER", "DIFFILL_TOKEN", "XDG_")
    values = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**values, "HOME": str(tmp_path), "DIFFILL_RUNTIME_DIR": str(runtime), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "on 0.0.0.0 other machines can connect: give --tls-certificate and --tls-key, or"),
        (["--host", "::"], "other machines can connect"),
        (["--host", "team.example"], "other machines can connect"),
        (["--tls-certificate", "chain.pem"], "--tls-certificate and --tls-key belong together"),
        (["--tls-key", "key.pem"], "--tls-certificate and --tls-key belong together"),
        (["--tls-certificate", "c", "--tls-key", "k", "--behind-proxy"], "leave the certificate to it"),
        (["--grace", "-1"], "--grace lies between 0 and 3600"),
        (["--behind-proxy", "--host", "203.0.113.1"], "cannot listen on port 0 of 203.0.113.1: "),
        (["--behind-proxy", "--host", "no such host"], "cannot listen on port 0 of no such host: "),
        (["--audit", "/nowhere/audit.jsonl"], "cannot write the audit log /nowhere/audit.jsonl: No such file"),
        (["--tokens", __file__], "chmod 600"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(runtime, arguments, sentence, capsys):
    assert main(["serve", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("diffill: ")
    assert sentence in said
    assert said.count("\n") == 1
    assert not (runtime / RUNTIME_FILE).exists()


def test_a_port_that_is_taken_is_said(runtime, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"diffill: cannot listen on port {port} of 127.0.0.1: Address already in use\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0"])
def test_any_address_can_be_listened_on(host):
    try:
        with listen(0, host) as listener:
            assert listener.getsockname()[1] > 0
    except OSError as error:
        if host != "::1":
            raise
        pytest.skip(f"no IPv6 here: {error}")


def start(environment, *options):
    """A server, once it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "model_runtime", "serve", "--ready", *map(str, options)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def diffill(environment, *words):
    command = [sys.executable, "-m", "model_runtime", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_server_over_tls_is_found_asked_and_ended_by_its_own_user(runtime, environment, papers, tmp_path):
    made = diffill(environment, "tokens", "create", "ann")  # where a server for a team looks by itself
    token = made.stdout.strip()
    process = start(environment, "--host", "0.0.0.0", "--tls-certificate", papers.certificate, "--tls-key", papers.key)
    found = read_runtime_file(runtime)
    assert (found.host, found.certificate) == ("127.0.0.1", str(papers.certificate))
    status = diffill(environment, "serve", "--status")
    assert json.loads(status.stdout)["pid"] == process.pid

    async def ask():
        server = remote_of(f"wss://localhost:{found.port}", token, str(papers.authority))
        async with await connect(server=server) as client:
            return (await client.status())["clients"]

    assert run(ask()) == 1
    process.send_signal(signal.SIGHUP)  # reads the certificate again, and ends nothing
    assert run(ask()) == 1
    stopped = diffill(environment, "serve", "--stop")
    assert (stopped.returncode, process.wait(60)) == (0, 0)
    process.stdout.close()
    log = (runtime / "daemon.log").read_text()
    assert "the certificate was read again" in log
    assert token not in log
    assert found.token not in log


def test_a_signal_lets_a_fill_that_runs_end(environment, tmp_path):
    tokens = tmp_path / "tokens.json"
    token = accounts.create(tokens, "ann")
    process = start(environment, "--tokens", tokens, "--grace", 60)
    port = json.loads((tmp_path / "runtime" / RUNTIME_FILE).read_text())["port"]

    async def scene():
        async with await connect(server=remote_of(f"ws://127.0.0.1:{port}", token)) as client:
            running = asyncio.Event()
            fill = asyncio.create_task(client.fill(LONG, lambda frame: running.set()))
            await running.wait()
            process.send_signal(signal.SIGTERM)
            return await fill

    result = run(scene())
    assert result.end == "complete"
    assert result.steps == 64
    assert process.wait(60) == 0
    process.stdout.close()
