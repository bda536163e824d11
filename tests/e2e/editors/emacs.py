"""A real Emacs without a screen, driven through its server: evaluates Lisp in it and gives back what that returns."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

PATIENCE = 60  # seconds until a test that waits for something gives up
INIT = """
(setq make-backup-files nil create-lockfiles nil auto-save-default nil inhibit-message t
      enable-local-variables :safe)
(require 'json)
(require 'cl-lib)
(defun step (code answer)
  "Evaluate the file CODE and write what it returns, as JSON, to the file ANSWER."
  (let* ((result (condition-case problem
                     (list :done t :result (eval (with-temp-buffer (insert-file-contents code)
                                                                   (read (current-buffer)))
                                                 t))
                   ((error quit) (list :done :json-false :result (error-message-string problem)))))
         (coding-system-for-write 'utf-8-unix))
    (with-temp-file (concat answer ".part") (insert (json-encode result)))
    (rename-file (concat answer ".part") answer t)))
(defun wait-until (condition)
  "Let Emacs do what it does until CONDITION holds."
  (with-timeout (PATIENCE (error "waited in vain"))
    (while (not (funcall condition)) (accept-process-output nil 0.01))))
""".replace("PATIENCE", str(PATIENCE))


class Emacs:
    """One running Emacs; `config` is Lisp that a user would have in their init file."""

    def __init__(self, binary: str, folder: Path, environment: dict[str, str], config: str, *arguments: str):
        self.folder, self.environment = folder, environment
        self.address = str(folder / "emacs.sock")
        init = folder / "init.el"
        init.write_text(f"{INIT}\n{config}", encoding="utf-8")
        self.process = subprocess.Popen(
            [binary, "-q", *arguments, f"--fg-daemon={self.address}", "-l", str(init)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(folder / "emacs.err").open("wb"),
            env={**environment, "HOME": str(folder)},
            cwd=folder,
        )
        deadline = time.monotonic() + PATIENCE
        while not Path(self.address).exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.quit()
                raise AssertionError((folder / "emacs.err").read_text())
            time.sleep(0.02)

    def lisp(self, code: str) -> Any:
        """What a form of Lisp returns; AssertionError with its message where it fails."""
        step, answer = self.folder / "step.el", self.folder / "answer.json"
        here = "(with-current-buffer (window-buffer (selected-window))"  # not the server's own
        step.write_text(f"{here} {code})", encoding="utf-8")
        answer.unlink(missing_ok=True)
        command = [
            "emacsclient",
            "-s",
            self.address,
            "--eval",
            f'(progn (run-with-timer 0 nil #\'step "{step}" "{answer}") t)',
        ]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=3 * PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        deadline = time.monotonic() + 3 * PATIENCE
        while not answer.exists():  # a timer's work, not the connection's: clients wait for answers in the midst of it
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            time.sleep(0.02)
        told = json.loads(answer.read_text(encoding="utf-8"))
        assert told["done"], told["result"]
        return told["result"]

    def until(self, condition: str) -> None:
        """Wait until a form of Lisp holds, Emacs being idle between the questions: what waits for that goes on."""
        deadline = time.monotonic() + PATIENCE
        while not self.lisp(condition):
            assert time.monotonic() < deadline, f"waited in vain for {condition}"
            time.sleep(0.1)

    def quit(self) -> None:
        """End it; nothing is saved."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE)
