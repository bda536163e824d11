"""A server elsewhere instead of this machine's daemon: named at the start, by the environment, or by a request."""

from __future__ import annotations

from typing import Any

from lsp_server.configuration import to_plain
from lsp_server.session import Session
from model_runtime.protocol import RequestError
from model_runtime.remote import Remote, remote_of, remote_of_environment

FIELDS = ("address", "token", "certificates")


def at_start(options: Any) -> tuple[Remote | None, str]:
    """The server that `initializationOptions.server` or else the environment names, and what is wrong with it."""
    try:
        given = to_plain(options)
        named = given.get("server") if isinstance(given, dict) else None
        if isinstance(named, dict) and named.get("address") is not None:
            return server_of(named), ""
        return remote_of_environment(), ""
    except RequestError as error:
        return None, f"Diffill asks this machine's model, because {error}."


async def connect(session: Session, params: Any) -> dict[str, Any]:
    """Ask another server from now on, or (address null) this machine's daemon; says which.

    RequestError or DiffillError, and everything stays as it was, if it is not named well or does not answer.
    """
    given = to_plain(params)
    if not isinstance(given, dict) or "address" not in given:
        raise RequestError("diffill/connect wants an address, or null for this machine's own model")
    if unknown := sorted(set(given) - set(FIELDS)):
        raise RequestError(f"diffill/connect has no parameter {unknown[0][:40]!r}")
    server = None if given["address"] is None else server_of(given)
    await session.runtime.use(server)
    session.status.silence = None  # it was about the other one
    session.status.change(server=session.runtime.address, model=None, instructions=None)
    return {"server": session.runtime.address}


def server_of(given: dict[str, Any]) -> Remote:
    """A server as a client names it."""
    return remote_of(given.get("address"), given.get("token"), given.get("certificates"))
