"""The server's features: each handler translates between the editor's words and the functions that do the work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, TypeVar

from lsprotocol import types
from pygls.exceptions import FeatureRequestError, JsonRpcException, JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

from lsp_server import chosen, configuration, elsewhere, requests, suggest
from lsp_server.progress import LoadingBar
from lsp_server.runtime import Runtime, State
from lsp_server.session import NotOpen, Session
from lsp_server.settings import read_settings
from lsp_server.silence import Silence
from lsp_server.status import Status
from lsp_server.wire import Protocol
from model_runtime import __version__
from model_runtime.protocol import DiffillError, RequestError

T = TypeVar("T")
REQUEST_FAILED = -32803
CLIENT_SECONDS = 5.0  # a client that does not answer for so long keeps what it started us with
ACTION_OPTIONS = types.CodeActionOptions(
    code_action_kinds=[types.CodeActionKind.RefactorRewrite], resolve_provider=True
)
CHANGE_STATUS = "diffill/didChangeStatus"


class Server(LanguageServer):
    """A language server with our protocol and one session."""

    protocol: Protocol

    def __init__(self) -> None:
        super().__init__("diffill", __version__, protocol_cls=Protocol, max_workers=2)
        self.bar = LoadingBar(self)
        self.background: set[asyncio.Task[Any]] = set()
        runtime = Runtime(self.tell_state, lambda progress: self.start(self.bar.show(progress)))
        status = Status(lambda outline: self.protocol.notify(CHANGE_STATUS, outline))
        self.session = Session(runtime, status, self.protocol.documents, self.show)
        self.suggestions = suggest.Suggestions()
        self.problem = ""  # with how the client started us, told as soon as it listens

    def start(self, work: Any) -> None:
        """Run a coroutine beside the requests; it is kept until it ends."""
        task = asyncio.ensure_future(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def tell_state(self, state: State) -> None:
        """The model process does something else now."""
        if self.session.settings.enabled:
            self.session.status.change(state=state)

    def tell_progress(self, token: Any, value: Any) -> None:
        """One $/progress under a token of the client's."""
        self.protocol.notify(types.PROGRESS, types.ProgressParams(token, value))

    def show(self, message: str) -> None:
        """Tell the user something they must know."""
        self.window_show_message(types.ShowMessageParams(types.MessageType.Warning, message))

    def report_server_error(self, error: Exception, source: Any) -> None:
        """What goes wrong inside is for the log: the kind of error, never its text, which may hold source code.

        A request's error is not told again: its answer says it.
        """
        if source is FeatureRequestError:
            return
        self.window_log_message(
            types.LogMessageParams(types.MessageType.Error, f"internal error: {type(error).__name__}")
        )


server = Server()


@server.feature(types.INITIALIZE)
def initialize(ls: Server, params: types.InitializeParams) -> None:
    """Take what the client starts us with; nothing is sent before it has our answer."""
    given, ls.session.trusted = configuration.from_options(params.initialization_options)
    ls.session.start_options = given
    ls.session.instruct_command = configuration.instruction_command(params.initialization_options)
    ls.session.runtime.server, ls.problem = elsewhere.at_start(params.initialization_options)
    ls.session.status.server = ls.session.runtime.address
    ls.protocol.client = params.client_info.name.lower() if params.client_info else ""


@server.feature(types.INITIALIZED)
async def initialized(ls: Server, params: types.InitializedParams) -> None:
    """Ask for settings and for news of them, and load meanwhile what the first suggestion will need."""
    ls.start(asyncio.to_thread(suggest.load_parsers))
    take_settings(ls, ls.session.start_options)
    if ls.problem:
        ls.session.tell_once(ls.problem)
    await refresh_settings(ls)
    ls.session.ready.set()
    with contextlib.suppress(JsonRpcException):
        await configuration.watch(ls)


@server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
async def configuration_changed(ls: Server, params: types.DidChangeConfigurationParams) -> None:
    """Take the client's new settings."""
    if configuration.can_ask(ls.client_capabilities):
        await refresh_settings(ls)
    else:
        take_settings(ls, configuration.from_notification(params))


