"""A server elsewhere: its address, the token for it, and whom to believe that it is the one.

`DIFFILL_SERVER` names the address (`wss://host:port`), `DIFFILL_TOKEN` the token, and `DIFFILL_CERTIFICATES` a file of
certificates (PEM) to trust instead of the system's. Nothing here writes or logs a token.
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from model_runtime.daemon.addresses import in_url, is_loopback
from model_runtime.daemon.discovery import TOKEN
from model_runtime.daemon.tls import client_context
from model_runtime.home import at_home
from model_runtime.protocol import RequestError

PORT = 443


@dataclass(frozen=True)
class Remote:
    """A server elsewhere; `certificates` are the only ones to trust, none: the system's."""

    address: str  # as a URL: wss://host:port/path
    token: str = field(repr=False)
    certificates: Path | None = None

    def context(self) -> ssl.SSLContext | None:
        """What TLS needs; None for an address without it. RequestError if the certificates cannot be used."""
        return client_context(self.certificates) if self.address.startswith("wss:") else None


def remote_of(address: Any, token: Any, certificates: Any = None) -> Remote:
    """A server from what a user wrote; RequestError with one sentence, which never repeats the token."""
    if not isinstance(address, str) or not address.strip():
        raise RequestError("the server's address is a text like wss://host:port")
    try:
        parts = urlsplit(address.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise RequestError("the server's address has no port between 0 and 65535, or no host") from None
    if parts.scheme not in ("wss", "ws") or not host or not is_host(host):
        raise RequestError("the server's address begins with wss:// and names a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise RequestError("the server's address is wss://host:port and nothing more: the token is given apart")
    if parts.scheme == "ws" and not is_loopback(host):
        raise RequestError("without TLS (ws://) only this machine is asked: the address must begin with wss://")
    if not isinstance(token, str) or not re.fullmatch(TOKEN, token):
        raise RequestError("the server's token is missing, or has not 16 to 256 visible ASCII characters")
    if certificates is not None and (not isinstance(certificates, str | Path) or not str(certificates)):
        raise RequestError("the certificates to trust are the path of a file")
    authority = in_url(host) + ("" if port is None else f":{port}")
    path = None if certificates is None else at_home(certificates)
    return Remote(f"{parts.scheme}://{authority}{parts.path or '/'}", token, path)


def is_host(name: str) -> bool:
    """Whether a host's name can be looked up: its parts have 1 to 63 letters of one alphabet or another."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def remote_of_environment() -> Remote | None:
    """The server that the environment names; None if it names none, RequestError if it cannot be used."""
    address = os.environ.get("DIFFILL_SERVER")
    if not address:
        return None
    return remote_of(address, os.environ.get("DIFFILL_TOKEN"), os.environ.get("DIFFILL_CERTIFICATES") or None)


def trouble_with(error: ssl.SSLError) -> str:
    """A failed handshake in words a user can act on."""
    if isinstance(error, ssl.SSLCertVerificationError):
        told = error.verify_message or "it is not trusted"
        return f"its certificate was not accepted ({told}); a private authority's is given as a file of certificates"
    return f"TLS failed ({error.reason or 'no reason given'})"
