"""Certificates of the tests' own authority, as files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme

from model_runtime.daemon.tls import Identity


@dataclass
class Papers:
    """A server's certificate and key, and the authority's certificate, which clients trust."""

    certificate: Path
    key: Path
    authority: Path

    @property
    def identity(self) -> Identity:
        return Identity(self.certificate, self.key)


def issue(folder: Path, *names: str, days: float = 30.0, starts: float = -1.0, name: str = "server") -> Papers:
    """A certificate for some names (this machine's if none are given), valid between two days from now."""
    now = datetime.now(timezone.utc)
    authority = trustme.CA()
    leaf = authority.issue_cert(
        *(names or ("127.0.0.1", "localhost", "::1")),
        not_before=now + timedelta(days=starts),
        not_after=now + timedelta(days=days),
    )
    papers = Papers(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}-authority.pem")
    papers.certificate.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    papers.key.touch(mode=0o600)
    papers.key.write_bytes(leaf.private_key_pem.bytes())
    papers.authority.write_bytes(authority.cert_pem.bytes())
    return papers
