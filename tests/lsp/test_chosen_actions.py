"""Code actions and commands through the real server: offered, resolved or run, applied by the editor."""

from __future__ import annotations

from typing import Any

import pytest
from editor import PATIENCE, Editor, RequestFailed, insertion

SKETCHES = (
    "def total(prices):\n    result = 0\n    for price in prices:\n        result += <FILL>\n    return result\n",
    "import os\n\nname = <FILL>\nprint(name)\n",
    "def first(items):\n    return <FILL>\n\n\ndef last(items):\n    return items[-1]\n",
    "x = 1\ny = <FILL>\nprint(x, y)\n",
)
START = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}}


def offered(editor: Editor, uri: str, range_: dict[str, Any] = START) -> list[dict[str, Any]]:
    """What can be done at a place, asked for by the user."""
    context = {"diagnostics": [], "triggerKind": 1}
    params = {"textDocument": {"uri": uri}, "range": range_, "context": context}
    return editor.ask("textDocument/codeAction", params)


def chosen(editor: Editor, action: dict[str, Any]) -> dict[str, Any]:
    """Choose an action as this editor would: resolve it, or run its command; the edit."""
    if "data" in action:
        return editor.ask("codeAction/resolve", action)["edit"]
    command = action["command"] if isinstance(action["command"], dict) else action
    params = {"command": command["command"], "arguments": command["arguments"]}
    edit = editor.ask("workspace/executeCommand", params)
    assert editor.wait_for("workspace/applyEdit")["edit"] == edit
    return edit


def text_edits(edit: dict[str, Any], uri: str) -> list[dict[str, Any]]:
    """The changes of one file, whatever form the editor wanted."""
    if "changes" in edit:
        return edit["changes"][uri]
    (change,) = edit["documentChanges"]
    assert change["textDocument"] == {"uri": uri, "version": 1}
    return change["edits"]


def test_holes_are_filled_by_a_chosen_action(editor, uri):
    filled = []
    for number, text in enumerate(SKETCHES):
        name = f"{uri}.{number}.py"
        editor.open(name, text)
        action = next(one for one in offered(editor, name) if one["title"] == "Fill the hole in this file")
        try:
            edit = chosen(editor, action)
        except RequestFailed as failed:
            if failed.data["reason"] not in ("filtered", "empty"):
                raise
            continue
        (change,) = text_edits(edit, name)
        line = change["range"]["start"]["line"]
        column = text.splitlines()[line].index("<FILL>")
        assert change["range"]["start"] == {"line": line, "character": column}
        assert change["range"]["end"] == {"line": line, "character": column + len("<FILL>")}
        assert change["newText"].strip()
        filled.append(edit)
    assert filled
    annotated = "changeAnnotations" in filled[0]
    support = editor.capabilities["workspace"].get("workspaceEdit", {})
    assert annotated is ("changeAnnotationSupport" in support)
    if annotated:
        assert all(note["needsConfirmation"] for note in filled[0]["changeAnnotations"].values())


def test_a_selection_has_three_strengths_and_a_function_is_named(editor, uri):
    editor.open(uri, "def area(width, height):\n    size = width * height\n    return size\n")
    selection = {"start": {"line": 1, "character": 4}, "end": {"line": 1, "character": 25}}
    titles = [action["title"] for action in offered(editor, uri, selection)]
    assert [title for title in titles if "selection" in title] == [
        f"Regenerate selection ({name})" for name in ("light", "medium", "strong")
    ]
    assert "Regenerate function area" in titles


def test_a_changed_file_is_not_edited(editor, uri):
    editor.open(uri, SKETCHES[0])
    action = offered(editor, uri)[0]
    editor.change(uri, 2, insertion(0, 0, "\n"))
    with pytest.raises(RequestFailed) as failed:
        chosen(editor, action)
    assert failed.value.code == -32602
    assert "changed" in failed.value.message


def test_an_excluded_file_has_no_actions_and_no_command_reads_it(editor, tmp_path):
    uri = (tmp_path / "secrets.yml").as_uri()
    editor.open(uri, "token: <FILL>\n", "yaml")
    assert not offered(editor, uri)
    with pytest.raises(RequestFailed) as failed:
        editor.ask("workspace/executeCommand", {"command": "diffill.fillHoles", "arguments": [{"uri": uri}]})
    assert failed.value.data == {"reason": "excluded"}


@pytest.mark.parametrize("arguments", [[], ["x"], [{"uri": 3}], [{"uri": "file:///not/open.py"}], [{"version": 1}]])
def test_a_command_says_what_is_wrong_with_its_arguments(editor, arguments):
    with pytest.raises(RequestFailed) as failed:
        editor.ask("workspace/executeCommand", {"command": "diffill.fillHoles", "arguments": arguments})
    assert failed.value.code == -32602
    assert "\n" not in failed.value.message


def test_the_progress_bars_button_stops_a_command(start, uri):
    editor = start("vscode")
    editor.open(uri, "def f():\n    x = <FILL>\n" * 60)
    params = {"command": "diffill.fillHoles", "arguments": [{"uri": uri}]}
    _, answer = editor.start("workspace/executeCommand", params)
    begun = editor.wait_for("$/progress", lambda told: told["value"].get("cancellable"))
    editor.notify("window/workDoneProgress/cancel", {"token": begun["token"]})
    assert answer.result(PATIENCE) is None
    assert editor.all_heard("workspace/applyEdit") == []


def test_an_editor_that_wants_no_bar_now_gets_its_edit(start, uri):
    editor, answers = start("vscode"), Editor._result

    def refuse(message):
        if message["method"] == "window/workDoneProgress/create":
            raise RequestFailed({"code": -32603, "message": "no bars here"})
        return answers(editor, message)

    editor._result = refuse
    edits = []
    for number, text in enumerate(SKETCHES):
        editor.open(f"{uri}.{number}.py", text)
        params = {"command": "diffill.fillHoles", "arguments": [{"uri": f"{uri}.{number}.py"}]}
        try:
            edits.append(editor.ask("workspace/executeCommand", params))
        except RequestFailed as failed:
            if failed.data is None or failed.data["reason"] not in ("filtered", "empty"):
                raise
    assert edits


def test_an_editor_whose_answer_cannot_be_read_gets_an_error_not_silence(start, uri):
    editor = start("vscode")
    editor._result = lambda message: [] if message["method"] == "workspace/configuration" else None
    for number, text in enumerate(SKETCHES):
        editor.open(f"{uri}.{number}.py", text)
        params = {"command": "diffill.fillHoles", "arguments": [{"uri": f"{uri}.{number}.py"}]}
        with pytest.raises(RequestFailed):
            editor.ask("workspace/executeCommand", params)
    assert editor.all_heard("workspace/applyEdit")
    assert editor.leave() == 0
