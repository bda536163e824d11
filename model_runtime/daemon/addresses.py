"""Addresses: which are this machine's own, and how one is written in a URL."""

from __future__ import annotations

import ipaddress

HOST = "127.0.0.1"


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can connect to a host's address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reachable(host: str) -> str:
    """The address at which a program of this machine connects to what listens on a host."""
    return {"0.0.0.0": HOST, "": HOST, "::": "::1"}.get(host, host)


def in_url(host: str) -> str:
    """A host as a URL has it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
