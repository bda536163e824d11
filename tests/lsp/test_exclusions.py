"""Which files are kept from the model, and why."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from lsp_server.documents import Document
from lsp_server.exclusions import SECRETS, GitIgnore, check_document, matching_glob
from lsp_server.settings import Settings
from lsp_server.silence import Silence


def reason(uri: str, settings: Settings | None = None, text: str = "x", trusted: bool = True) -> str | None:
    """The silence about a document, if there is one."""
    document = Document(uri, "python", 1, text)
    try:
        asyncio.run(check_document(document, settings or Settings(), trusted, GitIgnore()))
    except Silence as silence:
        return silence.reason
    return None


@pytest.mark.parametrize(
    "path",
    [
        "/p/.env",
        "/p/.env.local",
        "/p/.ENVRC",
        "/p/prod.env",
        "/p/certs/server.pem",
        "/p/a.key",
        "/home/u/.ssh/config",
        "/home/u/.aws/credentials",
        "/p/credentials.json",
        "/p/secrets.yml",
        "/p/id_ed25519",
        "/home/u/.docker/config.json",
        "/p/terraform.tfvars",
        "/p/.npmrc",
    ],
)
def test_secrets_are_always_excluded(path):
    assert reason(f"file://{path}") == "excluded"
    assert reason(f"file://{path}", Settings(exclude=("*.sql",))) == "excluded"  # merged, not replaced
    assert reason(f"vscode-remote://host{path}") == "excluded"


@pytest.mark.parametrize(
    "path", ["/p/environment.py", "/p/keys.py", "/p/credentials.py", "/p/monkey", "/p/config.json"]
)
def test_code_is_not(path):
    assert reason(f"file://{path}") is None


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("*.sql", "/a/b/c.SQL", True),
        ("private", "/a/private/c.py", True),
        ("private/", "/a/private/c.py", True),
        ("c.py/", "/a/private/c.py", False),
        ("a/*/c.py", "/x/a/b/c.py", True),
        ("a/*/c.py", "/x/a/b/d/c.py", False),
        ("a/**/c.py", "/x/a/b/d/c.py", True),
        ("**/gen/**", "/x/gen/y/z.py", True),
        ("src/gen", "/x/src/gen/z.py", True),
        ("src/gen", "/x/src/general/z.py", False),
    ],
)
def test_globs(glob, path, matches):
    assert (matching_glob(path, [glob]) == glob) is matches


def test_percent_signs_and_links_hide_nothing(tmp_path):
    (tmp_path / ".env").write_text("TOKEN=1")
    (tmp_path / "notes.py").symlink_to(tmp_path / ".env")
    assert reason((tmp_path / "notes.py").as_uri()) == "excluded"
    assert reason("file:///p/%2Eenv") == "excluded"


def test_the_other_reasons():
    assert reason("file:///a.py", trusted=False) == "untrusted"
    assert reason("file:///a.py", Settings(enabled=False)) == "paused"
    assert reason("file:///a.py", Settings(disabled_languages=("python",))) == "language_off"
    assert reason("file:///a.py", Settings(max_file_size=3), text="four") == "too_large"
    assert reason("untitled:Untitled-1") is None


def test_what_git_ignores_is_excluded_unless_the_user_wants_it(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("build/\n")
    (tmp_path / "build").mkdir()
    ignored, seen = (tmp_path / "build" / "a.py").as_uri(), (tmp_path / "a.py").as_uri()
    assert (reason(ignored), reason(seen)) == ("excluded", None)
    assert reason(ignored, Settings(exclude_git_ignored=False)) is None


def test_the_list_has_no_glob_twice():
    assert len(SECRETS) == len(set(SECRETS))
