"""How clients find the daemon: a file with its address and token, and locks that say who lives.

The daemon holds `daemon.lock` as long as it lives; the system releases it however the daemon ends, so a runtime file
without a held lock is that of a dead daemon. `start.lock` lets one client at a time start a daemon.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from model_runtime import __version__
from model_runtime.daemon.validation import from_json
from model_runtime.home import at_home
from model_runtime.protocol import DiffillError, RequestError

RUNTIME_FILE, LOG_FILE = "daemon.json", "daemon.log"
TOKEN = r"[!-~]{16,256}"
DAEMON_LOCK, START_LOCK = "daemon.lock", "start.lock"


class DiscoveryError(DiffillError):
    """The runtime directory cannot be used, or what runs there is not ours to talk to."""


@dataclass
class RuntimeFile:
    """What a client must know of a daemon; `token` is None where DIFFILL_TOKEN gives it."""

    host: str
    port: int
    token: str | None
    pid: int
    version: str
    certificate: str | None = None  # a file: the daemon speaks TLS, and proves that it is the one with this certificate


def runtime_directory() -> Path:
    """The user's runtime directory for Diffill, made with mode 0700; DIFFILL_RUNTIME_DIR names another.

    DiscoveryError if it cannot be made, or if somebody else could read what is put there.
    """
    named = os.environ.get("DIFFILL_RUNTIME_DIR")
    folder = Path(named).absolute() if named else default_directory()
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.name == "posix":
            check_private(folder)
            if not named:
                check_private(folder.parent)  # under /tmp it could be another user's
    except OSError as error:
        raise DiscoveryError(f"the runtime directory {folder} cannot be made: {error.strerror}") from None
    return folder


def default_directory() -> Path:
    """Where the system keeps what lives as long as the user's session."""
    import platformdirs

    with warnings.catch_warnings():  # that there is no such place, and /tmp must do
        warnings.simplefilter("ignore")
        return platformdirs.user_runtime_path("diffill", appauthor=False)


def check_private(folder: Path) -> None:
    """DiscoveryError if somebody else could put files into a folder."""
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise DiscoveryError(f"the runtime directory {folder} belongs to another user")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise DiscoveryError(f"the runtime directory {folder} can be written by others: chmod 700 {folder}")


def own_token(file: str | None = None) -> tuple[str, str | None]:
    """The token a new daemon asks for, and what of it goes into the runtime file.

    It is that of DIFFILL_TOKEN, or of a file, or a new one; RequestError if it cannot be had or is too weak.
    """
    given = token_of_environment()
    if given is not None:
        if file is not None:
            raise RequestError("the token comes from DIFFILL_TOKEN or from --token-file, not from both")
        return given, None
    token = secrets.token_hex(32) if file is None else token_of_file(at_home(file))
    return token, token


def token_of_file(path: Path) -> str:
    """The token in a file that only its user can read; a new one, put there, if there is no such file."""
    try:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32) + "\n")
        with path.open("rb") as opened:
            if os.name == "posix" and stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
                raise RequestError(f"the token in {path} can be read by others: chmod 600 {path}")
            token = opened.read(1000).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise RequestError(f"cannot read or make {path}: {error.strerror}") from None
    if not re.fullmatch(TOKEN, token):
        raise RequestError(f"{path} must hold 16 to 256 visible ASCII characters, the token")
    return token


def token_of_environment() -> str | None:
    """DIFFILL_TOKEN, if it is set; RequestError if it is too weak to be a token."""
    given = os.environ.get("DIFFILL_TOKEN")
    if not given:
        return None
    if not re.fullmatch(TOKEN, given):
        raise RequestError("DIFFILL_TOKEN must be 16 to 256 visible ASCII characters")
    return given


def write_runtime_file(folder: Path, content: RuntimeFile) -> None:
    """Put the runtime file in place; DiscoveryError if that cannot be."""
    try:
        put_in_place(folder / RUNTIME_FILE, asdict(content))
    except OSError as error:
        raise DiscoveryError(f"cannot write {folder / RUNTIME_FILE}: {error.strerror}") from None


def put_in_place(path: Path, value: Any) -> None:
    """Write JSON values as a file for the user alone, in one step: a whole new file, or OSError and the old one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read_runtime_file(folder: Path) -> RuntimeFile | None:
    """The runtime file, or None if there is none that can be read as one."""
    try:
        return from_json(RuntimeFile, json.loads((folder / RUNTIME_FILE).read_text(encoding="utf-8")), RUNTIME_FILE)
    except (OSError, ValueError, RequestError):
        return None


def remove_runtime_file(folder: Path) -> None:
    """Remove the runtime file; only for who holds the daemon's lock, or found it free."""
    with contextlib.suppress(OSError):
        (folder / RUNTIME_FILE).unlink(missing_ok=True)


def find_daemon(folder: Path, any_version: bool = False) -> RuntimeFile | None:
    """The daemon that lives, or None; the files of a dead one are swept.

    DiscoveryError if one of another version lives (unless `any_version`).
    """
    with held_lock(folder / DAEMON_LOCK) as lock:
        if lock is not None:
            remove_runtime_file(folder)
            return None
    found = read_runtime_file(folder)
    if found is not None and found.version != __version__ and not any_version:
        raise DiscoveryError(
            f"a daemon of Diffill {found.version} runs, and this is {__version__}: "
            "stop it with diffill serve --stop and try again"
        )
    return found


def daemon_lives(folder: Path) -> bool:
    """Whether a daemon holds its lock."""
    with held_lock(folder / DAEMON_LOCK) as lock:
        return lock is None


@contextlib.contextmanager
def held_lock(path: Path) -> Iterator[IO[bytes] | None]:
    """Hold a lock file for the length of a with statement; yields None at once if another process holds it."""
    file = take_lock(path)
    try:
        yield file
    finally:
        if file is not None:
            file.close()


def take_lock(path: Path) -> IO[bytes] | None:
    """Take a lock until the file that is returned is closed, or the process ends; None if another holds it."""
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    except OSError as error:
        raise DiscoveryError(f"cannot write {path}: {error.strerror}") from None
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
