"""Named tokens for a server that several people share: made, listed and revoked in one file.

The file holds a digest of each token and never the token. A plain SHA-256 will do: a token is 256 random bits, which no
list of likely words leads to. Every change takes the file's lock, and puts a whole new file in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from model_runtime.daemon.discovery import TOKEN, DiscoveryError, put_in_place, take_lock
from model_runtime.daemon.validation import from_json
from model_runtime.protocol import RequestError

NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
OWNER = "owner"  # who has the daemon's own token, in the audit log
MOST_PER_MINUTE, MOST_AT_ONCE = 1_000_000, 10_000
LOCK_WAIT_S, LOOK_S = 5.0, 0.02
LOG = logging.getLogger("diffill.accounts")


@dataclass(frozen=True)
class Account:
    """One named token: its digest, when it was made (UTC), and what it may ask for."""

    name: str
    sha256: str
    created: str
    per_minute: int = 600  # requests, a sixth of them at once
    at_once: int = 8  # requests that are not answered yet


@dataclass
class Book:
    """What the file holds."""

    tokens: list[Account]


def default_file() -> Path:
    """Where the tokens are, unless told otherwise."""
    import platformdirs

    return platformdirs.user_config_path("diffill", appauthor=False) / "tokens.json"


def create(path: Path, name: str, per_minute: int = 600, at_once: int = 8) -> str:
    """Make a token and return it: it can be seen only now. RequestError if the name is taken or a number wrong."""
    if not re.fullmatch(NAME, name):
        raise RequestError("a token's name has 1 to 64 letters, digits and . _ @ -, and begins with a letter or digit")
    if name == OWNER:
        raise RequestError(f"the audit log calls who runs the server {OWNER}: choose another name")
    for option, value, most in (("per-minute", per_minute, MOST_PER_MINUTE), ("at-once", at_once, MOST_AT_ONCE)):
        if not 1 <= value <= most:
            raise RequestError(f"--{option} lies between 1 and {most}, not at {value}")
    token = secrets.token_urlsafe(32)
    with changing(path) as accounts:
        if any(account.name == name for account in accounts):
            raise RequestError(f"there is a token named {name} already: revoke it first, or choose another name")
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        accounts.append(Account(name, digest_of(token), now, per_minute, at_once))
    return token


def revoke(path: Path, name: str) -> None:
    """Take a token away; RequestError if there is none of that name."""
    with changing(path) as accounts:
        left = [account for account in accounts if account.name != name]
        if len(left) == len(accounts):
            raise RequestError(f"there is no token named {name} in {path}")
        accounts[:] = left


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_accounts(path: Path) -> list[Account]:
    """The accounts in a file, none if there is no file; RequestError if it cannot be read or does not protect."""
    try:
        with path.open("rb") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise RequestError(f"the tokens in {path} can be read or changed by others: chmod 600 {path}")
            data = file.read()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    try:
        accounts = from_json(Book, json.loads(data), path.name).tokens
    except (ValueError, RequestError):
        raise RequestError(f"{path} is no file of tokens as diffill tokens writes it") from None
    return accounts


@contextlib.contextmanager
def changing(path: Path) -> Iterator[list[Account]]:
    """The accounts in a file, to be changed: written when the with statement ends without an error."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"cannot make {path.parent}: {error.strerror}") from None
    try:
        end = time.monotonic() + LOCK_WAIT_S
        while (lock := take_lock(path.with_name(path.name + ".lock"))) is None:
            if time.monotonic() > end:
                raise RequestError(f"another program has been changing {path} for too long; try again")
            time.sleep(LOOK_S)
    except DiscoveryError as error:
        raise RequestError(str(error)) from None
    with lock:
        accounts = read_accounts(path)
        yield accounts
        try:
            put_in_place(path, asdict(Book(accounts)))
        except OSError as error:
            raise RequestError(f"cannot write {path}: {error.strerror}") from None


class Accounts:
    """The accounts as a server sees them: read again whenever the file has changed.

    A file that can no longer be read leaves what was known before; `problem` says why.
    """

    def __init__(self, path: Path):
        self.path, self.problem = path, ""
        self._seen = self._stamp()
        self._by_digest = {account.sha256: account for account in read_accounts(path)}

    def __len__(self) -> int:
        return len(self._current())

    def find(self, token: str) -> Account | None:
        """The account of a token; None if it belongs to nobody."""
        return self._current().get(digest_of(token)) if re.fullmatch(TOKEN, token) else None

    def holds(self, account: Account) -> bool:
        """Whether an account was not revoked since it was found."""
        return account.sha256 in self._current()

    def _current(self) -> dict[str, Account]:
        if (stamp := self._stamp()) != self._seen:
            self._seen = stamp
            try:
                self._by_digest = {account.sha256: account for account in read_accounts(self.path)}
                self.problem = ""
            except RequestError as error:
                self.problem = str(error)
                LOG.error("the tokens stay as they were: %s", error)
        return self._by_digest

    def _stamp(self) -> tuple[int, ...] | None:
        """What changes when another file is put in place."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode
