"""Named tokens: seen once, kept as digests in a file that only their owner reads, revoked at once."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest

from model_runtime.cli import main
from model_runtime.daemon import accounts
from model_runtime.daemon.accounts import Accounts
from model_runtime.protocol import RequestError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "team" / "tokens.json"


def test_a_token_is_printed_once_and_kept_as_a_digest(path, capsys):
    assert main(["tokens", "create", "ann", "--file", str(path), "--per-minute", "60", "--at-once", "2"]) == 0
    token = capsys.readouterr().out.strip()
    assert len(token) >= 40
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    found = Accounts(path).find(token)
    assert (found.name, found.per_minute, found.at_once) == ("ann", 60, 2)
    assert main(["tokens", "list", "--file", str(path)]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("ann ")
    assert "60 a minute, 2 at a time" in listed
    assert token not in listed
    assert main(["tokens", "list", "--json", "--file", str(path)]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert set(row) == {"name", "created", "per_minute", "at_once"}
    assert main(["tokens", "revoke", "ann", "--file", str(path)]) == 0
    assert Accounts(path).find(token) is None
    assert not [one for one in path.parent.iterdir() if one.name not in ("tokens.json", "tokens.json.lock")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "ann"], "there is a token named ann already"),
        (["create", "a b"], "a token's name has"),
        (["create", ""], "a token's name has"),
        (["create", "owner"], "choose another name"),
        (["create", "bob", "--per-minute", "0"], "--per-minute lies between 1 and"),
        (["create", "bob", "--at-once", "99999"], "--at-once lies between 1 and"),
        (["revoke", "bob"], "there is no token named bob"),
        (["forge", "bob"], "forge"),
        ([], "create|list|revoke"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(path, arguments, sentence, capsys):
    accounts.create(path, "ann")
    before = path.read_bytes()
    assert main(["tokens", *arguments, *(["--file", str(path)] if arguments else [])]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", '{"tokens": [3]}', '{"tokens": [{"name": "x"}]}', "[]"])
def test_a_file_that_is_none_of_ours_is_said_and_left(path, content):
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(RequestError, match="is no file of tokens"):
        Accounts(path)
    with pytest.raises(RequestError, match="is no file of tokens"):
        accounts.create(path, "ann")
    assert path.read_text() == content


def test_a_file_that_does_not_protect_is_refused(path):
    accounts.create(path, "ann")
    path.chmod(0o640)
    with pytest.raises(RequestError, match="chmod 600"):
        Accounts(path)


def test_a_server_sees_changes_and_outlives_a_broken_file(path, caplog):
    ann = accounts.create(path, "ann")
    seen = Accounts(path)
    account = seen.find(ann)
    bob = accounts.create(path, "bob")
    assert seen.find(bob).name == "bob"
    whole = path.read_bytes()
    path.write_text("{")
    assert seen.find(ann) is not None
    assert "is no file of tokens" in seen.problem
    seen.find(ann)
    assert caplog.text.count("the tokens stay as they were") == 1
    path.write_bytes(whole)
    accounts.revoke(path, "ann")
    assert seen.find(ann) is None
    assert not seen.holds(account)
    assert (seen.find(bob).name, seen.problem) == ("bob", "")
    again = accounts.create(path, "ann")
    assert seen.find(again) is not None
    assert not seen.holds(account)  # the name is back, the old token is not
    path.unlink()
    assert seen.find(bob) is None


@pytest.mark.parametrize("token", ["", "é" * 20, "x" * 5000, "short", "\n" * 20])
def test_what_is_no_token_is_nobodys(path, token):
    accounts.create(path, "ann")
    assert Accounts(path).find(token) is None


def test_changes_at_the_same_time_are_all_kept(path):
    command = [sys.executable, "-m", "model_runtime", "tokens", "create", "--file", str(path)]
    running = [subprocess.Popen([*command, f"user{n}"], stdout=subprocess.DEVNULL) for n in range(6)]
    assert [process.wait(60) for process in running] == [0] * 6
    assert sorted(account.name for account in accounts.read_accounts(path)) == [f"user{n}" for n in range(6)]


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    accounts.create(path, "ann")
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RequestError, match="No space left on device"):
        accounts.create(path, "bob")
    assert path.read_bytes() == before
    assert not [one for one in path.parent.iterdir() if one.name not in ("tokens.json", "tokens.json.lock")]
