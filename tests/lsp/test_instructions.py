"""Instructions through the real server: who is offered to give one, who follows none, and what becomes of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from editor import RequestFailed

pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parents[1]))

from instructed import instructed

AREA = "import os\n\n\ndef area(width, height):\n    size = width * height\n    return size\n"
ANSWER, OTHER = "return self.value", "print(self)"
ASKS = "editor.askWhatToDo"  # the client's own command


def span(first: tuple[int, int], last: tuple[int, int]) -> dict:
    """A range of lines and characters from 0."""
    start, end = ({"line": line, "character": character} for line, character in (first, last))
    return {"start": start, "end": end}


CURSOR, SELECTION = span((4, 6), (4, 6)), span((4, 4), (5, 15))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(instructed(tmp_path_factory.mktemp("instructed"), ANSWER, OTHER))


@pytest.fixture
def follower(start, folder, uri):
    """A server whose model follows instructions, which is known, with a file open."""
    editor = start(settings={"model": folder}, initializationOptions={"instructionCommand": ASKS})
    editor.open(uri, AREA)
    editor.wait_for("diffill/didChangeStatus", lambda status: status["instructions"] is True)
    return editor


def instruct_actions(editor, uri: str, range_: dict) -> list[dict]:
    """The code actions that begin with an instruction."""
    params = {"textDocument": {"uri": uri}, "range": range_, "context": {"diagnostics": [], "triggerKind": 1}}
    actions = editor.ask("textDocument/codeAction", params)
    return [action for action in actions if action["title"].endswith("by instruction…")]


def test_the_clients_command_asks_and_the_answer_is_proposed(follower, uri):
    (action,) = instruct_actions(follower, uri, SELECTION)
    assert action["title"] == "Rewrite selection by instruction…"
    assert follower.ask("codeAction/resolve", action) == action  # there is nothing to work out before it was asked
    assert action["command"]["command"] == ASKS
    (task,) = action["command"]["arguments"]
    assert follower.ask("diffill/instructions", {"textDocument": {"uri": uri}}) == {"instructions": True}
    proposal = follower.ask("diffill/propose", {**task, "instruction": "shorter"})
    (edit,) = proposal["edits"]
    assert (edit["newText"], edit["range"]) == (ANSWER, SELECTION)


def test_other_seeds_draw_other_answers(follower, uri):
    follower.open(uri + ".py", AREA)
    task = {"uri": uri + ".py", "range": SELECTION, "instruction": "shorter"}
    found = {follower.ask("diffill/propose", {**task, "seed": n})["edits"][0]["newText"] for n in range(6)}
    assert found == {ANSWER, OTHER}


def test_in_a_function_all_of_it_is_meant(follower, uri):
    (action,) = instruct_actions(follower, uri, CURSOR)
    assert action["title"] == "Rewrite function area by instruction…"
    (task,) = action["command"]["arguments"]
    proposal = follower.ask("diffill/propose", {**task, "instruction": "add types"})
    assert proposal["ranges"] == [span((3, 0), (5, 15))]  # the signature may change as well
    assert proposal["edits"][0]["newText"] == ANSWER


def test_a_command_with_an_instruction_is_applied(follower, uri):
    arguments = [{"uri": uri, "range": SELECTION, "instruction": "shorter"}]
    follower.ask("workspace/executeCommand", {"command": "diffill.regenerateSelection", "arguments": arguments})
    (change,) = follower.wait_for("workspace/applyEdit")["edit"]["documentChanges"]
    assert [edit["newText"] for edit in change["edits"]] == [ANSWER]


def test_an_answer_that_changes_nothing_says_so(follower, uri):
    name = uri + ".same.py"
    follower.open(name, f"def f(self):\n    {ANSWER}\n")
    with pytest.raises(RequestFailed, match="its answer holds no code, or the code as it was"):
        follower.ask("diffill/propose", {"uri": name, "range": span((1, 4), (1, 21)), "instruction": "nothing"})


def test_a_model_that_follows_none_says_who_does_and_is_not_asked(start, uri):
    editor = start(initializationOptions={"instructionCommand": ASKS})
    editor.open(uri, AREA)
    editor.wait_for("diffill/didChangeStatus", lambda status: status["instructions"] is False)
    assert instruct_actions(editor, uri, SELECTION) == []
    rewrite = {"textDocument": {"uri": uri}, "range": SELECTION, "instruction": "shorter"}
    for method, params in (
        ("diffill/instructions", {"textDocument": {"uri": uri}}),
        ("diffill/propose", {"uri": uri, "range": SELECTION, "instruction": "shorter"}),
        ("diffill/rewrite", rewrite),
    ):
        with pytest.raises(RequestFailed) as failed:
            editor.ask(method, params)
        assert failed.value.data == {"reason": "no_instructions"}
        assert failed.value.message.startswith("the model follows no instructions: embedded only fills holes, unlike ")
        assert "dream-coder-7b-instruct" in failed.value.message
    assert editor.silence() == "no_instructions"


def test_another_model_is_learned_of_as_soon_as_it_is_set(start, folder, uri):
    editor = start(settings={"model": "embedded"}, initializationOptions={"instructionCommand": ASKS})
    editor.open(uri, AREA)
    editor.wait_for("diffill/didChangeStatus", lambda status: status["instructions"] is False)
    editor.settings = {"model": folder}
    editor.notify("workspace/didChangeConfiguration", {"settings": None})
    editor.wait_for("diffill/didChangeStatus", lambda status: status["instructions"] is True)
    assert instruct_actions(editor, uri, SELECTION)


def test_a_client_that_cannot_ask_is_offered_none(start, folder, uri):
    editor = start(settings={"model": folder})
    editor.open(uri, AREA)
    editor.wait_for("diffill/didChangeStatus", lambda status: status["instructions"] is True)
    assert instruct_actions(editor, uri, SELECTION) == []


def test_what_the_model_may_not_see_is_said_before_the_user_is_asked(follower, uri):
    follower.notify("diffill/pauseFiles", {"uris": [uri]})
    with pytest.raises(RequestFailed) as failed:
        follower.ask("diffill/instructions", {"textDocument": {"uri": uri}})
    assert failed.value.data == {"reason": "paused"}