@server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
async def folders_changed(ls: Server, params: types.DidChangeWorkspaceFoldersParams) -> None:
    """Other folders, other .gitignore files and settings."""
    ls.session.git.forget()
    for folder in params.event.removed:
        ls.session.folders.pop(folder.uri, None)
    await refresh_settings(ls)


@server.feature(types.TEXT_DOCUMENT_DID_OPEN)
async def opened(ls: Server, params: types.DidOpenTextDocumentParams) -> None:
    """Have the model loaded by the time that something is typed, where suggestions come by themselves."""
    ls.suggestions.forget(params.text_document.uri)
    await load_for(ls.session, params.text_document.uri)


@server.feature(types.TEXT_DOCUMENT_DID_SAVE)
def saved(ls: Server, params: types.DidSaveTextDocumentParams) -> None:
    """A saved .gitignore may exclude other files."""
    if params.text_document.uri.endswith("/.gitignore"):
        ls.session.git.forget()


@server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
def closed(ls: Server, params: types.DidCloseTextDocumentParams) -> None:
    """End what runs for a file, and forget what is known of it."""
    ls.suggestions.forget(params.text_document.uri)
    ls.session.git.known.pop(params.text_document.uri, None)


# Without options pygls 2.1.1 does not advertise inline completion.
@server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
async def inline_completion(ls: Server, params: types.InlineCompletionParams) -> types.InlineCompletionList | None:
    """Complete at the cursor."""
    return await suggest.complete(ls.session, ls.suggestions, params)


@server.command(suggest.ACCEPTED)
def accepted(ls: Server, *names: Any) -> None:
    """A suggestion was accepted: the item's command says so."""
    ls.session.status.counters.accepted += 1
    ls.session.accept(names[0] if names else None)


@server.feature(types.TEXT_DOCUMENT_CODE_ACTION, ACTION_OPTIONS)
async def code_actions(ls: Server, params: types.CodeActionParams) -> list[types.CodeAction | types.Command] | None:
    """Say what can be done at a cursor or with a selection."""
    with contextlib.suppress(Silence, NotOpen):  # an excluded file has no actions
        return await chosen.offered(ls.session, params, ls.client_capabilities)
    return None


@server.feature(types.CODE_ACTION_RESOLVE)
async def resolve_code_action(ls: Server, action: types.CodeAction) -> types.CodeAction:
    """Work out the edit of an action."""
    return await answered(ls, chosen.resolved(ls.session, action, ls.client_capabilities))


@server.command("diffill.fillHoles")
async def fill_holes(ls: Server, *arguments: Any) -> types.WorkspaceEdit | None:
    """Fill the holes of a file or a range."""
    return await answered(ls, chosen.executed(ls.session, ls, "diffill.fillHoles", arguments))


@server.command("diffill.regenerateSelection")
async def regenerate_selection(ls: Server, *arguments: Any) -> types.WorkspaceEdit | None:
    """Write a selection anew."""
    return await answered(ls, chosen.executed(ls.session, ls, "diffill.regenerateSelection", arguments))


@server.command("diffill.regenerateFunction")
async def regenerate_function(ls: Server, *arguments: Any) -> types.WorkspaceEdit | None:
    """Write the body of the function at a place anew."""
    return await answered(ls, chosen.executed(ls.session, ls, "diffill.regenerateFunction", arguments))


@server.command("diffill.regenerateBlock")
async def regenerate_block(ls: Server, *arguments: Any) -> types.WorkspaceEdit | None:
    """Write the block at a place anew."""
    return await answered(ls, chosen.executed(ls.session, ls, "diffill.regenerateBlock", arguments))


@server.feature("diffill/didShow")
def shown(ls: Server, params: Any) -> None:
    """An editor that can tell says that a suggestion was seen."""
    ls.session.status.counters.shown += 1


@server.feature("diffill/fill")
async def fill(ls: Server, params: Any) -> dict[str, Any]:
    """Fill ranges."""
    return await answered(ls, requests.fill_ranges(ls.session, params, ls.tell_progress))


@server.feature("diffill/rewrite")
async def rewrite(ls: Server, params: Any) -> dict[str, Any]:
    """Write a range anew."""
    return await answered(ls, requests.rewrite_range(ls.session, params, ls.tell_progress))


