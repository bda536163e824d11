"""diffill/propose and what an editor with previews needs besides, through the server's pipes."""

from __future__ import annotations

import itertools

import pytest
from editor import PATIENCE, RequestFailed

AREA = "def area(width, height):\n    total = width + height\n    return total\n\n\nprint(area(1, 2))\n"
BODY = {"start": {"line": 1, "character": 4}, "end": {"line": 2, "character": 16}}
SKETCH = (
    "import os\nimport <FILL>\n\n\n"
    "def first(items):\n    if not items:\n        raise ValueError('no items')\n    return items[0]\n\n\n"
    "def last(items):\n    if not items:\n        raise <FILL>\n    return items[-1]\n"
)


def cursor(line: int, character: int) -> dict:
    """An empty range."""
    return {"start": {"line": line, "character": character}, "end": {"line": line, "character": character}}


def values(editor, token: str) -> list[dict]:
    """The progress under a token, in order."""
    return [one["value"] for one in editor.all_heard("$/progress") if one["token"] == token]


def proposed(editor, uri: str, text: str, **params):
    """Open a file and ask for a proposal."""
    editor.open(uri, text)
    return editor.ask("diffill/propose", {"uri": uri, "version": 1, **params})


@pytest.mark.parametrize(
    ("range_", "command"),
    [
        (cursor(1, 6), "diffill.regenerateFunction"),
        ({"start": {"line": 1, "character": 12}, "end": {"line": 1, "character": 26}}, "diffill.regenerateSelection"),
        (cursor(5, 3), "diffill.regenerateBlock"),
    ],
)
def test_the_range_says_what_is_meant(editor, uri, range_, command):
    proposal = proposed(editor, uri, AREA, range=range_)
    assert proposal["command"] == command
    assert proposal["edits"]
    assert editor.all_heard("workspace/applyEdit") == []


def test_frames_say_which_part_they_are_about(editor, uri):
    text = f"{AREA}# {uri} frames\n"  # a text of its own: an answer from the cache has no frames
    proposal = proposed(editor, uri, text, range=cursor(1, 6), strength=0.6, partialResultToken=uri)
    begin, *frames = values(editor, uri)
    assert begin["kind"] == "begin"
    assert begin["ranges"] == proposal["ranges"] == [BODY]
    assert any(one["kind"] == "frame" for one in frames)
    for frame in (one for one in frames if one["kind"] == "frame"):
        for hole in frame["holes"]:
            start, end = hole["range"]["start"], hole["range"]["end"]
            assert (1, 4) <= (start["line"], start["character"]) <= (end["line"], end["character"]) <= (2, 16)


def test_what_a_filter_would_drop_is_proposed_with_the_reason(editor, uri):
    """Whatever the model writes: draws until one is dropped, and each that is not is applied."""
    editor.open(uri, AREA)
    found = set()
    for seed, strength in itertools.product(range(20), (0.3, 0.6, 1.0)):
        params = {"uri": uri, "range": cursor(1, 6), "strength": strength, "seed": seed}
        proposal = editor.ask("diffill/propose", params)
        new = [edit["newText"] for edit in proposal["edits"]]
        found.add(proposal["problem"] is not None)
        try:
            editor.ask("workspace/executeCommand", {"command": "diffill.regenerateFunction", "arguments": [params]})
        except RequestFailed as failed:
            assert proposal["problem"] == failed.message  # noqa: PT017
        else:
            assert proposal["problem"] is None
            editor.wait_for("workspace/applyEdit")
        assert len(new) == 1
        if True in found and seed:
            break
    assert True in found


def test_tokens_lie_within_the_new_text(editor, uri):
    proposal = proposed(editor, uri, SKETCH, command="diffill.fillHoles")
    assert len(proposal["ranges"]) == 2
    for edit in proposal["edits"]:
        assert edit["tokens"]
        for token in edit["tokens"]:
            assert 0 <= token["start"] < token["end"] <= len(edit["newText"])
            assert 0 <= token["confidence"] <= 1
            assert token["step"] >= 1


def test_another_seed_is_another_draw_and_the_same_seed_the_same(editor, uri):
    editor.open(uri, AREA)
    different = 0
    for place in (cursor(1, 6), cursor(0, 0), cursor(2, 0)):  # the model may be sure of one
        texts: dict = {}
        for seed in (0, 1, 2, 3, 4, 5, 1):
            answer = editor.ask("diffill/propose", {"uri": uri, "range": place, "seed": seed})
            edits = tuple(edit["newText"] for edit in answer["edits"])
            assert texts.setdefault(seed, edits) == edits
        different = max(different, len(set(texts.values())))
    assert different > 1


def test_a_proposal_for_another_version_is_refused(editor, uri):
    editor.open(uri, AREA)
    with pytest.raises(RequestFailed) as failed:
        editor.ask("diffill/propose", {"uri": uri, "version": 7, "range": cursor(1, 6)})
    assert "changed" in failed.value.message


@pytest.mark.parametrize("params", [None, [], {}, {"uri": 3}, {"uri": "file:///not/open.py", "range": cursor(0, 0)}])
def test_a_proposal_says_what_is_wrong_with_its_parameters(editor, params):
    with pytest.raises(RequestFailed) as failed:
        editor.ask("diffill/propose", params)
    assert failed.value.code == -32602
    assert "\n" not in failed.value.message


def test_a_paused_file_gets_nothing_and_says_why(editor, uri):
    editor.open(uri, SKETCH)
    editor.notify("diffill/pauseFiles", {"uris": [uri]})
    try:
        with pytest.raises(RequestFailed) as failed:
            editor.ask("diffill/propose", {"uri": uri, "command": "diffill.fillHoles"})
        assert failed.value.data == {"reason": "paused"}
        assert editor.complete(uri, 1, 11)[1].result(PATIENCE) is None
        silence = editor.ask("diffill/status")["lastSilence"]
        assert (silence["reason"], silence["uri"]) == ("paused", uri)
    finally:
        editor.notify("diffill/pauseFiles", {"uris": []})
    assert proposed(editor, uri + ".py", SKETCH, command="diffill.fillHoles")["edits"]


def test_the_accepted_suggestion_is_the_last_fill_whatever_was_offered_since(editor, uri):
    text = "def area(width, height):\n    return \n\n\ndef volume(width, height, depth):\n    return \n"
    editor.open(uri, text)
    first = editor.complete(uri, 1, 11)[1].result(PATIENCE)["items"]
    assert editor.complete(uri, 5, 11)[1].result(PATIENCE)
    command = first[-1]["command"]
    editor.ask("workspace/executeCommand", {"command": command["command"], "arguments": command["arguments"]})
    last = editor.ask("diffill/lastFill")
    assert last["holes"][0]["range"] == cursor(1, 11)
    assert last["holes"][0]["newText"] == first[-1]["insertText"]
