"""pygls' protocol with our documents, our methods' parameters as plain JSON, and an answer to what is malformed.

pygls 2.1.1 ends lines at form feeds and other characters where no editor does, so its documents are not used. What it
cannot read it leaves unanswered, so a client would wait for ever.
"""

from __future__ import annotations

from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.protocol import JsonRPCRequestMessage, LanguageServerProtocol, lsp_method
from pygls.protocol.json_rpc import JsonRPCNotification

from lsp_server.documents import LF_EDITORS, Document

OWN = "diffill/"


class Protocol(LanguageServerProtocol):
    """One client's connection; `documents` are the files it has open, by URI, `client` is its name in lower case."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.documents: dict[str, Document] = {}
        self.client = ""
        super().__init__(*args, **kwargs)

    def encoding(self) -> str:
        """The units of columns that were agreed on. No property: pygls looks at each of them before there is one.

        lsp-mode before 10 agrees on nothing and counts characters, whatever the protocol takes for granted.
        """
        general = self._server.client_capabilities.general
        if self.client == "emacs" and not (general and general.position_encodings):
            return "utf-32"
        agreed = self.workspace.position_encoding
        return str(getattr(agreed, "value", agreed))

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Read a message; our own parameters stay as they came, and a request that cannot be read is answered."""
        method = data.get("method")
        if "jsonrpc" in data and isinstance(method, str) and method.startswith(OWN):
            given = {"method": method, "jsonrpc": data["jsonrpc"], "params": data.get("params")}
            return JsonRPCRequestMessage(id=data["id"], **given) if "id" in data else JsonRPCNotification(**given)
        try:
            return super().structure_message(data)
        except JsonRpcException:
            self.answer_unread(data)
            return JsonRPCNotification(method="", jsonrpc="", params=None)  # read by nobody

    def answer_unread(self, data: dict[str, Any]) -> None:
        """Let nobody wait for ever: a request gets an error answer, and who waits for an answer gets an error."""
        if "id" not in data:
            return
        if "method" in data:
            error = JsonRpcInvalidParams(f"the parameters of {str(data['method'])[:60]} cannot be read")
            self._send_response(data["id"], error=error.to_response_error())
        else:
            error = JsonRpcInvalidParams("the client's answer cannot be read")
            self._handle_response(data["id"], error=error.to_response_error())

    @lsp_method(types.SHUTDOWN)
    def lsp_shutdown(self, *args: Any) -> Any:
        """Run the server's handler, then end what still waits; pygls would stumble over its own list of it."""
        if (handler := self.fm.features.get(types.SHUTDOWN)) is not None:
            yield handler, args, None
        current = self.msg_id
        for number, future in list(self._request_futures.items()):
            if number != current and not future.done():
                future.cancel()
        self._shutdown = True

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: types.DidOpenTextDocumentParams):  # type: ignore[override]
        """Take a file that the client opened."""
        item = params.text_document
        lf_lines = self.client in LF_EDITORS and ("\n" in item.text or "\r" not in item.text)
        document = Document(item.uri, item.language_id, item.version, item.text, self.encoding(), lf_lines=lf_lines)
        self.documents[item.uri] = document
        yield from self.hand_on(types.TEXT_DOCUMENT_DID_OPEN, params)

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: types.DidChangeTextDocumentParams):
        """Apply what the client changed."""
        if document := self.documents.get(params.text_document.uri):
            document.apply(params.content_changes, params.text_document.version)
        yield from self.hand_on(types.TEXT_DOCUMENT_DID_CHANGE, params)

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: types.DidCloseTextDocumentParams):
        """Let go of a file."""
        self.documents.pop(params.text_document.uri, None)
        yield from self.hand_on(types.TEXT_DOCUMENT_DID_CLOSE, params)

    def hand_on(self, method: str, params: Any) -> Any:
        """Call the server's own handler of a notification, if there is one; a generator, as pygls wants it."""
        if (handler := self.fm.features.get(method)) is not None:
            yield handler, (params,), None
