"""A model that loads, as the editor's progress bar shows it."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

if TYPE_CHECKING:
    from model_runtime.client import Progress


class LoadingBar:
    """One bar at a time, from a model's "loading" to whatever comes next."""

    def __init__(self, server: LanguageServer):
        self.server = server
        self.token: str | None = None

    async def show(self, progress: Progress) -> None:
        """Begin the bar, or end it; clients that cannot show one are left alone."""
        window = self.server.client_capabilities.window
        if progress.state == "loading" and self.token is None and window and window.work_done_progress:
            token = self.token = f"diffill-{uuid.uuid4()}"
            with contextlib.suppress(JsonRpcException):
                await self.server.work_done_progress.create_async(token)
                begin = types.WorkDoneProgressBegin(title="Diffill", message=f"loading {progress.model}")
                self.server.work_done_progress.begin(token, begin)
                if self.token is None:  # it was loaded while the client made the bar
                    self.server.work_done_progress.end(token, types.WorkDoneProgressEnd())
        elif progress.state != "loading" and self.token is not None:
            token, self.token = self.token, None
            if token in self.server.work_done_progress.tokens:
                self.server.work_done_progress.end(token, types.WorkDoneProgressEnd(message=progress.state))
                del self.server.work_done_progress.tokens[token]
