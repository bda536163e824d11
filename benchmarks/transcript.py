"""Write docs/transcript.md: a short session of an editor with the real server, daemon and model, message by message.

    python benchmarks/transcript.py

What differs from run to run (times, process ids, tokens of progress bars) is left out; long results are cut and say so.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "lsp"))

from editor import PATIENCE, Editor, insertion, stop_daemon  # noqa: E402

URI = "file:///project/shop.py"
TEXT = """\
class Shop:
    def __init__(self, path, items):
        self.path = path
        self.items = <FILL>

    def read(self):
        with open(self.path) as file:
            <FILL>
        return self.items
"""
HEAD = """\
# A session, message by message

Written by `python benchmarks/transcript.py` from the real `diffill lsp`, its daemon and the embedded model. `→` is what
the editor sends, `←` what the server sends. Times and progress notifications are left out, and long values cut (`…`).
"""
LEFT_OUT = ("timingMs", "lastLatencyMs", "serverInfo", "token", "jsonrpc")
QUIET = ("$/progress", "window/workDoneProgress/create", "diffill/didChangeStatus", "window/logMessage")


class Recorded(Editor):
    """The client of the tests, which writes down what goes over its pipes."""

    def __init__(self, *arguments: Any, **started: Any):
        self.written: list[str] = []
        super().__init__(*arguments, **started)

    def send(self, message: dict[str, Any]) -> None:
        """Write one message, and note it."""
        self.note("→", message)
        super().send(message)

    def ask(self, method: str, params: Any = None) -> Any:
        """Send a request, wait, and note the answer."""
        number, answer = self.start(method, params)
        result = answer.result(PATIENCE)
        self.note("←", {"id": number, "result": result})
        return result

    def say(self, words: str) -> None:
        """A sentence between the messages; what the server sent by itself since the last one comes before it."""
        while not self.heard.empty():
            self.note("←", self.heard.get())
        self.written.append(f"\n{words}\n")

    def note(self, arrow: str, message: dict[str, Any]) -> None:
        """One message, as a block."""
        if message.get("method") in QUIET or ("id" in message and arrow == "→" and "result" in message):
            return
        if arrow == "←" and "method" in message:
            message = {name: message[name] for name in ("method", "params")}
        told = json.dumps(shorten(message), ensure_ascii=False, indent=1)
        self.written.append(f"```text\n{arrow} {fold(told)}\n```")


def shorten(value: Any) -> Any:
    """The value without what changes from run to run, and with long parts cut."""
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if name not in LEFT_OUT}
        if "textDocument" in kept.get("capabilities", {}):
            kept["capabilities"] = "…"  # the editor's, which are long
        return {name: shorten(one) for name, one in kept.items()}
    if isinstance(value, list):
        some = [shorten(one) for one in value[:3]]
        return [*some, "…"] if len(value) > 3 else some
    if isinstance(value, float):
        return round(value, 2)
    return value


def fold(told: str) -> str:
    """Indented JSON with small objects on one line."""
    lines, kept = told.split("\n"), []
    for line in lines:
        kept.append(line)
        if line.strip().rstrip(",") in ("}", "]"):
            first = next(n for n in range(len(kept) - 2, -1, -1) if indent(kept[n]) == indent(line))
            inner = " ".join(part.strip() for part in kept[first + 1 : -1])
            joined = kept[first].rstrip() + inner + line.strip()
            if len(joined) <= 110:
                kept[first:] = [joined]
    return "\n".join(kept)


def indent(line: str) -> int:
    """How far a line is indented."""
    return len(line) - len(line.lstrip())


def session(editor: Recorded) -> None:
    """What a user does, and what is said meanwhile."""
    editor.say("## The file is opened\n\nIts code actions are asked for; the cursor stands in the first line.")
    editor.open(URI, TEXT)
    place = {"line": 0, "character": 0}
    actions = editor.ask(
        "textDocument/codeAction",
        {"textDocument": {"uri": URI}, "range": {"start": place, "end": place}, "context": {"diagnostics": []}},
    )
    editor.say(
        "## The first action is chosen\n\n"
        "The editor has it worked out, and asks for a confirmation before it applies the edit."
    )
    editor.ask("codeAction/resolve", actions[0])
    editor.say(
        "## Typing\n\n"
        "A new method is begun; the editor asks for a suggestion, and types on: the older request is answered null."
    )
    line = TEXT.count("\n")
    editor.change(URI, 2, insertion(line, 0, "\n    def total(self):\n        return"))
    older = editor.complete(URI, line + 2, 14, invoked=False)
    editor.change(URI, 3, insertion(line + 2, 14, " "))
    newer = editor.complete(URI, line + 2, 15, invoked=True)
    for number, answer in (older, newer):
        editor.note("←", {"id": number, "result": answer.result(PATIENCE)})
    editor.say("## How things stand")
    editor.ask("diffill/status")
    editor.say("## A file that is never sent to the model")
    editor.open("file:///project/.env", "TOKEN=\n", "shellscript")
    answer = editor.complete("file:///project/.env", 0, 6)
    editor.note("←", {"id": answer[0], "result": answer[1].result(PATIENCE)})
    editor.ask("diffill/status")
    editor.say("## Goodbye")
    editor.ask("shutdown")
    editor.notify("exit")
    editor.process.wait(PATIENCE)


def main() -> None:
    """Run the session and write the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "transcript.md")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DIFFILL_RUNTIME_DIR": str(Path(folder) / "runtime")}
        try:
            warm = Editor("vscode", environment)  # a session in the middle of a day: the model is loaded
            warm.open(URI, TEXT)
            warm.complete(URI, 3, 21)[1].result(PATIENCE)
            warm.leave()
            editor = Recorded("vscode", environment, clientInfo={"name": "An editor"})
            session(editor)
            editor.close()
        finally:
            stop_daemon(environment)
    out.write_text(HEAD + "\n" + "\n".join(editor.written) + "\n", encoding="utf-8")
    print(f"{out}: {len(editor.written)} entries")


if __name__ == "__main__":
    main()