@server.feature("diffill/propose")
async def propose(ls: Server, params: Any) -> dict[str, Any]:
    """Work out what a command would do, for an editor that shows it first."""
    uri = params.get("uri") if isinstance(params, dict) else None
    return await answered(ls, chosen.proposed(ls.session, params, ls.tell_progress), uri)


@server.feature("diffill/instructions")
async def instructions(ls: Server, params: Any) -> dict[str, Any]:
    """Say whether an instruction can be given about a file, before the user is asked for one."""
    return await answered(ls, requests.instructions(ls.session, params))


@server.feature("diffill/connect")
async def connect(ls: Server, params: Any) -> dict[str, Any]:
    """Ask a server elsewhere instead of this machine's daemon, or the other way round."""
    answer = await answered(ls, elsewhere.connect(ls.session, params))
    ls.start(load_for(ls.session, *ls.session.documents))
    return answer


@server.feature("diffill/pauseFiles")
def pause_files(ls: Server, params: Any) -> None:
    """Take the files that the user paused: {uris}, which replaces what was said before."""
    uris = params.get("uris") if isinstance(params, dict) else None
    if isinstance(uris, list) and all(isinstance(uri, str) for uri in uris):
        ls.session.paused = frozenset(uris)


@server.feature("diffill/status")
def status(ls: Server, params: Any) -> dict[str, Any]:
    """Say how things stand."""
    return ls.session.status.as_json()


@server.feature("diffill/lastFill")
def last_fill(ls: Server, params: Any) -> dict[str, Any] | None:
    """The last fill, token by token; null before the first."""
    return ls.session.last


@server.feature("diffill/checksum")
def checksum(ls: Server, params: Any) -> dict[str, Any]:
    """What the server holds of a file, to compare with what the editor holds."""
    try:
        return requests.checksum(ls.session, params)
    except (RequestError, NotOpen) as error:
        raise JsonRpcInvalidParams(str(error)) from None


@server.feature(types.SHUTDOWN)
async def shutdown(ls: Server, params: Any) -> None:
    """Leave the daemon."""
    for uri in list(ls.suggestions.running):
        ls.suggestions.forget(uri)
    await ls.session.runtime.close()


async def answered(ls: Server, work: Awaitable[T], uri: Any = None) -> T:
    """The result of a request of ours; what a user is told becomes an error answer with one sentence."""
    try:
        return await work
    except Silence as silence:
        ls.session.silence(silence, uri if isinstance(uri, str) else None)
        raise JsonRpcException(silence.sentence(), REQUEST_FAILED, {"reason": silence.reason}) from None
    except (RequestError, NotOpen) as error:
        raise JsonRpcInvalidParams(str(error)) from None
    except DiffillError as error:
        raise JsonRpcException(str(error), REQUEST_FAILED) from None


async def load_for(session: Session, *uris: str) -> None:
    """Have the model loaded if it may see one of these files and suggestions come by themselves there."""
    for uri in uris:
        with contextlib.suppress(Silence, NotOpen):
            await session.check(session.document(uri))
            if session.settings_for(uri).automatic:
                await session.learn()
                return


def take_settings(ls: Server, given: Any) -> None:
    """Let settings hold, and say what is wrong with them."""
    read, before = read_settings(given), ls.session.runtime.model
    ls.session.take_settings(read.settings, read.problems)
    if read.settings.model != before:
        ls.start(load_for(ls.session, *ls.session.documents))


async def refresh_settings(ls: Server) -> None:
    """Ask the client for its settings where it can be asked, the window's and each folder's.

    What it does not know leaves the start options, and a folder the window's. The model is the window's.
    """
    if configuration.can_ask(ls.client_capabilities):
        folders = list(ls.workspace.folders)
        with contextlib.suppress(JsonRpcException, asyncio.TimeoutError):
            given, *by_folder = await asyncio.wait_for(configuration.ask(ls, folders), CLIENT_SECONDS)
            read = [(folder, read_settings(one)) for folder, one in zip(folders, by_folder) if one is not None]  # noqa: B905
            ls.session.folders = {folder: one.settings for folder, one in read}
            for problem in (problem for _, one in read for problem in one.problems):
                ls.session.tell_once(problem)
            if given is not None:
                take_settings(ls, given)
