"""How long the daemon waits for a client that says nothing, or never reads: uvicorn's two protocols, with an end."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


def hasty(first_request_s: float) -> type[H11Protocol]:
    """uvicorn's HTTP protocol, closing connections that are opened and then say nothing."""

    class Hasty(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.first_request = self.loop.call_later(first_request_s, self.give_up)

        def give_up(self) -> None:
            if self.cycle is None and self.transport.get_protocol() is self:
                self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self.first_request.cancel()
            super().connection_lost(exc)

    return Hasty


def firm(close_s: float) -> type[WebSocketsSansIOProtocol]:
    """uvicorn's websocket protocol, cutting connections that cannot be closed because nobody reads what is left."""

    class Firm(WebSocketsSansIOProtocol):
        cut: asyncio.TimerHandle | None = None

        async def run_asgi(self) -> None:
            await super().run_asgi()
            self.cut_soon()

        def keepalive_timeout(self) -> None:
            super().keepalive_timeout()
            self.cut_soon()

        def cut_soon(self) -> None:
            if not self.disconnected and self.cut is None:
                self.cut = self.loop.call_later(close_s, self.transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.cut is not None:
                self.cut.cancel()
            super().connection_lost(exc)

    return Firm
