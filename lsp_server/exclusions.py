"""Which files no suggestion is made in: their text never leaves this process.

The globs for secrets always hold; a user adds to them. A glob without a slash is compared with every part of the
path, one with slashes with the path's end; case makes no difference. A link counts under both its names.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import subprocess
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pygls.uris import to_fs_path

from lsp_server.documents import Document
from lsp_server.settings import Settings
from lsp_server.silence import Silence

DATA = ("json", "yaml", "yml", "toml", "ini", "cfg", "xml", "csv", "txt", "properties", "enc")
SECRETS = (
    ".env*",
    "*.env",
    ".dev.vars*",
    "*.pem",
    "*.key",
    "*.crt",
    "*.cer",
    "*.cert",
    "*.der",
    "*.p7b",
    "*.p8",
    "*.p12",
    "*.pfx",
    "*.ppk",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.gpg",
    "*.asc",
    "*.ovpn",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube/config",
    ".docker/config.json",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".git-credentials",
    ".vault-token",
    "*.tfvars",
    "*.tfvars.json",
    "*.tfstate",
    "*.tfstate.backup",
    "service-account*.json",
    "service_account*.json",
    "client_secret*.json",
    "credentials",
    "secrets",
    *(f"{name}.{ending}" for name in ("credentials", "credential", "secrets", "secret") for ending in DATA),
)
GIT_SECONDS = 2.0


def paths_of(uri: str) -> list[str]:
    """What a document is called, slashes forward: its path, and where a link leads to."""
    path = to_fs_path(uri) if uri.startswith("file:") else None
    if path is None:
        return [unquote(urlsplit(uri).path)]
    paths = [path]
    with contextlib.suppress(OSError, RuntimeError):  # a loop of links
        paths.append(str(Path(path).resolve()))
    return [one.replace("\\", "/") for one in dict.fromkeys(paths)]


def matching_glob(path: str, globs: Iterable[str]) -> str | None:
    """The first glob that the path matches."""
    parts = [part for part in path.lower().split("/") if part]
    for glob in globs:
        wanted = glob.lower().replace("\\", "/").removeprefix("./")
        if matches(parts, wanted):
            return glob
    return None


def matches(parts: list[str], glob: str) -> bool:
    """Whether a glob in lower case matches: any one part, or with slashes the path from some part on."""
    anchored = glob.strip("/")
    if "/" not in anchored:
        if glob.endswith("/"):
            parts = parts[:-1]
        return any(fnmatch.fnmatchcase(part, anchored) for part in parts)
    wanted = anchored.split("/")
    return any(match_parts(parts[start:], wanted) for start in range(len(parts)))


def match_parts(parts: list[str], wanted: list[str]) -> bool:
    """Whether the first parts match one by one; `**` stands for any number of them, what lies below a match is in."""
    if not wanted:
        return True
    if not parts:
        return wanted == ["**"]
    if wanted[0] == "**":
        return match_parts(parts, wanted[1:]) or match_parts(parts[1:], wanted)
    return fnmatch.fnmatchcase(parts[0], wanted[0]) and match_parts(parts[1:], wanted[1:])


class GitIgnore:
    """Whether git ignores a file, asked of git itself and remembered until something may have changed it."""

    def __init__(self) -> None:
        self.known: dict[str, bool] = {}

    def forget(self) -> None:
        """Ask anew: a .gitignore was saved, folders came or went."""
        self.known.clear()

    async def ignores(self, uri: str) -> bool:
        """True if git says so; without git, outside a repository and for what is no file, False."""
        if uri not in self.known:
            path = to_fs_path(uri) if uri.startswith("file:") else None
            self.known[uri] = path is not None and await asyncio.to_thread(ask_git, Path(path))
        return self.known[uri]


def ask_git(path: Path) -> bool:
    """Run `git check-ignore` from the nearest folder that exists."""
    folder = next((parent for parent in path.parents if parent.is_dir()), None)
    if folder is None:
        return False
    command = ["git", "check-ignore", "--quiet", "--", str(path)]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


async def check_document(document: Document, settings: Settings, trusted: bool, git: GitIgnore) -> None:
    """Raise Silence unless the document may be shown to the model."""
    if not trusted:
        raise Silence("untrusted")
    if not settings.enabled:
        raise Silence("paused")
    if document.language_id in settings.disabled_languages:
        raise Silence("language_off", document.language_id)
    for path in paths_of(document.uri):
        if glob := matching_glob(path, (*SECRETS, *settings.exclude)):
            raise Silence("excluded", f"{path.rsplit('/', 1)[-1]} matches {glob}")
    if len(document.text) > settings.max_file_size:
        raise Silence("too_large")
    if settings.exclude_git_ignored and await git.ignores(document.uri):
        raise Silence("excluded", "git ignores it")
