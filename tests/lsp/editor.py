"""An editor for tests: starts the real `diffill lsp` as a process and speaks JSON-RPC with it over its pipes."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import Any

PATIENCE = 60  # seconds until a test that waits for something gives up

# What three editors say of themselves, as far as it matters to the server.
EDITORS: dict[str, dict[str, Any]] = {
    "vscode": {
        "general": {"positionEncodings": ["utf-16"]},
        "window": {"workDoneProgress": True},
        "workspace": {
            "configuration": True,
            "didChangeConfiguration": {"dynamicRegistration": True},
            "workspaceFolders": True,
            "applyEdit": True,
            "workspaceEdit": {
                "documentChanges": True,
                "changeAnnotationSupport": {"groupsOnLabel": True},
            },
        },
        "textDocument": {
            "inlineCompletion": {"dynamicRegistration": True},
            "codeAction": {
                "codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["refactor.rewrite"]}},
                "dataSupport": True,
                "resolveSupport": {"properties": ["edit"]},
                "tagSupport": {"valueSet": [1]},
            },
            "synchronization": {"dynamicRegistration": True, "didSave": True},
        },
    },
    "neovim": {
        "general": {"positionEncodings": ["utf-8", "utf-16", "utf-32"]},
        "window": {"workDoneProgress": True},
        "workspace": {
            "configuration": True,
            "didChangeConfiguration": {"dynamicRegistration": False},
            "workspaceFolders": True,
            "applyEdit": True,
            "workspaceEdit": {"documentChanges": True},
        },
        "textDocument": {
            "inlineCompletion": {"dynamicRegistration": False},
            "codeAction": {"codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["refactor.rewrite"]}}},
            "synchronization": {"didSave": True},
        },
    },
    "emacs": {
        "general": {"positionEncodings": ["utf-32", "utf-8", "utf-16"]},
        "window": {"workDoneProgress": False},
        "workspace": {"workspaceFolders": True, "applyEdit": True},
        "textDocument": {"inlineCompletion": {"dynamicRegistration": True}, "synchronization": {"didSave": True}},
    },
}


class RequestFailed(Exception):
    """The server answered with an error."""

    def __init__(self, error: dict[str, Any]):
        super().__init__(f"{error['code']}: {error['message']}")
        self.code, self.message, self.data = error["code"], error["message"], error.get("data")


class Editor:
    """A running server and what it said; `settings` is what it gets when it asks for them."""

    def __init__(self, name: str, environment: dict[str, str], **started: Any):
        self.capabilities = started.pop("capabilities", EDITORS[name])
        self.settings: Any = started.pop("settings", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "model_runtime", "lsp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self.kept: list[dict[str, Any]] = []  # heard and not yet looked for
        self.waiting: dict[int, Future[Any]] = {}
        self.answers: dict[int, int] = {}  # how often each request was answered
        self.lock = threading.Lock()
        self.number = 0
        threading.Thread(target=self._read, daemon=True).start()
        options = {"processId": None, "rootUri": None, "capabilities": self.capabilities, **started}
        self.initialized = self.ask("initialize", options)
        self.notify("initialized", {})

    def _read(self) -> None:
        """Take every message: answers go to who waits, the server's requests are answered, the rest is kept."""
        stdout = self.process.stdout
        assert stdout is not None
        while line := stdout.readline():
            length = 0
            while line.strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
                line = stdout.readline()
            message = json.loads(stdout.read(length))
            if "method" not in message:
                self.answers[message["id"]] = self.answers.get(message["id"], 0) + 1
                answer = self.waiting[message["id"]]
                if "error" in message:
                    answer.set_exception(RequestFailed(message["error"]))
                else:
                    answer.set_result(message["result"])
                continue
            if "id" in message:
                try:
                    self.send({"id": message["id"], "result": self._result(message)})
                except RequestFailed as refused:
                    self.send({"id": message["id"], "error": {"code": refused.code, "message": refused.message}})
            self.heard.put(message)

    def _result(self, message: dict[str, Any]) -> Any:
        """The answer to a request of the server's."""
        if message["method"] == "workspace/configuration":
            return [self.settings for _ in message["params"]["items"]]
        return {"applied": True} if message["method"] == "workspace/applyEdit" else None

    def send(self, message: dict[str, Any]) -> None:
        """Write one message as it is."""
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        with self.lock:
            self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            self.process.stdin.flush()

    def start(self, method: str, params: Any) -> tuple[int, Future[Any]]:
        """Send a request; its id and what will be its answer."""
        self.number += 1
        answer = self.waiting[self.number] = Future()
        self.send({"id": self.number, "method": method, "params": params})
        return self.number, answer

    def ask(self, method: str, params: Any = None) -> Any:
        """Send a request and wait for its answer."""
        return self.start(method, params)[1].result(PATIENCE)

    def notify(self, method: str, params: Any = None) -> None:
        """Send a notification."""
        self.send({"method": method, "params": params})

    def wait_for(self, method: str, wanted: Any = None) -> dict[str, Any]:
        """The parameters of the first message of a method, heard already or to come, for which `wanted` holds."""
        fits = wanted or (lambda params: True)
        for message in self.kept:
            if message["method"] == method and fits(message["params"]):
                self.kept.remove(message)
                return message["params"]
        while True:
            message = self.heard.get(timeout=PATIENCE)
            if message["method"] == method and fits(message["params"]):
                return message["params"]
            self.kept.append(message)

    def all_heard(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all messages of a method that came before the answer to what is asked now."""
        self.ask("diffill/status")
        while not self.heard.empty():
            self.kept.append(self.heard.get_nowait())
        return [message["params"] for message in self.kept if message["method"] == method]

    def open(self, uri: str, text: str, language: str = "python") -> None:
        """Open a file."""
        item = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def change(self, uri: str, version: int, *changes: dict[str, Any]) -> None:
        """Change a file; a change without a range is its whole text."""
        params = {"textDocument": {"uri": uri, "version": version}, "contentChanges": list(changes)}
        self.notify("textDocument/didChange", params)

    def complete(self, uri: str, line: int, character: int, invoked: bool = True) -> tuple[int, Future[Any]]:
        """Ask for an inline completion."""
        return self.start(
            "textDocument/inlineCompletion",
            {
                "textDocument": {"uri": uri},
                "position": {"line": line, "character": character},
                "context": {"triggerKind": 1 if invoked else 2},
            },
        )

    def silence(self) -> str | None:
        """Why the last request was answered with nothing."""
        silence = self.ask("diffill/status")["lastSilence"]
        return silence and silence["reason"]

    def leave(self) -> int:
        """Say goodbye; the server's exit code."""
        self.ask("shutdown")
        self.notify("exit")
        code = self.process.wait(PATIENCE)
        self.close()
        return code

    def close(self) -> None:
        """Make sure that the process is gone and the pipes closed."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        assert self.process.stdin is not None
        self.process.stdin.close()


def insertion(line: int, character: int, text: str) -> dict[str, Any]:
    """A change that types text at a place."""
    place = {"line": line, "character": character}
    return {"range": {"start": place, "end": place}, "text": text}


def stop_daemon(environment: dict[str, str]) -> None:
    """End the daemon that the servers of a test started."""
    command = [sys.executable, "-m", "model_runtime", "serve", "--stop"]
    subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE, check=False)
