"""Start the server on standard input and output, or for one client on a port."""

from __future__ import annotations

import logging
import os
import socket
import sys

from lsp_server.server import server
from model_runtime.protocol import RequestError


def run(address: tuple[str, int] | None = None) -> int:
    """Serve until the client leaves; 0 if it asked for the shutdown first, as the protocol wants it.

    pygls' log lines hold whole messages, and with them source text: they are switched off.
    """
    logging.getLogger("pygls").setLevel(logging.CRITICAL + 1)
    if address is None:
        serve_stdio()
    else:
        serve_port(*address)
    return 0 if server.protocol._shutdown else 1


def serve_stdio() -> None:
    """Serve on a copy of standard output; what anything else prints goes to standard error."""
    sys.stdout.flush()
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as output:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        server.start_io(sys.stdin.buffer, output)


def serve_port(host: str, port: int) -> None:
    """Serve the first client that connects."""
    try:
        with socket.create_server((host, port)) as listening:
            print(f"diffill lsp listens on {host}:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
            connection, _ = listening.accept()
    except OSError as error:
        raise RequestError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    with connection, connection.makefile("rb") as incoming, connection.makefile("wb") as outgoing:
        server.start_io(incoming, outgoing)
