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

from lsp_server.documents import Document

OWN = "diffill/"


class Protocol(LanguageServerProtocol):
    """One client's connection; `documents` are the files it has open, by URI."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.documents: dict[str, Document] = {}
        super().__init__(*args, **kwargs)

    def encoding(self) -> str:
        """The units of columns that were agreed on. No property: pygls looks at each of them before there is one."""
        agreed = self.workspace.position_encoding
        return str(getattr(agreed, "value", agreed))

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Read a message; our own parameters stay as they came, and a request that cannot be read is answered."""
        if "jsonrpc" not in data or not isinstance(data.get("method"), str):
            return super().structure_message(data)
        if data["method"].startswith(OWN):
            kind = JsonRPCRequestMessage if "id" in data else JsonRPCNotification
            given = {
                name: data.get(name) for name in ("id", "method", "jsonrpc", "params") if name != "id" or "id" in data
            }
            return kind(**given)  # type: ignore[arg-type]
        try:
            return super().structure_message(data)
        except JsonRpcException:
            if "id" in data:
                error = JsonRpcInvalidParams(f"the parameters of {data['method'][:60]} cannot be read")
                self._send_response(data["id"], error=error.to_response_error())
            return JsonRPCNotification(method="", jsonrpc="", params=None)  # read by nobody

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: types.DidOpenTextDocumentParams):  # type: ignore[override]
        """Take a file that the client opened."""
        item = params.text_document
        self.documents[item.uri] = Document(item.uri, item.language_id, item.version, item.text, self.encoding())
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
