"""Several workspace folders: each has its own settings and its own .gitignore, also once it comes or goes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from editor import PATIENCE, Editor

FOLDERS = {"first": {"enabled": True}, "second": {"disabledLanguages": ["python"]}, "inner": {"maxFileSize": 3}}


class Several(Editor):
    """An editor whose settings depend on the folder that is asked about."""

    by_folder: dict[str, Any] = {}  # noqa: RUF012

    def _result(self, message: dict[str, Any]) -> Any:
        if message["method"] == "workspace/configuration":
            return [self.by_folder.get(item.get("scopeUri"), self.settings) for item in message["params"]["items"]]
        return super()._result(message)


def reason(editor: Editor, uri: str) -> str | None:
    """Why nothing is shown in a file, if so; the same text for each."""
    editor.open(uri, "x = \n")
    editor.complete(uri, 0, 4)[1].result(PATIENCE)
    editor.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    return editor.silence()


def described(path: Path) -> dict[str, str]:
    return {"uri": path.as_uri(), "name": path.name}


def test_each_folder_has_its_own_settings_and_they_come_and_go_with_it(environment, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    inner = second / "inner"
    paths = (first, second, inner)
    Several.by_folder = {path.as_uri(): FOLDERS[path.name] for path in paths}
    started = {"settings": {"maxFileSize": 2}, "workspaceFolders": [described(first), described(second)]}
    editor = Several("vscode", environment, **started)
    try:
        files = {path.name: (path / "a.py").as_uri() for path in (*paths, tmp_path)}
        assert reason(editor, files["first"]) not in ("too_large", "language_off")
        assert reason(editor, files["second"]) == "language_off"
        assert reason(editor, files["inner"]) == "language_off"
        assert reason(editor, files[tmp_path.name]) == "too_large"  # outside all folders: the window's
        event = {"added": [described(inner)], "removed": [described(first)]}
        editor.wait_for("workspace/configuration")
        editor.notify("workspace/didChangeWorkspaceFolders", {"event": event})
        editor.wait_for("workspace/configuration", lambda asked: len(asked["items"]) == 3)
        editor.ask("diffill/status")
        assert reason(editor, files["inner"]) == "too_large"
        assert reason(editor, files["first"]) == "too_large"
        assert reason(editor, files["second"]) == "language_off"
    finally:
        editor.close()


def test_what_git_ignores_is_asked_in_each_folder(environment, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folders[0] / ".gitignore").write_text("made.py\n")
    editor = Editor("neovim", environment, workspaceFolders=[described(folder) for folder in folders])
    try:
        one, two = ((folder / "made.py").as_uri() for folder in folders)
        assert reason(editor, one) == "excluded"
        assert reason(editor, two) != "excluded"
        (folders[1] / ".gitignore").write_text("made.py\n")
        event = {"added": [], "removed": [described(folders[0])]}
        editor.notify("workspace/didChangeWorkspaceFolders", {"event": event})
        assert reason(editor, two) == "excluded"
    finally:
        editor.close()
