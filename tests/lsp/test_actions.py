"""Code actions and commands: what is offered to which client, what is asked of the model, and what comes of it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types
from lsprotocol.converters import get_converter
from pygls.progress import Progress

from lsp_server import actions
from lsp_server.actions import BLOCK, FILL_HOLES, FUNCTION, SELECTION, Task, code_actions, execute, resolve
from lsp_server.documents import Document
from lsp_server.silence import Silence
from lsp_server.work import with_progress
from model_runtime.protocol import FillResult, HoleFill, RequestError, TokenInfo, apply_fills

URI = "file:///project/it.py"
TEXT = '''\
def area(w, h):
    """Says how large."""
    return w * h


def later(items):
    ...


x = "🙂" + <FILL>
'''
VSCODE = {
    "workspace": {
        "applyEdit": True,
        "workspaceEdit": {
            "documentChanges": True,
            "changeAnnotationSupport": {"groupsOnLabel": True},
            "metadataSupport": True,
        },
    },
    "textDocument": {
        "codeAction": {
            "codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["", "refactor"]}},
            "dataSupport": True,
            "resolveSupport": {"properties": ["edit", "command"]},
            "tagSupport": {"valueSet": [1]},
        }
    },
}
EMACS = {
    "workspace": {"workspaceEdit": {"documentChanges": True}},
    "textDocument": {
        "codeAction": {"codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["refactor"]}}},
    },
}
converter = get_converter()


def client(capabilities=None):
    return converter.structure(capabilities or {}, types.ClientCapabilities)


def document(text=TEXT):
    return Document(URI, "python", 7, text)


def context(**options):
    return types.CodeActionContext([], **options)


def range_of(document, part):
    start = document.text.index(part)
    return document.range_of(start, start + len(part))


def result(holes, end="complete", alternatives=()):
    return FillResult(holes, list(alternatives), end, 4, "tiny", 0, {"total": 1.0})


def answering(*texts, seen=None, end="complete"):
    """A model that writes these texts into the holes, or the one into the range."""

    async def run(request):
        if seen is not None:
            seen.append(request)
        spans = getattr(request, "holes", None) or [request.range]
        fills = [
            HoleFill(a, b, text, 0.8, "fixed", [TokenInfo(0, len(text), 0.8, 1)] if text else [])
            for (a, b), text in zip(spans, texts, strict=True)
        ]
        return result(fills, end)

    return run


def resolved(action, document, run, capabilities=VSCODE):
    return asyncio.run(resolve(action, lambda uri: document, client(capabilities), run)).edit


def action_for(task):
    return types.CodeAction("It", data={"command": task.command, **task.as_json()})


def apply_edit(document, edit):
    """The text after an edit, as a client would have it."""
    edits = edit.changes[URI] if edit.changes else edit.document_changes[0].edits
    text = document.text
    for change in reversed(edits):
        start, end = document.span_of(change.range)
        text = text[:start] + change.new_text + text[end:]
    return text


def titles(document, range_, capabilities=VSCODE, **options):
    return [action.title for action in code_actions(document, range_, context(**options), client(capabilities))]


def test_what_is_offered_at_a_cursor():
    doc = document()
    at = doc.range_of(*[doc.text.index("w * h")] * 2)
    assert titles(doc, at) == ["Fill 2 holes in this file", "Regenerate function area", "Regenerate block"]
    automatic = types.CodeActionTriggerKind.Automatic
    assert titles(doc, at, trigger_kind=automatic) == ["Fill 2 holes in this file"]
    assert titles(document("x = 1\n"), at, trigger_kind=automatic) == []


def test_what_is_offered_for_a_selection():
    doc = document()
    assert titles(doc, range_of(doc, '"🙂" + <FILL>')) == [
        "Fill 2 holes in this file",
        "Fill the hole in the selection",
        "Regenerate selection (light)",
        "Regenerate selection (medium)",
        "Regenerate selection (strong)",
        "Regenerate block",
    ]


@pytest.mark.parametrize(
    ("only", "number"),
    [
        ("refactor", 3),
        ("refactor.rewrite", 3),
        ("refactor.rewrite.diffill.fillHoles", 1),
        ("quickfix", 0),
        ("refac", 0),
    ],
)
def test_only_the_kinds_asked_for(only, number):
    doc = document()
    at = doc.range_of(*[doc.text.index("w * h")] * 2)
    assert len(titles(doc, at, only=[only])) == number


def test_the_form_follows_the_client():
    doc = document()
    at = range_of(doc, "w * h")
    offered = code_actions(doc, at, context(), client(VSCODE))
    assert all(a.data and a.tags == [types.CodeActionTag.LlmGenerated] and not a.command for a in offered)
    offered = code_actions(doc, at, context(), client(EMACS))
    assert all(not a.data and not a.tags and a.command.arguments[0]["uri"] == URI for a in offered)
    offered = code_actions(doc, at, context(), client())
    assert all(isinstance(a, types.Command) for a in offered)
    light = next(a for a in offered if "light" in a.title)
    task = actions.read_task(light.command, light.arguments)
    assert (task.command, task.strength, task.version, task.range) == (SELECTION, 0.3, 7, at)


def test_data_survives_the_wire():
    doc = document()
    for action in code_actions(doc, range_of(doc, "w * h"), context(), client(VSCODE)):
        again = converter.structure(converter.unstructure(action), types.CodeAction)
        assert actions.read_task(again.data["command"], [again.data]).as_json().items() <= action.data.items()


def test_holes_are_filled_with_a_confirmed_edit_of_this_version():
    doc, seen = document(), []
    edit = resolved(action_for(Task(FILL_HOLES, URI, 7)), doc, answering("return len(items)", "'!'", seen=seen))
    assert apply_edit(doc, edit) == TEXT.replace("...", "return len(items)").replace("<FILL>", "'!'")
    change = edit.document_changes[0]
    assert (change.text_document.uri, change.text_document.version) == (URI, 7)
    notes = [edit.change_annotations[e.annotation_id] for e in change.edits]
    assert all(note.needs_confirmation and note.label == "Filled by Diffill" for note in notes)
    assert [note.description for note in notes] == [f"line {n}, written by a model, 80% sure" for n in (7, 10)]
    assert [TEXT[a:b] for a, b in seen[0].holes] == ["...", "<FILL>"]
    assert (seen[0].language, seen[0].path) == ("python", "it.py")


def test_simple_clients_get_simple_edits():
    doc = document()
    run = answering("return len(items)", "'!'")
    expected = TEXT.replace("...", "return len(items)").replace("<FILL>", "'!'")
    edit = resolved(action_for(Task(FILL_HOLES, URI)), doc, run, EMACS)
    assert edit.change_annotations is None
    assert apply_edit(doc, edit) == expected
    edit = resolved(action_for(Task(FILL_HOLES, URI)), doc, run, {})
    assert edit.document_changes is None
    assert apply_edit(doc, edit) == expected


def test_a_hole_whose_fill_is_filtered_stays():
    doc = document()
    edit = resolved(action_for(Task(FILL_HOLES, URI)), doc, answering("# nothing", "'!'"))
    assert apply_edit(doc, edit) == TEXT.replace("<FILL>", "'!'")
    with pytest.raises(Silence) as said:
        resolved(action_for(Task(FILL_HOLES, URI)), doc, answering("# nothing", ""))
    assert (said.value.reason, said.value.detail) == ("filtered", "empty_or_comment")


def test_a_function_keeps_its_signature_and_docstring():
    doc, seen = document(), []
    task = Task(FUNCTION, URI, 7, range_of(doc, "w * h"))
    edit = resolved(action_for(task), doc, answering("return abs(w * h)", seen=seen))
    assert apply_edit(doc, edit) == TEXT.replace("return w * h", "return abs(w * h)")
    assert (seen[0].strength, TEXT[slice(*seen[0].range)]) == (1.0, "return w * h")


def test_a_function_without_a_body_is_filled():
    doc, seen = document('def f():\n    """Says."""\n'), []
    task = Task(FUNCTION, URI, 7, doc.range_of(5, 5))
    edit = resolved(action_for(task), doc, answering("\n    return 1", seen=seen))
    assert apply_edit(doc, edit) == 'def f():\n    """Says."""\n    return 1\n'
    assert seen[0].holes == [(24, 24)]


def test_a_block_and_a_selection():
    doc, seen = document("if a:\n    b()\n    c()\nd()\n"), []
    edit = resolved(action_for(Task(BLOCK, URI, 7, range_of(doc, "a"))), doc, answering("e()", seen=seen))
    assert apply_edit(doc, edit) == "if a:\n    e()\nd()\n"
    task = Task(SELECTION, URI, 7, range_of(doc, "    b()\n"), 0.6, 5)
    edit = resolved(action_for(task), doc, answering("bb()", seen=seen))
    assert apply_edit(doc, edit) == "if a:\n    bb()\n    c()\nd()\n"
    assert (seen[1].strength, seen[1].seed, doc.text[slice(*seen[1].range)]) == (0.6, 5, "b()")


def test_a_light_rewrite_may_change_parts_but_must_parse():
    doc = document("x = one(a, b)\n")

    def run_with(text):
        async def run(request):
            return result([HoleFill(4, 7, text, 0.9, "fixed"), HoleFill(11, 12, "c", 0.9, "fixed")])

        return run

    task = Task(SELECTION, URI, 7, range_of(doc, "one(a, b)"), 0.3)
    assert apply_edit(doc, resolved(action_for(task), doc, run_with("two"))) == "x = two(a, c)\n"
    with pytest.raises(Silence) as said:
        resolved(action_for(task), doc, run_with("t("))
    assert said.value.detail == "syntax_no_worse"


def test_the_next_alternative_is_taken_where_the_first_is_filtered():
    doc = document("x = <FILL>\n")

    async def run(request):
        return result([HoleFill(4, 10, ")", 0.9, "fixed")], alternatives=[[HoleFill(4, 10, "1", 0.8, "fixed")]])

    assert apply_edit(doc, resolved(action_for(Task(FILL_HOLES, URI)), doc, run)) == "x = 1\n"


@pytest.mark.parametrize("end", ["cancelled", "superseded"])
def test_a_fill_that_was_ended_is_no_edit(end):
    with pytest.raises(Silence):
        resolved(action_for(Task(FILL_HOLES, URI)), document("x = <FILL>\n"), answering("1", end=end))


def test_the_same_text_is_no_edit():
    doc = document("x = one(a)\n")
    with pytest.raises(Silence) as said:
        resolved(action_for(Task(SELECTION, URI, 7, range_of(doc, "one(a)"))), doc, answering("one(a)"))
    assert said.value.reason == "empty"


def test_another_version_is_refused():
    with pytest.raises(RequestError, match="has changed since"):
        resolved(action_for(Task(FILL_HOLES, URI, 6)), document(), answering("1", "2"))


def test_a_change_meanwhile_is_noticed():
    doc = document("x = <FILL>\n")

    async def run(request):
        doc.version += 1
        doc.replace("y" + doc.text)
        return result([HoleFill(4, 10, "1", 0.9, "fixed")])

    with pytest.raises(RequestError, match="meanwhile"):
        resolved(action_for(Task(FILL_HOLES, URI, 7)), doc, run)


def test_a_command_has_its_edit_applied():
    doc, asked = document("x = <FILL>\n"), []

    async def apply(params):
        asked.append(params)
        return types.ApplyWorkspaceEditResult(applied=len(asked) == 1, failure_reason="busy")

    def run_it():
        arguments = [{"uri": URI}]
        return asyncio.run(execute(FILL_HOLES, arguments, lambda uri: doc, client(VSCODE), answering("1"), apply))

    edit = run_it()
    assert (asked[0].edit, asked[0].label, asked[0].metadata.is_refactoring) == (edit, "Filled by Diffill", True)
    assert apply_edit(doc, edit) == "x = 1\n"
    with pytest.raises(RequestError, match="did not apply the change: busy"):
        run_it()


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("diffill.dance", [{"uri": URI}], "no command"),
        (FILL_HOLES, [], "one object with a uri"),
        (FILL_HOLES, ["x"], "one object with a uri"),
        (FILL_HOLES, [{"uri": 3}], "one object with a uri"),
        (FILL_HOLES, [{"uri": URI, "version": "7"}], "whole numbers"),
        (FILL_HOLES, [{"uri": URI, "seed": True}], "whole numbers"),
        (SELECTION, [{"uri": URI}], "takes a range"),
        (SELECTION, [{"uri": URI, "range": [1, 2]}], "range is"),
        (SELECTION, [{"uri": URI, "range": {"start": {"line": 0}}}], "range is"),
        (SELECTION, [{"uri": URI, "strength": "much"}], "strength is a number"),
    ],
)
def test_bad_arguments_get_one_sentence(command, arguments, said):
    with pytest.raises(RequestError, match=said):
        actions.read_task(command, arguments)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Task(FILL_HOLES, URI), "no hole to fill"),
        (Task(FUNCTION, URI, range=types.Range(types.Position(0, 0), types.Position(0, 0))), "in no function"),
        (Task(BLOCK, URI, range=types.Range(types.Position(1, 0), types.Position(1, 0))), "no code to write anew"),
        (Task(SELECTION, URI, range=types.Range(types.Position(1, 0), types.Position(1, 0))), "no code to write anew"),
        (Task(SELECTION, URI, range=types.Range(types.Position(0, 0), types.Position(0, 5)), strength=2), "strength"),
    ],
)
def test_nothing_to_do_is_said(task, said):
    with pytest.raises(RequestError, match=said):
        resolved(action_for(task), document("x = 1\n\n"), answering("1"))


@given(
    before=st.text("ab🙂é\n\r\t ", max_size=12),
    after=st.text("ab🙂é\n\r\t ", max_size=12),
    fill=st.text("ab🙂(1) \n", min_size=1, max_size=8),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-32"]),
)
def test_an_edit_changes_nothing_outside_its_hole(before, after, fill, encoding):
    text = f"{before}<FILL>{after}"
    doc = Document("file:///it.txt", "plaintext", 1, text, encoding)
    fills = [HoleFill(len(before), len(before) + 6, fill, 0.5, "fixed")]
    edit = actions.edits.workspace_edit(doc, fills, "It", client(VSCODE))
    assert apply_edit(doc, edit) == apply_fills(text, fills) == before + fill + after


class Wire:
    """What a progress bar says to its client."""

    def __init__(self):
        self.said = []

    def notify(self, method, params):
        self.said.append(type(params.value).__name__)


def test_work_shows_a_bar_and_can_be_cancelled():
    wire = Wire()
    bar = Progress(wire)

    async def quick():
        return 3

    async def cancelled_by_the_user():
        started, ended = asyncio.Event(), []

        async def endless():
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        shown = asyncio.ensure_future(with_progress(bar, "b", "Filling", endless()))
        await started.wait()
        bar.tokens["b"].cancel()
        return await shown, ended

    async def cancelled_from_outside():
        shown = asyncio.ensure_future(with_progress(bar, "c", "Filling", asyncio.Event().wait()))
        await asyncio.sleep(0)
        shown.cancel()
        await shown

    assert asyncio.run(with_progress(bar, "a", "Filling", quick())) == 3
    assert asyncio.run(cancelled_by_the_user()) == (None, [True])
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled_from_outside())
    assert wire.said == ["WorkDoneProgressBegin", "WorkDoneProgressEnd"] * 3
    assert bar.tokens == {}
