"""The real server and the real daemon with the embedded model, as three editors meet them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest
from editor import PATIENCE, Editor, RequestFailed, insertion, stop_daemon

AGREED = {"vscode": "utf-16", "neovim": "utf-8", "emacs": "utf-32"}
UNITS = {"utf-8": len("😀".encode()), "utf-16": 2, "utf-32": 1}
# Places where a model of code has something to say; bars mark the cursors.
PLACES = (
    "def total(prices):\n    result = 0\n    for price in prices:\n        result += |\n    return result\n",
    "def first(items):\n    for item in items:\n        print(item)\n\n\ndef second(items):\n    for |\n",
    "class Point:\n    def __init__(self, x, y):\n        self.x = x\n        self.y = |\n",
    "import os\nimport sys\n\n\ndef main():\n    path = os.|\n",
    "names = []\nfor name in |\n    names.append(name)\n",
)


def split(marked: str) -> tuple[str, int, int]:
    """A text without its bar, and where that was."""
    before = marked[: marked.index("|")]
    return marked.replace("|", ""), before.count("\n"), len(before) - before.rfind("\n") - 1


def empty_range(line: int, character: int) -> dict:
    return {"start": {"line": line, "character": character}, "end": {"line": line, "character": character}}


def first_offer(editor: Editor, uri: str) -> tuple[list[dict], str, int, int]:
    """The items at the first place that gets any, with the place."""
    for number, marked in enumerate(PLACES):
        text, line, character = split(marked)
        editor.open(f"{uri}.{number}.py", text)
        answer = editor.complete(f"{uri}.{number}.py", line, character)[1].result(PATIENCE)
        if answer and answer["items"]:
            return answer["items"], f"{uri}.{number}.py", line, character
    raise AssertionError("no place got a suggestion")


def test_initialize_says_what_the_server_can(editor):
    told = editor.initialized["capabilities"]
    assert told["inlineCompletionProvider"] == {}
    assert told["positionEncoding"] in editor.capabilities["general"]["positionEncodings"]
    assert told["positionEncoding"] == editor.capabilities["general"]["positionEncodings"][0]
    assert told["textDocumentSync"]["change"] == 2  # incremental
    assert "diffill.accepted" in told["executeCommandProvider"]["commands"]
    assert told["workspace"]["workspaceFolders"]["supported"]


def test_an_invoked_suggestion_offers_alternatives(editor, uri):
    before = editor.ask("diffill/status")["counters"]
    items, place, line, character = first_offer(editor, uri)
    texts = [item["insertText"] for item in items]
    assert 1 <= len(texts) <= 3
    assert len(texts) == len(set(texts))
    for item in items:
        assert item["insertText"].strip()
        assert item["range"]["start"] == {"line": line, "character": character}
        assert item["range"]["end"]["line"] == line
        assert item["command"]["command"] == "diffill.accepted"
    command = items[0]["command"]
    editor.ask("workspace/executeCommand", {"command": command["command"], "arguments": command["arguments"]})
    status = editor.ask("diffill/status")
    assert status["counters"]["accepted"] == before["accepted"] + 1
    assert status["counters"]["offered"] > before["offered"]
    assert status["lastSilence"] is None
    assert status["model"]
    assert status["lastLatencyMs"] > 0
    last = editor.ask("diffill/lastFill")
    assert last["uri"] == place
    assert last["holes"][0]["newText"] == texts[0]
    assert all(0 <= token["confidence"] <= 1 for token in last["holes"][0]["tokens"])


def test_ranges_are_filled_together_and_frames_come_as_progress(editor, uri):
    text = "def area(width, height):\n    return \n\n\ndef volume(width, height, depth):\n    return \n"
    editor.open(uri, f"{text}# {uri}\n")  # a text of its own: an answer from the cache has no frames
    ranges = [empty_range(1, 11), empty_range(5, 11)]
    params = {"textDocument": {"uri": uri, "version": 1}, "ranges": ranges, "partialResultToken": uri}
    answer = editor.ask("diffill/fill", params)
    assert [hole["range"] for hole in answer["holes"]] == ranges
    frames = [told["value"] for told in editor.all_heard("$/progress") if told["token"] == uri]
    assert frames
    assert all(frame["kind"] == "frame" and len(frame["holes"]) == 2 for frame in frames)
    assert [frame["step"] for frame in frames] == sorted(frame["step"] for frame in frames)


def test_a_rewrite_stays_within_its_range(editor, uri):
    editor.open(uri, "def area(width, height):\n    return width + height\n\nprint(area(1, 2))\n")
    range_ = {"start": {"line": 1, "character": 4}, "end": {"line": 1, "character": 25}}
    params = {"textDocument": {"uri": uri}, "range": range_, "strength": 0.5, "seed": 3}
    answer = editor.ask("diffill/rewrite", params)
    for hole in answer["holes"]:
        assert hole["range"]["start"]["line"] == hole["range"]["end"]["line"] == 1
        assert 4 <= hole["range"]["start"]["character"] <= hole["range"]["end"]["character"] <= 25
    assert editor.ask("diffill/rewrite", params)["holes"] == answer["holes"]  # the same seed, the same answer


def test_columns_are_counted_in_the_units_agreed_on(editor, uri):
    encoding = editor.initialized["capabilities"]["positionEncoding"]
    smile = UNITS[encoding]
    editor.open(uri, "a = 1\r\ns = '😀'\r\n")
    editor.change(uri, 2, insertion(1, 5 + smile, "😀"), insertion(1, 5 + 2 * smile, "é"), insertion(2, 0, "x = "))
    past = {"start": {"line": 1, "character": 5}, "end": {"line": 9, "character": 9}}
    answer = editor.ask("diffill/fill", {"textDocument": {"uri": uri}, "ranges": [past], "options": {"maxTokens": 4}})
    assert answer["version"] == 2
    assert answer["holes"][0]["range"]["end"] == {"line": 2, "character": 4}
    wide = 5 + 2 * smile + (2 if encoding == "utf-8" else 1)
    place = {"start": {"line": 1, "character": 5}, "end": {"line": 1, "character": 99}}
    answer = editor.ask("diffill/fill", {"textDocument": {"uri": uri}, "ranges": [place], "options": {"maxTokens": 4}})
    assert answer["holes"][0]["range"]["end"] == {"line": 1, "character": wide + 1}


@pytest.mark.parametrize(
    ("marked", "edit", "reason"),
    [
        ("x = |\n", "", "unchanged"),
        ("alp|ha = 1\n", "h", "mid_word"),
        ("x = | + many_things(1, 2)\n", "1", "mid_line"),
    ],
)
def test_automatic_suggestions_stay_out_of_the_way(editor, uri, marked, edit, reason):
    text, line, character = split(marked)
    editor.open(uri, text)
    if edit:
        editor.change(uri, 2, insertion(line, character, edit))
    assert editor.complete(uri, line, character + len(edit), invoked=False)[1].result(PATIENCE) is None
    assert editor.silence() == reason


def test_a_newer_request_takes_the_older_ones_place(editor, uri):
    editor.open(uri, "def f():\n    retur\n")
    editor.change(uri, 2, insertion(1, 9, "n"))
    numbers, answers = zip(*(editor.complete(uri, 1, 10, invoked=False) for _ in range(8)), strict=True)
    assert [answer.result(PATIENCE) for answer in answers[:-1]] == [None] * 7  # null, not an error
    answers[-1].result(PATIENCE)
    editor.ask("diffill/status")
    assert [editor.answers[number] for number in numbers] == [1] * 8


def test_a_cancelled_request_is_answered_once_as_cancelled(editor, uri):
    editor.open(uri, "def f():\n    retur\n")
    editor.change(uri, 2, insertion(1, 9, "n"))
    number, answer = editor.complete(uri, 1, 10, invoked=False)
    editor.notify("$/cancelRequest", {"id": number})
    with pytest.raises(RequestFailed) as failed:
        answer.result(PATIENCE)
    assert failed.value.code == -32800
    editor.ask("diffill/status")
    assert editor.answers[number] == 1


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("textDocument/inlineCompletion", {"textDocument": {"uri": "file:///a.py"}}),
        ("diffill/fill", None),
        ("diffill/fill", {"textDocument": {"uri": "OPEN"}, "ranges": []}),
        ("diffill/fill", {"textDocument": {"uri": "OPEN"}, "ranges": [{"start": 1}]}),
        ("diffill/fill", {"textDocument": {"uri": "OPEN", "version": 7}, "ranges": [empty_range(0, 0)]}),
        ("diffill/fill", {"textDocument": {"uri": "OPEN"}, "ranges": [empty_range(0, 0)], "options": {"magic": 1}}),
        ("diffill/fill", {"textDocument": {"uri": "OPEN"}, "ranges": [empty_range(0, 0)], "options": {"steps": "x"}}),
        ("diffill/fill", {"textDocument": {"uri": "file:///not/open.py"}, "ranges": [empty_range(0, 0)]}),
        ("diffill/rewrite", {"textDocument": {"uri": "OPEN"}, "range": empty_range(0, 0)}),
        ("diffill/rewrite", {"textDocument": {"uri": "OPEN"}, "range": empty_range(0, 0), "strength": "much"}),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(editor, uri, method, params):
    editor.open(uri, "x = 1\n")
    if params and params["textDocument"]["uri"] == "OPEN":
        params = {**params, "textDocument": {**params["textDocument"], "uri": uri}}
    with pytest.raises(RequestFailed) as failed:
        editor.ask(method, params)
    assert failed.value.code == -32602
    assert failed.value.message
    assert "\n" not in failed.value.message
    assert editor.all_heard("window/showMessage") == []


@pytest.mark.parametrize("options", [{"steps": 10**401}, {"seed": 10**401}, {"deadlineMs": float("inf")}], ids=list)
def test_numbers_that_the_daemon_would_not_read_are_refused_here(editor, uri, options):
    """It could not say whose request that was, and nobody would answer it."""
    editor.open(uri, "x = 1\n")
    params = {"textDocument": {"uri": uri}, "ranges": [empty_range(0, 0)], "options": options}
    with pytest.raises(RequestFailed, match="is far too large a number"):
        editor.ask("diffill/fill", params)
    assert editor.ask("diffill/status")["state"] != "working"


def test_an_excluded_file_is_never_filled(editor, tmp_path):
    secret = (tmp_path / ".env").as_uri()
    editor.open(secret, "TOKEN=\n", "shellscript")
    assert editor.complete(secret, 0, 6)[1].result(PATIENCE) is None
    assert editor.silence() == "excluded"
    with pytest.raises(RequestFailed) as failed:
        editor.ask("diffill/fill", {"textDocument": {"uri": secret}, "ranges": [empty_range(0, 6)]})
    assert (failed.value.code, failed.value.data) == (-32803, {"reason": "excluded"})


def test_a_file_that_is_not_open_gets_null(editor):
    assert editor.complete("file:///not/open.py", 0, 0)[1].result(PATIENCE) is None
    assert editor.all_heard("window/showMessage") == []


def test_asked_settings_hold_and_change_and_bad_ones_are_told_once(start, uri):
    editor = start("vscode", settings={"maxLines": "many", "alternatives": 1})
    assert "diffill.maxLines" in editor.wait_for("window/showMessage")["message"]
    editor.wait_for("client/registerCapability")
    items, _, _, _ = first_offer(editor, uri)
    assert len(items) == 1
    editor.settings = {"maxLines": "many", "enabled": False}
    editor.notify("workspace/didChangeConfiguration", {"settings": None})
    editor.wait_for("diffill/didChangeStatus", lambda told: told["state"] == "paused")
    editor.open(uri, "x = \n")
    assert editor.complete(uri, 0, 4)[1].result(PATIENCE) is None
    assert editor.silence() == "paused"
    assert editor.all_heard("window/showMessage") == []
    assert editor.leave() == 0


def test_pushed_settings_and_start_options_hold(start, uri):
    editor = start("emacs", initializationOptions={"settings": {"disabledLanguages": ["python"]}})
    editor.open(uri, "x = \n")
    assert editor.complete(uri, 0, 4)[1].result(PATIENCE) is None
    assert editor.silence() == "language_off"
    editor.notify("workspace/didChangeConfiguration", {"settings": {"diffill": {"maxFileSize": 2}}})
    assert editor.silence() is None  # a reason that need not hold any more
    assert editor.complete(uri, 0, 4)[1].result(PATIENCE) is None
    assert editor.silence() == "too_large"


def test_an_untrusted_workspace_gets_nothing(start, uri):
    editor = start("neovim", initializationOptions={"trusted": False})
    editor.open(uri, "x = \n")
    assert editor.complete(uri, 0, 4)[1].result(PATIENCE) is None
    assert editor.silence() == "untrusted"


def test_without_a_model_process_the_user_is_told_once_and_secrets_are_not_even_asked_about(
    start, environment, uri, tmp_path
):
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    editor = start("vscode", {**environment, "DIFFILL_RUNTIME_DIR": str(blocked)})
    secret = (tmp_path / "server.key").as_uri()
    editor.open(secret, "x = \n")
    editor.complete(secret, 0, 4)[1].result(PATIENCE)
    assert editor.silence() == "excluded"
    editor.open(uri, "x = \n")
    for _ in range(2):
        assert editor.complete(uri, 0, 4)[1].result(PATIENCE) is None
        assert editor.silence() == "runtime_down"
    assert len(editor.all_heard("window/showMessage")) == 1
    assert editor.ask("diffill/status")["state"] == "down"


def test_a_model_that_is_not_there_is_told_once(start, uri):
    editor = start("neovim", settings={"model": "no-such-model"})
    editor.wait_for("workspace/configuration")
    editor.open(uri, "x = \n")
    assert editor.complete(uri, 0, 4)[1].result(PATIENCE) is None
    assert editor.silence() == "no_model"
    assert len(editor.all_heard("window/showMessage")) == 1


def test_from_nothing_the_model_loads_with_progress(start, environment, uri, tmp_path):
    alone = {**environment, "DIFFILL_RUNTIME_DIR": str(tmp_path / "runtime")}
    try:
        editor = start("vscode", alone)
        editor.open(uri, "def f():\n    return \n")
        token = editor.wait_for("window/workDoneProgress/create")["token"]
        kinds = [editor.wait_for("$/progress", lambda told: told["token"] == token)["value"]["kind"] for _ in range(2)]
        assert kinds == ["begin", "end"]
        editor.wait_for("diffill/didChangeStatus", lambda told: told["state"] == "loading")
        editor.wait_for("diffill/didChangeStatus", lambda told: told["state"] == "idle")
        assert editor.leave() == 0
    finally:
        stop_daemon(alone)


def test_a_client_that_leaves_without_a_word_takes_the_server_with_it(start):
    editor = start("emacs")
    editor.process.stdin.close()
    assert editor.process.wait(PATIENCE) == 1


@pytest.mark.parametrize("arguments", [["--tcp", "nowhere"], ["--tcp", ":1"], ["--stdio", "--tcp", "a:1"], ["--pipe"]])
def test_bad_use_is_one_sentence(arguments):
    command = [sys.executable, "-m", "model_runtime", "lsp", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("diffill: ")
    assert done.stderr.count("\n") == 1


def test_a_port_serves_one_client(environment):
    command = [sys.executable, "-m", "model_runtime", "lsp", "--tcp", "127.0.0.1:0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        port = int(process.stderr.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection, connection.makefile("rwb") as wire:
            params = {"processId": None, "rootUri": None, "capabilities": {}}
            for message in ({"id": 1, "method": "initialize", "params": params}, {"id": 2, "method": "shutdown"}):
                body = json.dumps({"jsonrpc": "2.0", **message}).encode()
                wire.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
                wire.flush()
                length = int(wire.readline().rpartition(b":")[2])
                while wire.readline().strip():
                    pass
                assert json.loads(wire.read(length))["id"] == message["id"]
        assert process.wait(PATIENCE) == 0


def test_the_server_never_imports_the_models_libraries():
    script = (
        "import sys, pkgutil, importlib, lsp_server, model_runtime.client\n"
        "for found in pkgutil.walk_packages(lsp_server.__path__, 'lsp_server.'):\n"
        "    importlib.import_module(found.name)\n"
        "print([name for name in ('torch', 'transformers', 'onnxruntime', 'training') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
