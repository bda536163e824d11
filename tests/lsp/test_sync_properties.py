"""Random edits through the real pipes: the server's text is always the client's, and what it answers changes nothing
outside its ranges."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest
from editor import EDITORS, PATIENCE, Editor, RequestFailed
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_documents import PIECES, places

NAMES = {"neovim": "Neovim", "emacs": "emacs"}  # these count lines by LF alone, and say who they are
MORE = ["x = ", "<FILL>", "\n    return ", "def f(a):\n    ", '"👩‍🚀"']
TEXTS = st.lists(st.sampled_from(PIECES + MORE), max_size=14).map("".join)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), TEXTS), max_size=6)
CODE = 'def area(w, h):\n    s = "😀e\u0301"\n    return w * h  # 👩‍🚀\n\n\ndef later(items):\n    ...\n'
numbers = itertools.count()


@pytest.fixture(scope="module", params=[(name, units) for name in EDITORS for units in ("utf-8", "utf-16", "utf-32")])
def client(request, environment):
    """Each editor's server, with each unit of columns agreed on."""
    name, units = request.param
    known = EDITORS[name]
    capabilities = {**known, "general": {"positionEncodings": [units]}}
    told = {"clientInfo": {"name": NAMES[name]}} if name in NAMES else {}
    running = Editor(name, environment, capabilities=capabilities, **told)
    running.units, running.lf_lines = units, name in NAMES
    assert running.initialized["capabilities"]["positionEncoding"] == units
    yield running
    running.close()


def spots(client: Editor, text: str) -> list[tuple[int, dict[str, int]]]:
    """The places that the client's cursor can be at: offsets and positions."""
    lf_lines = client.lf_lines and ("\n" in text or "\r" not in text)
    return [(at, {"line": line, "character": column}) for at, line, column in places(text, client.units, lf_lines)]


def type_edits(client: Editor, text: str, edits: list[tuple[float, float, str]]) -> tuple[str, str, int]:
    """Open a file and change it piece by piece, several changes in one notification: its URI, text and version."""
    uri, version = f"file:///property/{next(numbers)}.py", 1
    client.open(uri, text)
    lf_lines = client.lf_lines and ("\n" in text or "\r" not in text)  # decided when the file is opened
    changes: list[dict[str, Any]] = []
    for first, second, new in edits:
        all_spots = [
            (at, {"line": line, "character": column}) for at, line, column in places(text, client.units, lf_lines)
        ]
        (start, low), (end, high) = sorted(
            (all_spots[int(share * (len(all_spots) - 1))] for share in (first, second)), key=lambda spot: spot[0]
        )
        changes.append({"range": {"start": low, "end": high}, "text": new})
        text = text[:start] + new + text[end:]
        if len(changes) == 2:
            version += 1
            client.change(uri, version, *changes)
            changes = []
    if changes:
        version += 1
        client.change(uri, version, *changes)
    return uri, text, version


def close(client: Editor, uri: str) -> None:
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})


@settings(max_examples=40)
@given(text=TEXTS, edits=EDITS)
@example(text="a\r\nb\n", edits=[(0.4, 0.6, "")])
@example(text="a\rb\nc", edits=[(0.9, 1.0, "😀")])
def test_the_servers_text_is_the_clients(client, text, edits):
    uri, text, version = type_edits(client, text, edits)
    told = client.ask("diffill/checksum", {"textDocument": {"uri": uri}})
    assert told["version"] == version
    assert told["characters"] == len(text)
    assert told["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    close(client, uri)


def applied(client: Editor, text: str, edits: list[dict[str, Any]]) -> tuple[str, list[tuple[int, int]]]:
    """The text after edits, and where they lay; every range must begin and end where the client's cursor can be."""
    at = {(place["line"], place["character"]): offset for offset, place in spots(client, text)}
    spans = []
    for edit in edits:
        ends = edit["range"]["start"], edit["range"]["end"]
        start, end = (at[place["line"], place["character"]] for place in ends)
        spans.append((start, end, edit["newText"]))
    for start, end, new in sorted(spans, reverse=True):
        text = text[:start] + new + text[end:]
    return text, [(start, end) for start, end, _ in spans]


def mended(client: Editor, text: str, low: int, high: int, edits: list[dict[str, Any]]) -> None:
    """Assert that edits change nothing but what lies from `low` to `high`."""
    after, spans = applied(client, text, edits)
    for start, end in spans:
        assert low <= start <= end <= high
    assert after.startswith(text[:low])
    assert after.endswith(text[high:])
    assert len(after) >= low + len(text) - high


OWN_UNITS = [("vscode", "utf-16"), ("neovim", "utf-8"), ("emacs", "utf-32")]  # the model takes its time


@pytest.mark.parametrize("client", OWN_UNITS, indirect=True)
@settings(max_examples=10)
@given(text=TEXTS, edits=EDITS, first=st.floats(0, 1), second=st.floats(0, 1), style=st.sampled_from(["\n", "\r\n"]))
def test_answers_change_nothing_outside_their_ranges(client, text, edits, first, second, style):
    """Ranges filled and written anew, items at a cursor, and the edits of commands, in whatever text typing left."""
    uri, text, version = type_edits(client, text + CODE.replace("\n", style), edits)
    if client.lf_lines and "\n" not in text:
        return close(client, uri)  # which lines it has was decided when it was opened
    document = {"textDocument": {"uri": uri}}
    all_spots = spots(client, text)
    ends = sorted((all_spots[int(share * (len(all_spots) - 1))] for share in (first, second)), key=lambda one: one[0])
    (low, start), (high, end) = ends
    range_ = {"start": start, "end": end}

    def ask(method: str, params: dict[str, Any]) -> Any:
        try:
            return client.ask(method, params)
        except RequestFailed as failed:
            if failed.code not in (-32602, -32803):  # one sentence: nothing to write anew, filtered
                raise
            return None

    options = {"maxTokens": 8}
    if answer := ask("diffill/fill", {**document, "ranges": [range_], "options": options}):
        mended(client, text, low, high, answer["holes"])
        assert [applied(client, text, [hole])[1][0] for hole in answer["holes"]] == [(low, high)]
    if answer := ask("diffill/rewrite", {**document, "range": range_, "strength": 0.6, "options": options}):
        mended(client, text, low, high, answer["holes"])
    if answer := client.complete(uri, end["line"], end["character"])[1].result(PATIENCE):
        for item in answer["items"]:
            (_, after), *_ = applied(client, text, [{"range": item["range"], "newText": item["insertText"]}])[1]
            mended(client, text, high, after, [{"range": item["range"], "newText": item["insertText"]}])
    argument = {"uri": uri, "version": version, "range": range_}
    if edit := ask("workspace/executeCommand", {"command": "diffill.regenerateSelection", "arguments": [argument]}):
        mended(client, text, low, high, edits_in(edit, uri))
    if edit := ask("workspace/executeCommand", {"command": "diffill.fillHoles", "arguments": [{"uri": uri}]}):
        after, spans = applied(client, text, edits_in(edit, uri))
        for (_, before), (after_, _) in itertools.pairwise(sorted(spans)):
            assert before <= after_
    close(client, uri)


def edits_in(edit: dict[str, Any], uri: str) -> list[dict[str, Any]]:
    """The edits of the one file that a workspace edit changes."""
    if edit.get("changes"):
        assert list(edit["changes"]) == [uri]
        return edit["changes"][uri]
    (changes,) = edit["documentChanges"]
    assert changes["textDocument"]["uri"] == uri
    return changes["edits"]
