"""Runtime files, locks and tokens; and daemons that are real processes but load no model."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from serving import run

from model_runtime import __version__
from model_runtime.cli import main
from model_runtime.client import RuntimeDown, connect
from model_runtime.daemon import discovery
from model_runtime.daemon.discovery import DAEMON_LOCK, RUNTIME_FILE, DiscoveryError, RuntimeFile
from model_runtime.protocol import RequestError

ROOT = Path(__file__).parents[2]
DEAD = RuntimeFile("127.0.0.1", 9, "t" * 64, 1, __version__)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `diffill serve ARGUMENTS`."""
    return subprocess.run(
        [sys.executable, "-m", "model_runtime", "serve", *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def stopped(runtime):
    """A runtime directory whose daemon, if there is one, is stopped at the end."""
    yield runtime
    assert command("--stop").returncode == 0
    assert not discovery.daemon_lives(runtime)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_runtime_file_is_the_users_alone(runtime):
    folder = discovery.runtime_directory()
    assert folder == runtime
    assert mode(folder) == 0o700
    old = os.umask(0)
    try:
        discovery.write_runtime_file(folder, DEAD)
    finally:
        os.umask(old)
    assert mode(folder / RUNTIME_FILE) == 0o600
    assert discovery.read_runtime_file(folder) == DEAD
    assert [path.name for path in folder.iterdir()] == [RUNTIME_FILE]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 1}', b"\xff", b'{"host": "x", "port": 1}'])
def test_a_broken_runtime_file_is_none(runtime, content):
    folder = discovery.runtime_directory()
    (folder / RUNTIME_FILE).write_bytes(content)
    assert discovery.read_runtime_file(folder) is None


def test_the_files_of_a_dead_daemon_are_swept(runtime):
    folder = discovery.runtime_directory()
    discovery.write_runtime_file(folder, DEAD)
    assert discovery.find_daemon(folder) is None
    assert not (folder / RUNTIME_FILE).exists()
    lock = discovery.take_lock(folder / DAEMON_LOCK)
    discovery.write_runtime_file(folder, DEAD)
    assert discovery.find_daemon(folder) == DEAD  # who holds the lock lives
    lock.close()


def test_another_version_is_said(runtime):
    folder = discovery.runtime_directory()
    discovery.write_runtime_file(folder, dataclasses.replace(DEAD, version="9.9"))
    with discovery.held_lock(folder / DAEMON_LOCK):
        with pytest.raises(DiscoveryError, match=r"a daemon of Diffill 9\.9 runs.*diffill serve --stop"):
            discovery.find_daemon(folder)
        assert discovery.find_daemon(folder, any_version=True).version == "9.9"
        with pytest.raises(DiscoveryError, match=r"9\.9"):
            run(connect())


def test_a_runtime_directory_that_cannot_be_used_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DIFFILL_RUNTIME_DIR", str(tmp_path / "file" / "runtime"))
    with pytest.raises(DiscoveryError, match="cannot be made: "):
        run(connect())
    assert main(["serve"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("DIFFILL_RUNTIME_DIR", str(shared))
    with pytest.raises(DiscoveryError, match="can be written by others"):
        discovery.runtime_directory()


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_read_only_or_full_runtime_directory_is_one_sentence(runtime, monkeypatch, code):
    folder = discovery.runtime_directory()
    real = os.open

    def refuse(path, flags, *rest, **more):
        if str(path).startswith(str(folder)) and flags & os.O_CREAT:
            raise OSError(code, os.strerror(code))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DiscoveryError, match=os.strerror(code)):
        discovery.write_runtime_file(folder, DEAD)
    with pytest.raises(DiscoveryError, match=os.strerror(code)):
        run(connect())
    assert main(["serve"]) == 2


def test_tokens(runtime, monkeypatch):
    one, written = discovery.own_token()
    assert one == written
    assert len(bytes.fromhex(one)) == 32
    assert discovery.own_token()[0] != one
    monkeypatch.setenv("DIFFILL_TOKEN", "x" * 20)
    assert discovery.own_token() == ("x" * 20, None)
    for weak in ("short", "with a space in it", "é" * 20):
        monkeypatch.setenv("DIFFILL_TOKEN", weak)
        with pytest.raises(RequestError, match="DIFFILL_TOKEN"):
            discovery.own_token()


def test_without_a_daemon(runtime):
    with pytest.raises(RuntimeDown, match="no daemon runs"):
        run(connect(start=False))
    assert main(["serve", "--status"]) == 1
    assert main(["serve", "--stop"]) == 0
    assert main(["serve", "--log"]) == 0


@pytest.mark.parametrize("arguments", [("--port", "70000"), ("--idle-exit", "0"), ("--model", "nonesuch"), ("--bad",)])
def test_bad_options_of_serve_are_one_sentence(runtime, arguments, capsys):
    assert main(["serve", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (runtime / RUNTIME_FILE).exists()


def test_a_token_file_is_made_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("DIFFILL_TOKEN", raising=False)
    path = tmp_path / "token"
    token, written = discovery.own_token(str(path))
    assert token == written == path.read_text().strip()
    assert len(token) == 64
    assert os.name != "posix" or stat.S_IMODE(path.stat().st_mode) == 0o600
    assert discovery.own_token(str(path))[0] == token
    monkeypatch.setenv("DIFFILL_TOKEN", "x" * 20)
    with pytest.raises(RequestError, match="not from both"):
        discovery.own_token(str(path))


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [("short", 0o600, "visible ASCII"), ("é" * 20, 0o600, "visible ASCII"), ("x" * 20, 0o644, "chmod 600")],
)
@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_token_files_that_do_not_protect_are_refused(tmp_path, monkeypatch, content, mode, sentence):
    monkeypatch.delenv("DIFFILL_TOKEN", raising=False)
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(RequestError, match=sentence):
        discovery.own_token(str(path))
    with pytest.raises(RequestError, match="cannot read or make"):
        discovery.own_token(str(path / "under"))


def test_the_token_of_the_daemon_that_runs_can_be_asked_for(runtime, capsys):
    assert main(["serve", "--token"]) == 1
    folder = discovery.runtime_directory()
    lock = discovery.take_lock(folder / DAEMON_LOCK)
    discovery.write_runtime_file(folder, DEAD)
    assert main(["serve", "--token"]) == 0
    assert capsys.readouterr().out == DEAD.token + "\n"
    discovery.write_runtime_file(folder, dataclasses.replace(DEAD, token=None))
    assert main(["serve", "--token"]) == 2
    assert "DIFFILL_TOKEN" in capsys.readouterr().err
    lock.close()


def test_two_clients_that_start_at_once_get_one_daemon(stopped):
    async def scene():
        clients = await asyncio.gather(*(connect() for _ in range(4)))
        pids = {(await client.status())["pid"] for client in clients}
        assert len(pids) == 1
        assert (await clients[0].status())["clients"] == 4
        for client in clients:
            await client.close()
        return pids.pop()

    pid = run(scene())
    second = command()
    assert second.returncode == 2
    assert f"process {pid}" in second.stderr
    told = command("--status")
    assert (told.returncode, json.loads(told.stdout)["pid"]) == (0, pid)


def test_a_daemon_that_is_killed_is_replaced_and_a_client_goes_on(stopped):
    async def scene():
        async with await connect() as client:
            first = (await client.status())["pid"]
            os.kill(first, signal.SIGKILL)
            second = (await client.status())["pid"]
            assert second != first
            assert discovery.read_runtime_file(stopped).pid == second

    run(scene())


def test_a_token_from_the_environment_is_not_written(stopped, monkeypatch):
    monkeypatch.setenv("DIFFILL_TOKEN", "0123456789abcdef-of-a-test")

    async def scene():
        async with await connect() as client:
            await client.status()
        assert discovery.read_runtime_file(stopped).token is None
        monkeypatch.setenv("DIFFILL_TOKEN", "another-token-0123456789")
        with pytest.raises(RuntimeDown, match="token is missing or wrong"):
            await connect()
        monkeypatch.delenv("DIFFILL_TOKEN")
        with pytest.raises(DiscoveryError, match="DIFFILL_TOKEN"):
            await connect()
        monkeypatch.setenv("DIFFILL_TOKEN", "0123456789abcdef-of-a-test")

    run(scene())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_daemon_and_leaves_no_runtime_file(runtime, name):
    process = subprocess.Popen(
        [sys.executable, "-m", "model_runtime", "serve"], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    line = process.stderr.readline()
    assert line.startswith("diffill: listening on 127.0.0.1:")
    while not (told := command("--status")).stdout.startswith("{"):  # it listens; its signals are ours once it answers
        assert process.poll() is None, told.stderr
    process.send_signal(getattr(signal, name))
    assert process.wait(30) == 0
    process.stderr.close()
    assert not (runtime / RUNTIME_FILE).exists()
    assert not discovery.daemon_lives(runtime)


def test_the_daemon_leaves_by_itself_when_no_client_is_there(runtime):
    process = subprocess.Popen(
        [sys.executable, "-m", "model_runtime", "serve", "--ready", "--idle-exit", "0.2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    assert process.stdout.read() == ""  # let go of
    assert process.wait(30) == 0
    process.stdout.close()
    assert not (runtime / RUNTIME_FILE).exists()


def test_the_client_loads_nothing_heavy():
    program = "import sys, model_runtime.client; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"torch", "onnxruntime", "numpy", "tokenizers", "starlette", "uvicorn", "transformers"}
    assert set(done.stdout.split()) & heavy == set()
