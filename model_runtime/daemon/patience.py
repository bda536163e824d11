"""How long the daemon waits for a client that says nothing, or never reads: uvicorn's two protocols, with an end."""

from __future__ import annotations

import asyncio
import contextlib

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState


def hasty(head_s: float, dropped_s: float, unread_s: float) -> type[H11Protocol]:
    """uvicorn's HTTP protocol with an end to waiting.

    Closed are connections that do not send a request's head in time, whether new ones or between two requests, and
    those that send the rest of a body for long after its request was answered (a client that is cut off while it sends
    may not see its answer); cut are those that do not read their answer.
    """

    class Hasty(H11Protocol):
        head: asyncio.TimerHandle | None = None
        unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.head = self.loop.call_later(head_s, self.give_up)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self.stop(self.head)
                self.head = None
            elif self.head is None and not self.transport.is_closing():
                sending = self.conn.their_state is h11.SEND_BODY
                self.head = self.loop.call_later(dropped_s if sending else head_s, self.give_up)

        def give_up(self) -> None:
            if self.transport.get_protocol() is self:
                self.transport.close()

        def pause_writing(self) -> None:
            super().pause_writing()
            self.unread = self.loop.call_later(unread_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self.stop(self.unread)

        def connection_lost(self, exc: Exception | None) -> None:
            self.stop(self.head)
            self.stop(self.unread)
            super().connection_lost(exc)

        @staticmethod
        def stop(timer: asyncio.TimerHandle | None) -> None:
            if timer is not None:
                timer.cancel()

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

        def shutdown(self) -> None:
            with contextlib.suppress(InvalidState):  # the client is saying goodbye already
                super().shutdown()
                return
            self.transport.close()

        def cut_soon(self) -> None:
            if not self.disconnected and self.cut is None:
                self.cut = self.loop.call_later(close_s, self.transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.cut is not None:
                self.cut.cancel()
            super().connection_lost(exc)

    return Firm
