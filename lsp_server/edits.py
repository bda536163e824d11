"""Fills as edits that an editor can preview, confirm and undo, in the form that it understands."""

from __future__ import annotations

from collections.abc import Sequence

from lsprotocol import types

from lsp_server.documents import Document
from model_runtime.protocol import HoleFill


def workspace_edit(
    document: Document, fills: Sequence[HoleFill], label: str, capabilities: types.ClientCapabilities
) -> types.WorkspaceEdit:
    """An edit that puts `fills` (disjoint, in order) into a document, for this version of it only.

    Where the client knows change annotations, every fill has one that asks for a confirmation and says how sure the
    model was; a client that knows no versioned changes gets plain ones.
    """
    known = workspace_edit_support(capabilities)
    ranges = [document.range_of(fill.start, fill.end) for fill in fills]
    if not known.document_changes:
        plain = [types.TextEdit(range_, fill.text) for range_, fill in zip(ranges, fills, strict=True)]
        return types.WorkspaceEdit(changes={document.uri: plain})
    identifier = types.OptionalVersionedTextDocumentIdentifier(document.uri, document.version)
    edits: list[types.TextEdit | types.AnnotatedTextEdit | types.SnippetTextEdit] = []
    annotations: dict[str, types.ChangeAnnotation] = {}
    for number, (range_, fill) in enumerate(zip(ranges, fills, strict=True), 1):
        if known.change_annotation_support is None:
            edits.append(types.TextEdit(range_, fill.text))
            continue
        name = f"diffill-{number}"
        sure = f"line {range_.start.line + 1}, written by a model, {fill.confidence:.0%} sure"
        annotations[name] = types.ChangeAnnotation(label, needs_confirmation=True, description=sure)
        edits.append(types.AnnotatedTextEdit(name, range_, fill.text))
    changes = [types.TextDocumentEdit(identifier, edits)]
    return types.WorkspaceEdit(document_changes=changes, change_annotations=annotations or None)


def apply_params(
    edit: types.WorkspaceEdit, label: str, capabilities: types.ClientCapabilities
) -> types.ApplyWorkspaceEditParams:
    """What asks a client to apply an edit; marked as a refactoring where the client reads that."""
    metadata = types.WorkspaceEditMetadata(is_refactoring=True)
    known = workspace_edit_support(capabilities).metadata_support
    return types.ApplyWorkspaceEditParams(edit, label, metadata if known else None)


def workspace_edit_support(capabilities: types.ClientCapabilities) -> types.WorkspaceEditClientCapabilities:
    """What a client says of workspace edits, which may be nothing."""
    workspace = capabilities.workspace
    return (workspace and workspace.workspace_edit) or types.WorkspaceEditClientCapabilities()
