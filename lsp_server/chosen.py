"""Code actions that were chosen, and the commands of the same tasks: how they reach the model and the editor."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from lsp_server.requests import Tell
from lsp_server.session import Session
from lsp_server.work import with_progress
from model_runtime.protocol import FillRequest, FillResult, Frame, RewriteRequest

T = TypeVar("T")


async def offered(
    session: Session, params: types.CodeActionParams, capabilities: types.ClientCapabilities
) -> list[types.CodeAction | types.Command]:
    """What can be done at a place; nothing in a file that the model may not see."""
    from lsp_server.actions import code_actions  # the parsers load after the client has its first answer

    document = session.document(params.text_document.uri)
    await session.check(document)
    instruct = session.instruct_command if session.status.instructions else None
    return code_actions(document, params.range, params.context, capabilities, instruct)


async def resolved(
    session: Session, action: types.CodeAction, capabilities: types.ClientCapabilities
) -> types.CodeAction:
    """An action with its edit."""
    from lsp_server.actions import resolve

    task = Task(session)
    return await resolve(action, task.document, capabilities, task.run)


async def executed(
    session: Session, server: LanguageServer, command: str, arguments: tuple[Any, ...]
) -> types.WorkspaceEdit | None:
    """A command's edit, applied by the editor; None where the user stopped it from the progress bar."""
    from lsp_server.actions import LABELS, execute

    task = Task(session)
    capabilities = server.client_capabilities
    work = execute(
        command, as_asked(session, arguments), task.document, capabilities, task.run, server.workspace_apply_edit_async
    )
    return await with_bar(server, LABELS.get(command, "Diffill"), work)


def as_asked(session: Session, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with the version that the file has now: what is typed while the bar is made may move a range."""
    first = arguments[0] if arguments else None
    if not isinstance(first, dict) or not isinstance(first.get("uri"), str) or first.get("version") is not None:
        return arguments
    opened = session.documents.get(first["uri"])
    return ({**first, "version": opened.version}, *arguments[1:]) if opened else arguments


async def with_bar(server: LanguageServer, title: str, work: Coroutine[Any, Any, T]) -> T | None:
    """Work under a progress bar, where the client can show one."""
    window = server.client_capabilities.window
    if not (window and window.work_done_progress):
        return await work
    token = f"diffill-{uuid.uuid4()}"
    try:
        await server.work_done_progress.create_async(token)
    except JsonRpcException:  # it can, and will not
        return await work
    return await with_progress(server.work_done_progress, token, title, work)


async def proposed(session: Session, params: Any, tell: Tell) -> dict[str, Any]:
    """What a command would do, for an editor that shows it first."""
    from lsp_server.proposals import propose

    task = Task(session)
    return await propose(params, task.document, task.run, tell)


class Task:
    """One task's way to the model: the document it is about is checked before anything is sent."""

    def __init__(self, session: Session):
        self.session = session
        self.uri: str | None = None

    def document(self, uri: str) -> Any:
        """The open document that the task names."""
        self.uri = uri
        return self.session.document(uri)

    async def run(
        self, request: FillRequest | RewriteRequest, on_frame: Callable[[Frame], None] | None = None
    ) -> FillResult:
        """Ask the model, and keep what it said for diffill/lastFill."""
        assert self.uri is not None  # a task names its document first
        session, document = self.session, self.session.document(self.uri)
        await session.check(document)
        if isinstance(request, RewriteRequest) and request.instruction is not None:
            await session.check_instructions()
        asked = document.with_text(request.text)
        if isinstance(request, FillRequest):
            result = await session.runtime.fill(request, on_frame)
        else:
            result = await session.runtime.rewrite(request, on_frame)
        session.remember(asked, result)
        session.status.change(silence=None, model=result.model, latency_ms=result.timing_ms.get("total"))
        return result
