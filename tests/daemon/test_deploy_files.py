"""The files of deploy/: read by the programs that they are for, and nginx in front of a real server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import certificates
import httpx
import pytest
from serving import run

from model_runtime.client import connect
from model_runtime.commands.serve_options import check, make_parser
from model_runtime.daemon import accounts
from model_runtime.protocol import DiffillError, FillRequest
from model_runtime.remote import remote_of

ROOT = Path(__file__).parents[2]
UNIT, CONTAINER, NGINX = (ROOT / "deploy" / name for name in ("diffill.service", "Containerfile", "nginx.conf"))
CODE = "def area(width, height):\n    return \n\n\nprint(area(2, 3))\n"
AT = CODE.index("return ") + len("return ")


def settings_of(unit: str) -> dict[str, list[str]]:
    """The settings of a unit file, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in unit.splitlines():
        if line and not line.startswith(("#", "[")):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_starts_a_server_that_may_run():
    (command,) = settings_of(UNIT.read_text())["ExecStart"]
    program, serve, *options = shlex.split(command)
    assert (Path(program).name, serve) == ("diffill", "serve")
    args = make_parser().parse_args(options)
    check(args)
    stop = float(settings_of(UNIT.read_text())["TimeoutStopSec"][0])
    assert stop > args.grace, "systemd must not kill what is allowed to end"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/diffill/bin/diffill", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, ours) == (0, [])


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a container file, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def test_the_container_runs_a_server_as_nobody_in_particular():
    steps = instructions(CONTAINER.read_text())
    last = max(n for n, (word, _) in enumerate(steps) if word == "FROM")
    final = steps[last:]
    assert [value for word, value in final if word == "USER"] == ["10001:10001"]
    assert all(":latest" not in value and ":" in value.split(" AS ")[0] for word, value in steps if word == "FROM")
    copied = [value.split()[:-1] for word, value in steps if word == "COPY" and "--from" not in value]
    assert all((ROOT / source).exists() for sources in copied for source in sources)
    (entry,) = (json.loads(value) for word, value in final if word == "ENTRYPOINT")
    assert entry[:2] == ["diffill", "serve"]
    args = make_parser().parse_args(entry[2:])
    check(args)
    assert str(args.port) in dict(final)["EXPOSE"]
    assert {"/state", "/models"} == set(json.loads(dict(final)["VOLUME"]))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def proxied(tmp_path: Path, environment: dict[str, str]):
    """nginx with our configuration before a real server; yields the port that speaks TLS, and whom to trust."""
    inner, outer = free_port(), free_port()
    papers = certificates.issue(tmp_path)
    text = NGINX.read_text()
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{outer} ssl"),
        ("127.0.0.1:8012", f"127.0.0.1:{inner}"),
        ("/etc/diffill/chain.pem", str(papers.certificate)),
        ("/etc/diffill/key.pem", str(papers.key)),
    ):
        assert old in text
        text = text.replace(old, new)
    places = "".join(f"{name}_temp_path {tmp_path};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    whole = f"pid {tmp_path}/nginx.pid;\ndaemon off;\nevents {{}}\nhttp {{\naccess_log off;\n{places}{text}\n}}\n"
    (tmp_path / "nginx.conf").write_text(whole)
    options = ["--port", inner, "--behind-proxy", "--tokens", tmp_path / "tokens.json", "--audit", tmp_path / "audit"]
    server = subprocess.Popen(
        [sys.executable, "-m", "model_runtime", "serve", "--ready", *map(str, options)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    command = ["nginx", "-e", str(tmp_path / "nginx.log"), "-c", str(tmp_path / "nginx.conf")]
    assert subprocess.run([*command, "-t"], capture_output=True, timeout=60).returncode == 0
    nginx = subprocess.Popen(command)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield outer, papers.authority
    finally:
        for process in (nginx, server):
            process.terminate()
            process.wait(60)
        server.stdout.close()


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_nginx_before_a_server(runtime, tmp_path):
    token = accounts.create(tmp_path / "tokens.json", "ann")
    environment = {**os.environ, "DIFFILL_RUNTIME_DIR": str(runtime), "OMP_NUM_THREADS": "1"}
    with proxied(tmp_path, environment) as (port, authority):

        async def fill():
            server = remote_of(f"wss://localhost:{port}", token, str(authority))
            frames: list = []
            async with await connect(server=server) as client:
                request = FillRequest(text=CODE, holes=[(AT, AT)], length="fixed:6", frames=True)
                return await client.fill(request, frames.append), frames

        result, frames = run(fill())
        assert result.end == "complete"
        assert frames

        async def intrude():
            return await connect(server=remote_of(f"wss://localhost:{port}", "not-a-token-of-anyone", str(authority)))

        with pytest.raises(DiffillError, match="token"):
            run(intrude())
        with httpx.Client(base_url=f"https://localhost:{port}", verify=str(authority), timeout=60) as web:
            assert web.get("/health").json() == {"status": "ok"}
            assert web.get("/metrics").status_code == 403  # by nginx: not from this network
            body = {"prompt": CODE[:AT], "suffix": CODE[AT:], "max_tokens": 8, "stream": True}
            answer = web.post("/v1/completions", json=body, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
            assert answer.text.rstrip().endswith("data: [DONE]")
            assert web.post("/v1/completions", json=body).status_code == 401
    events = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert {event["address"] for event in events} == {"127.0.0.1"}
    assert {"connect", "fill", "refused"} <= {event["event"] for event in events}
