"""Emacs with eglot and lsp-mode as docs/editors.md sets them up: what is typed reaches the server, and what is chosen
reaches the file."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from emacs import Emacs
from expected import ROOT, STYLES, after_command, configuration, rewritten, sketched
from hypothesis import example, given, settings
from hypothesis import strategies as st

LISP = ROOT / "build" / "editors" / "root" / "usr" / "share" / "emacs" / "site-lisp" / "elpa-src"  # by install.sh


@dataclass(frozen=True)
class Client:
    """A client within Emacs: its package, how it is set up, and its names for what a user does."""

    package: str
    block: str  # of docs/editors.md
    extra: str  # what only a test needs
    ready: str
    flush: str
    checksum: str
    actions: str
    newer: bool = False


EGLOT = Client(
    package="eglot",
    block="eglot",
    extra="",
    ready="(eglot-current-server)",
    flush="(eglot--signal-textDocument/didChange)",
    checksum="(plist-get (jsonrpc-request (eglot-current-server) :diffill/checksum"
    " (list :textDocument (eglot--TextDocumentIdentifier))) :sha256)",
    actions="(call-interactively #'eglot-code-actions)",
)
LSP_MODE = Client(
    package="lsp-mode",
    block="lsp-mode",
    extra="(setq lsp-auto-guess-root t lsp-enable-file-watchers nil lsp-enable-snippet nil)"
    "(setq lsp-modeline-code-actions-enable nil lsp-enabled-clients '(diffill))"
    '(lsp-register-custom-settings \'(("diffill.minConfidence" 0)))',
    ready="(and (bound-and-true-p lsp-mode) (lsp-workspaces)"
    " (eq 'initialized (lsp--workspace-status (car (lsp-workspaces)))))",
    flush="(lsp--flush-delayed-changes)",
    checksum='(gethash "sha256" (lsp-request "diffill/checksum" (list :textDocument (lsp--text-document-identifier))))',
    actions="(call-interactively #'lsp-execute-code-action)",
)
CLIENTS = {
    "eglot": EGLOT,
    "lsp-mode": LSP_MODE,
    "newer lsp-mode": Client(
        **{**vars(LSP_MODE), "newer": True, "extra": f"{LSP_MODE.extra}(require 'lsp-inline-completion)"}
    ),  # as the package's autoloads have it, which an unpacked one lacks
}


@functools.cache
def has_package(emacs: str, package: str) -> bool:
    """Whether this Emacs finds a package where the system puts them."""
    code = f'(progn (package-initialize) (unless (locate-library "{package}") (kill-emacs 1)))'
    command = [emacs, "--batch", "-q", "--eval", code]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module", params=list(CLIENTS))
def emacs(request, environment, tmp_path_factory) -> Iterator[Emacs]:
    """One Emacs with one of the clients."""
    binary, client = shutil.which("emacs"), CLIENTS[request.param]
    hint = "`make editors` gets it on Debian, as root"
    if binary is None:
        pytest.skip(f"no Emacs here: {hint}")
    paths = "".join(f'(add-to-list \'load-path "{path}")\n' for path in LISP.glob("*")) if client.newer else ""
    if not (paths if client.newer else has_package(binary, client.package)):
        pytest.skip(f"no {request.param} here: {hint}")
    config = f"{paths}(package-initialize)\n{paths}{configuration(client.block)}\n{client.extra}\n"
    folder = tmp_path_factory.mktemp("emacs")
    (folder / "project" / ".git").mkdir(parents=True)
    running = Emacs(binary, folder, environment, config)
    running.client = client
    yield running
    running.quit()


@pytest.fixture(scope="module")
def sketch(plain) -> str:
    return sketched(plain)


def visit(emacs: Emacs, folder: Path, text: str, name: str = "store.py") -> Path:
    """Open a file of its own in the one project, and wait for the server."""
    path = emacs.folder / "project" / folder.name / name
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode())
    # eglot starts after the next command, which is a key's
    emacs.lisp(f'(switch-to-buffer (find-file-noselect "{path}")) (execute-kbd-macro (kbd "C-a")) nil')
    emacs.until(f"(if {emacs.client.ready} t)")
    return path


def as_sent(style: str, text: str) -> str:
    """What Emacs has of a file: where all lines end with CRLF, it takes them for LF."""
    return text.replace("\r\n", "\n") if style == "crlf" else text


def as_saved(style: str, text: str) -> bytes:
    """The file that Emacs writes of its text."""
    return (text.replace("\n", "\r\n") if style == "crlf" else text).encode()


CHANGED = "(wait-until (lambda () (/= before (buffer-chars-modified-tick))))"
EDITS = [
    '(insert "😀é\u0301")',
    '(insert "\n\ttab")',
    '(insert "\r")',
    "(ignore-errors (delete-char 1))",
    "(ignore-errors (delete-char 4))",
    "(ignore-errors (kill-line))",
    "(ignore-errors (kill-whole-line))",
    "(ignore-errors (join-line))",
    "(ignore-errors (transpose-lines 1))",
    "(ignore-errors (upcase-word 2))",
    "(yank)",
    "(subst-char-in-region (point-min) (point-max) ?a ?b)",
    '(save-excursion (goto-char (point-min)) (while (search-forward "\r" nil t) (replace-match "")))',
]
TEXTS = {name: style("# 😀\n\n\ndef f():\n\treturn 'é'\n\n\nx = 'e\u0301' # 👩‍🚀\n") for name, style in STYLES.items()}
TEXTS["cr"] = "a = '😀'\rb = 1\nc = 2\r\nd\n"


@settings(max_examples=15)
@given(
    style=st.sampled_from(sorted(TEXTS)),
    edits=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(EDITS)), min_size=1, max_size=8),
)
@example(style="mixed", edits=[(0, EDITS[-1]), (5, EDITS[0])])
@example(style="cr", edits=[(12, EDITS[5]), (3, EDITS[0])])
def test_the_servers_text_is_emacs(emacs, tmp_path_factory, style, edits):
    if emacs.client is EGLOT and (style == "cr" or any("\\r" in repr(edit) for _, edit in edits)):
        return  # see the next test
    visit(emacs, tmp_path_factory.mktemp("sync"), TEXTS[style])
    wrong = emacs.lisp(steps(emacs.client, edits))
    assert wrong is None, f"after edit {wrong} of {style}, {edits}"


def steps(client: Client, edits: list[tuple[int, str]]) -> str:
    """Lisp that makes edits one after the other, and gives the number of the first whose outcome the server lacks."""
    mine = "(secure-hash 'sha256 (encode-coding-string (buffer-substring-no-properties 1 (point-max)) 'utf-8-unix))"
    made = "".join(
        f"(goto-char (min (point-max) (1+ {place}))) {edit} {client.flush}"
        f"(unless (equal {mine} {client.checksum}) (throw 'wrong {number}))"
        for number, (place, edit) in enumerate(edits, 1)
    )
    return f'(prog1 (catch \'wrong (kill-new "k\n") {made} nil) (set-buffer-modified-p nil) (kill-buffer))'


@pytest.mark.xfail(strict=True, reason="eglot 1.9 gives no name, so its lines are counted as the protocol wants it")
def test_cr_alone_in_eglot_without_a_name(emacs, tmp_path):
    if emacs.client is not EGLOT:
        pytest.skip("lsp-mode gives its name")
    visit(emacs, tmp_path, TEXTS["cr"])
    assert emacs.lisp(steps(EGLOT, [(16, "(kill-line)"), (3, EDITS[0])])) is None


@pytest.mark.parametrize("style", STYLES)
def test_a_chosen_code_action_changes_what_it_says_and_can_be_undone(emacs, plain, tmp_path, sketch, style):
    text = STYLES[style](sketch)
    path = visit(emacs, tmp_path, text)
    titles = choose(emacs, "Fill 2 holes in this file", "(goto-char (point-min))")
    assert "Fill 2 holes in this file" in titles
    wanted = after_command(plain, as_sent(style, text), "diffill.fillHoles")
    assert path.read_bytes() == as_saved(style, wanted)
    emacs.lisp("(let ((last-command nil)) (undo-boundary) (undo) (save-buffer))")
    assert path.read_bytes() == text.encode()


def choose(emacs: Emacs, title: str, place: str) -> list[str]:
    """Choose a code action in the editor's menu at a place, wait for the change, save; the titles in the menu."""
    return emacs.lisp(
        f"{place} (undo-boundary)"
        " (let ((before (buffer-chars-modified-tick)) (last-nonmenu-event ?a) titles)"
        " (cl-letf (((symbol-function 'completing-read) (lambda (_ collection &rest _)"
        '   (setq titles (all-completions "" collection))'
        f"   (cl-find-if (lambda (one) (string-match-p {json.dumps(title)} one)) titles))))"
        f" {emacs.client.actions} {CHANGED})"
        " (save-buffer) (vconcat titles))"
    )


def test_a_region_is_written_anew_behind_wide_characters(emacs, plain, tmp_path):
    text, start, end, wanted = rewritten(plain)
    path = visit(emacs, tmp_path, text)
    choose(
        emacs,
        "Regenerate selection [(]strong[)]",
        f"(transient-mark-mode 1) (goto-char {start + 1}) (push-mark {end + 1} t t)",
    )
    assert path.read_bytes() == wanted.encode()


@pytest.mark.parametrize("style", STYLES)
def test_the_command_of_the_page_works(emacs, plain, tmp_path, sketch, style):
    if emacs.client.newer:
        pytest.skip("lsp-mode 10 waits in vain for the first answer now and then, here: not understood yet")
    text = STYLES[style](sketch)
    path = visit(emacs, tmp_path, text)
    emacs.lisp(f"(let ((before (buffer-chars-modified-tick))) (diffill-fill) {CHANGED} (save-buffer))")
    assert path.read_bytes() == as_saved(style, after_command(plain, as_sent(style, text), "diffill.fillHoles"))
