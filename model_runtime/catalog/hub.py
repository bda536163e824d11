"""The Hugging Face hub, or a mirror of it (HF_ENDPOINT): what a repository holds, and its files, resumed where broken.

huggingface_hub knows addresses, tokens and errors. Files are streamed here: its own download starts a file anew in
every process, and a model of 15 GB is seldom fetched in one go.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_runtime.catalog.store import BLOCK, OnBytes
from model_runtime.protocol import ModelError

# What a model needs: never code, never pickles, nothing of sub-folders.
WANTED = re.compile(r"[\w.-]+\.(json|safetensors|jinja|txt|md)|LICEN[CS]E[\w.-]*|merges\.txt", re.IGNORECASE)
ATTEMPTS = 5  # in a row that bring nothing
TIMEOUT_S = 30.0  # without a byte


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository; the hub tells the SHA-256 of large files and git's SHA-1 of small ones."""

    name: str
    size: int
    sha256: str | None
    git: str | None


@dataclass(frozen=True)
class Listing:
    """What a repository holds at a revision that is a commit."""

    repository: str
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)


def endpoint() -> str:
    """The address of the hub."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def list_files(repository: str, revision: str | None) -> Listing:
    """The files that a model needs of a repository; ModelError if it cannot be reached or holds none."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ModelError(
            f"HF_HUB_OFFLINE is set, so {repository} is not asked for: unset it, "
            "or give a folder to diffill models import"
        )
    from huggingface_hub import HfApi

    with explained(repository, revision):
        info = HfApi(endpoint=endpoint()).model_info(
            repository, revision=revision, files_metadata=True, timeout=TIMEOUT_S
        )
    siblings = info.siblings or []
    files = tuple(remote_file(one) for one in siblings if WANTED.fullmatch(one.rfilename))
    if not any(file.name.endswith(".safetensors") for file in files):
        pickled = [one.rfilename for one in siblings if one.rfilename.endswith((".bin", ".pt", ".pth"))]
        why = f"only {pickled[0]}, a pickle, which can run code" if pickled else "no weights"
        raise ModelError(f"{repository} holds no safetensors: {why}")
    if not info.sha:
        raise ModelError(f"{endpoint()} does not say which revision of {repository} it has")
    return Listing(repository, info.sha, files)


def remote_file(one: Any) -> RemoteFile:
    """A file as the hub tells of it."""
    sha256 = one.lfs.sha256 if one.lfs is not None else None
    return RemoteFile(one.rfilename, int(one.size or 0), sha256, None if sha256 else one.blob_id)


def fetch(
    listing: Listing, file: RemoteFile, folder: Path, on_bytes: OnBytes, pause: Callable[[float], None] = time.sleep
) -> str:
    """Bring one file into `folder` and return its SHA-256; what is there of it already is not fetched again.

    ModelError if the connection keeps breaking, or what arrived is not what the hub says it should be.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.is_file() and target.stat().st_size == file.size:
        total = checked(target, file)
        if total is not None:
            on_bytes(file.size)
            return total
        target.unlink()
    have = part.stat().st_size if part.is_file() else 0
    if have > file.size:
        part.unlink()
        have = 0
    on_bytes(have)
    failures = 0
    while have < file.size or not part.is_file():
        before = have
        try:
            have = stream(listing, file, part, have, on_bytes)
        except ModelError:
            raise
        except Exception as error:  # httpx's, whichever version the hub's library uses, and those of the disk
            if isinstance(error, OSError) and not type(error).__module__.startswith("http"):
                raise ModelError(f"{part} cannot be written: {error}") from error
            have = part.stat().st_size if part.is_file() else 0
            failures = 0 if have > before else failures + 1
            if failures >= ATTEMPTS:
                raise ModelError(
                    f"{file.name} broke off {failures} times in a row ({type(error).__name__}): "
                    "give the command again to go on where it stopped"
                ) from error
            if failures:
                pause(0.5 * 2**failures)
    total = checked(part, file)
    if total is None:
        part.unlink()
        raise ModelError(f"{file.name} arrived damaged: its checksum is not the hub's; give the command again")
    part.replace(target)
    return total


def stream(listing: Listing, file: RemoteFile, part: Path, have: int, on_bytes: OnBytes) -> int:
    """Append what the hub sends from byte `have` on; the bytes that are there then."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    url = hf_hub_url(listing.repository, file.name, revision=listing.revision, endpoint=endpoint())
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT_S) as response:
        if response.status_code >= 400:
            with explained(listing.repository, listing.revision):
                hf_raise_for_status(response)
        resumed = response.status_code == 206 and (response.headers.get("Content-Range") or "").startswith(
            f"bytes {have}-"
        )
        if have and not resumed:
            on_bytes(-have)  # it sends all of it again
            have = 0
        with part.open("r+b" if have else "wb") as sink:
            sink.seek(have)
            for block in response.iter_bytes():  # as it comes: what waits for a full block is lost when it breaks
                if have + len(block) > file.size:
                    raise ModelError(f"{endpoint()} sends more of {file.name} than it said there is")
                sink.write(block)
                have += len(block)
                on_bytes(len(block))
    if have < file.size:
        raise BrokenOff(f"{have} of {file.size} bytes")
    return have


class BrokenOff(Exception):
    """The connection ended in good order, and too early."""


def checked(path: Path, file: RemoteFile) -> str | None:
    """The SHA-256 of a file if it is what the hub says; None if it is not."""
    total = hashlib.sha256()
    of_git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as source:
        while block := source.read(BLOCK):
            total.update(block)
            of_git.update(block)
    if file.sha256 is not None and total.hexdigest() != file.sha256:
        return None
    if file.sha256 is None and file.git is not None and of_git.hexdigest() != file.git:
        return None
    return total.hexdigest()


@contextmanager
def explained(repository: str, revision: str | None) -> Iterator[None]:
    """Turn the library's errors into one sentence each."""
    from huggingface_hub import errors

    page = f"{endpoint()}/{repository}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{page} asks for its terms to be accepted there, and for a token of yours in HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{page} has no revision {revision}: give another by --revision, such as main") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise ModelError(f"{page} refuses access ({status}): set HF_TOKEN to a token that may read it") from error
        if status == 404:
            raise ModelError(f"{page} is not there (404): it was moved, or HF_ENDPOINT names another hub") from error
        raise ModelError(f"{page} cannot be read now (HTTP {status}): try again later") from error
    except ModelError:
        raise
    except Exception as error:
        of_network = type(error).__module__.startswith(("http", "huggingface_hub"))
        if not of_network and not isinstance(error, UnicodeError):  # the second: a name that no host can have
            raise
        raise ModelError(
            f"{endpoint()} cannot be reached ({type(error).__name__}): look at the network, "
            "or set HF_ENDPOINT to a mirror"
        ) from error
