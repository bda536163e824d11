"""The real language server with a real server elsewhere: over TLS, with an authority of its own and a named token."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from editor import PATIENCE, RequestFailed

sys.path.insert(0, str(Path(__file__).parents[1] / "daemon"))

import certificates

from model_runtime.daemon import accounts
from model_runtime.daemon.discovery import RUNTIME_FILE

TEXT = "def total(prices):\n    result = 0\n    for price in prices:\n        result += \n    return result\n"
PLACE = {"line": 3, "character": 18}


@dataclass
class Team:
    """A server for a team that runs, and what one of them needs to ask it."""

    address: str
    token: str
    authority: str
    audit: Path
    tokens: Path

    @property
    def named(self) -> dict[str, str]:
        return {"address": self.address, "token": self.token, "certificates": self.authority}

    def fills(self) -> int:
        return sum('"event": "fill"' in line for line in self.audit.read_text().splitlines())


@pytest.fixture(scope="module")
def team(tmp_path_factory, environment):
    """`diffill serve` with TLS, named tokens and an audit log."""
    folder = tmp_path_factory.mktemp("team")
    papers = certificates.issue(folder)
    tokens, audit = folder / "tokens.json", folder / "audit.jsonl"
    token = accounts.create(tokens, "ann")
    options = ["--tls-certificate", papers.certificate, "--tls-key", papers.key, "--tokens", tokens, "--audit", audit]
    process = subprocess.Popen(
        [sys.executable, "-m", "model_runtime", "serve", "--ready", "--host", "0.0.0.0", *map(str, options)],
        env={**environment, "DIFFILL_RUNTIME_DIR": str(folder / "runtime")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    port = json.loads((folder / "runtime" / RUNTIME_FILE).read_text())["port"]
    yield Team(f"wss://localhost:{port}/", token, str(papers.authority), audit, tokens)
    process.terminate()
    assert process.wait(PATIENCE) == 0
    process.stdout.close()


def fill(editor, uri):
    """Have the server fill a place of an open file."""
    editor.open(uri, TEXT)
    params = {"textDocument": {"uri": uri}, "ranges": [{"start": PLACE, "end": PLACE}]}
    return editor.ask("diffill/fill", params)


def everything_told(editor) -> str:
    """All messages that came from a server."""
    editor.ask("diffill/status")
    while not editor.heard.empty():
        editor.kept.append(editor.heard.get_nowait())
    return json.dumps(editor.kept)


def test_the_start_options_name_a_server(start, team, uri):
    editor = start(initializationOptions={"server": team.named, "settings": {"minConfidence": 0}})
    before = team.fills()
    answer = fill(editor, uri)
    assert (answer["model"], bool(answer["holes"][0]["newText"])) == ("embedded", True)
    assert team.fills() == before + 1
    assert editor.ask("diffill/status")["server"] == team.address
    assert team.token not in everything_told(editor)
    assert team.token not in team.audit.read_text()


def test_the_environment_names_a_server(start, environment, team, uri):
    own = {
        "DIFFILL_SERVER": team.address,
        "DIFFILL_TOKEN": team.token,
        "DIFFILL_CERTIFICATES": team.authority,
    }
    editor = start(environment={**environment, **own})
    before = team.fills()
    assert fill(editor, uri)["model"] == "embedded"
    assert team.fills() == before + 1


def test_a_request_goes_there_and_back(start, team, uri):
    editor = start()
    assert editor.ask("diffill/status")["server"] is None
    assert editor.ask("diffill/connect", team.named) == {"server": team.address}
    changed = editor.wait_for("diffill/didChangeStatus", lambda status: status["server"] is not None)
    assert changed["server"] == team.address
    before = team.fills()
    elsewhere = fill(editor, uri)
    assert team.fills() == before + 1
    assert editor.ask("diffill/connect", {"address": None}) == {"server": None}
    here = fill(editor, uri + ".py")
    assert team.fills() == before + 1
    assert [hole["newText"] for hole in here["holes"]] == [hole["newText"] for hole in elsewhere["holes"]]
    assert editor.ask("diffill/status")["state"] == "idle"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"token": "x" * 40}, "refused the connection: the token is missing or wrong"),
        ({"token": ""}, "the server's token is missing"),
        ({"certificates": None}, "cannot be trusted: its certificate was not accepted"),
        ({"certificates": "/nowhere.pem"}, "cannot read /nowhere.pem"),
        ({"address": "wss://localhost:1"}, "cannot be reached"),
        ({"address": "ws://team.example:8443"}, "the address must begin with wss://"),
        ({"address": "https://team.example"}, "begins with wss://"),
        ({"address": "wss://ann:secret@team.example"}, "the token is given apart"),
        ({"address": 3}, "is a text like"),
        ({"address": "wss://localhost:99999"}, "no port between 0 and 65535"),
        ({"port": 3}, "diffill/connect has no parameter 'port'"),
    ],
)
def test_what_does_not_answer_is_said_and_changes_nothing(team, editor, change, sentence):
    given = {**team.named, **change}
    with pytest.raises(RequestFailed, match=sentence) as caught:
        editor.ask("diffill/connect", {name: value for name, value in given.items() if value is not None})
    assert team.token not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert editor.ask("diffill/status")["server"] is None


def test_a_badly_named_server_is_said_once_and_this_machine_is_asked(start, team, uri):
    editor = start(initializationOptions={"server": {**team.named, "address": "http://team.example"}})
    said = editor.wait_for("window/showMessage")["message"]
    assert said.startswith("Diffill asks this machine's model, because the server's address begins with wss://")
    before = team.fills()
    assert fill(editor, uri)["holes"]
    assert team.fills() == before
    assert team.token not in everything_told(editor)


def test_authorities_that_are_not_there_are_said_and_the_state_is_down(start, team, uri):
    editor = start(initializationOptions={"server": {**team.named, "certificates": "/nowhere.pem"}})
    with pytest.raises(RequestFailed, match=r"cannot be trusted: cannot read /nowhere\.pem") as caught:
        fill(editor, uri)
    assert caught.value.data["reason"] == "runtime_down"
    assert editor.ask("diffill/status")["state"] == "down"


def test_a_revoked_token_is_said_and_a_limit_is_no_outage(start, team, uri):
    scarce = accounts.create(team.tokens, "bob", per_minute=6)  # one, then one in ten seconds
    editor = start(initializationOptions={"server": {**team.named, "token": scarce}})
    fill(editor, uri)
    with pytest.raises(RequestFailed, match="the model has too much to do: this token has at most 6") as caught:
        fill(editor, uri)
    assert caught.value.data["reason"] == "busy"
    assert editor.ask("diffill/status")["state"] != "down"
    accounts.revoke(team.tokens, "bob")
    with pytest.raises(RequestFailed, match="the token is missing or wrong") as caught:
        fill(editor, uri)
    assert caught.value.data["reason"] == "runtime_down"
    assert editor.ask("diffill/status")["state"] == "down"
    told = editor.wait_for("window/showMessage")["message"]
    assert "the token is missing or wrong" in told
    assert editor.ask("diffill/connect", team.named) == {"server": team.address}
    assert fill(editor, uri)["holes"]
    assert editor.ask("diffill/status")["state"] == "idle"
