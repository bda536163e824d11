"""TLS with certificates from files: a server's, checked before anybody connects, and a client's own authorities."""

from __future__ import annotations

import os
import ssl
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from model_runtime.protocol import RequestError

PASSPHRASE = "DIFFILL_TLS_PASSPHRASE"
EXPIRED, NOT_YET = 10, 9  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED and _NOT_YET_VALID


class NoPassphrase(Exception):
    """The key is encrypted, and nobody said with what."""


@dataclass
class Identity:
    """A server's certificate chain and key, as PEM files."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """What a server needs; RequestError with one sentence where clients could not use it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> float:
        """Load the files into a context, which may be in use; returns the days that the certificate has left.

        RequestError with one sentence where clients could not use them; a context that had others keeps those then.
        """
        fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load(fresh)
        left = days_left(fresh, self.certificate)
        self._load(context)
        return left

    def _load(self, context: ssl.SSLContext) -> None:
        check_pem(self.certificate, b"-----BEGIN CERTIFICATE-----", "certificate")
        check_pem(self.key, b"PRIVATE KEY-----", "private key")
        if os.name == "posix" and stat.S_IMODE(self.key.stat().st_mode) & 0o007:
            raise RequestError(f"the key in {self.key} can be read by others: chmod 600 {self.key}")
        try:
            context.load_cert_chain(self.certificate, self.key, passphrase)
        except NoPassphrase:
            raise RequestError(f"the key in {self.key} is encrypted: give its passphrase as {PASSPHRASE}") from None
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise RequestError(f"the key in {self.key} is not that of the certificate {self.certificate}") from None
            if os.environ.get(PASSPHRASE) and b"ENCRYPTED" in self.key.read_bytes():
                raise RequestError(f"the passphrase in {PASSPHRASE} does not open the key in {self.key}") from None
            why = error.reason or "not readable"
            raise RequestError(f"{self.certificate} and {self.key} cannot be used for TLS: {why}") from None


def passphrase() -> str:
    """The key's passphrase; OpenSSL would ask at the terminal for it."""
    given = os.environ.get(PASSPHRASE)
    if not given:
        raise NoPassphrase
    return given


def check_pem(path: Path, mark: bytes, what: str) -> None:
    """RequestError unless a file can be read and holds what it is to hold."""
    try:
        if mark not in path.read_bytes():
            raise RequestError(f"{path} holds no {what} in PEM")
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None


def days_left(server: ssl.SSLContext, certificate: Path) -> float:
    """How long clients will accept a server's certificate; RequestError if they do not today.

    A client in memory that trusts this very certificate shakes hands: Python reads dates of a verified peer only.
    """
    context = client_context(certificate, check_hostname=False)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server)
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    done = [False, False]
    try:
        while not all(done):
            for n, side in enumerate((client, serving)):
                try:
                    side.do_handshake()
                    done[n] = True
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == EXPIRED:
            raise RequestError(f"the certificate in {certificate} has expired: renew it") from None
        if error.verify_code == NOT_YET:
            raise RequestError(f"the certificate in {certificate} is not valid yet: is the clock right?") from None
        raise RequestError(f"no client would accept the certificate in {certificate}: {error.verify_message}") from None
    until = (client.getpeercert() or {}).get("notAfter")
    return (ssl.cert_time_to_seconds(str(until)) - time.time()) / 86400


def client_context(certificates: Path | None, check_hostname: bool = True) -> ssl.SSLContext:
    """What a client needs: it trusts the certificates of a file and no others, or those of the system.

    RequestError with one sentence if the file cannot be used.
    """
    if certificates is None:
        return ssl.create_default_context()
    check_pem(certificates, b"-----BEGIN CERTIFICATE-----", "certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a server's own certificate will do as the authority
    context.check_hostname = check_hostname
    try:
        context.load_verify_locations(certificates)
    except ssl.SSLError as error:
        raise RequestError(f"the certificates in {certificates} cannot be read: {error.reason}") from None
    return context
