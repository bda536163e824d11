"""Neovim as docs/editors.md sets it up: what is typed reaches the server, what is chosen reaches the file."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from expected import ROOT, STYLES, after_command, configuration, edits_of, rewritten, sketched, suggested
from hypothesis import example, given, settings
from hypothesis import strategies as st
from neovim import Neovim

NEWER = ROOT / "build" / "editors" / "bin" / "nvim"  # what install.sh unpacks
UNBOUND = 'vim.lsp.config("diffill", { settings = { diffill = { minConfidence = 0 } } })'
CHECK = """
local function agreed()
  local ends = ({ unix = "\\n", dos = "\\r\\n", mac = "\\r" })[vim.bo.fileformat]
  local mine = table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, true), ends) .. ends
  local params = { textDocument = { uri = vim.uri_from_bufnr(0) } }
  for _, answer in pairs(vim.lsp.buf_request_sync(0, "diffill/checksum", params, 60000)) do
    return answer.result.sha256 == vim.fn.sha256(mine), answer.result.version
  end
end
"""


def version_of(binary: str) -> tuple[int, int]:
    """Major and minor."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = said.split()[1].lstrip("v").split(".")[:2]
    return int(major), int(minor)


@pytest.fixture(scope="module", params=["installed", "newer"])
def neovim(request, environment, tmp_path_factory) -> Iterator[Neovim]:
    """The Neovim on the path, and the newer one."""
    binary = shutil.which("nvim") if request.param == "installed" else shutil.which(str(NEWER))
    if binary is None:
        pytest.skip(f"no {request.param} Neovim here: `make editors` gets one on Debian, as root")
    version = version_of(binary)
    if request.param == "newer" and version < (0, 12):
        pytest.skip(f"Neovim {version[0]}.{version[1]} has no inline completion")
    config = configuration("neovim" if version >= (0, 12) else "neovim-old")
    names = "\n".join(("vim.cmd('filetype on')", config, configuration("neovim-commands"), ""))
    names += UNBOUND if version >= (0, 12) else ""
    running = Neovim(binary, tmp_path_factory.mktemp("neovim"), environment, names)
    running.version = version
    yield running
    running.quit()


@pytest.fixture(scope="module")
def sketch(plain) -> str:
    return sketched(plain)


def write(tmp_path: Path, text: str) -> Path:
    """A file of its own for a test."""
    path = tmp_path / "store.py"
    path.write_bytes(text.encode())
    return path


def change(neovim: Neovim, code: str) -> None:
    """Run Lua, wait until the buffer changed, and save."""
    neovim.lua(
        f"local before = vim.b.changedtick\n{code}\n"
        "wait_until(function() return vim.b.changedtick ~= before end)\nvim.cmd('silent write')"
    )


def test_it_starts_the_server_and_agrees_on_units(neovim, tmp_path, sketch):
    neovim.edit(write(tmp_path, sketch))
    told = neovim.lua(
        "local get = vim.lsp.get_clients or vim.lsp.get_active_clients\n"
        "for _, client in pairs(get()) do\n"
        "  local can = client.server_capabilities\n"
        "  return { client.name, client.offset_encoding, can.codeActionProvider.resolveProvider,\n"
        "    can.inlineCompletionProvider ~= nil }\n"
        "end"
    )
    assert told[0] == "diffill"
    assert told[1] == ("utf-16" if neovim.version < (0, 11) else "utf-8")  # older ones offer utf-16 alone
    assert told[2:] == [True, True]
    assert neovim.request("diffill/status", "{}")["state"] in ("idle", "loading", "working")


KEYS = [
    "x",
    "dd",
    "J",
    "~",
    "iA😀é\u0301\u001b",
    "o\ttab\u001b",
    "Onew\u001b",
    "p",
    "yyP",
    "u",
    "dw",
    ">>",
    "A end\u001b",
    "D",
]
TEXTS = {name: style("# 😀\n\n\ndef f():\n\treturn 'é'\n\n\nx = 'e\u0301' # 👩‍🚀\n") for name, style in STYLES.items()}
TEXTS["cr"] = "a = '😀'\rb = 1\nc = 2\r\nd\n"


@settings(max_examples=15)
@given(
    style=st.sampled_from(sorted(TEXTS)),
    edits=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.sampled_from(KEYS)), min_size=1, max_size=8),
)
@example(style="mixed", edits=[(1, 0, ":%s/\r$//e\r"), (2, 0, "ihere\u001b")])
@example(style="cr", edits=[(2, 0, "dd"), (1, 3, "J"), (1, 9, "iX\u001b")])
def test_the_servers_text_is_neovims(neovim, tmp_path_factory, style, edits):
    neovim.edit(write(tmp_path_factory.mktemp("sync"), TEXTS[style]))
    steps = json.dumps([[line, column, keys] for line, column, keys in edits])
    wrong = neovim.lua(
        CHECK + f"local steps = vim.json.decode({json.dumps(steps)})\n"
        "for number, step in ipairs(steps) do\n"
        "  vim.fn.cursor(math.min(step[1], vim.fn.line('$')), step[2] + 1)\n"
        "  if step[3]:sub(1, 1) == ':' then vim.cmd('silent! ' .. step[3]:sub(2, -2))\n"
        "  else vim.cmd('silent! normal! ' .. step[3]) end\n"
        "  if vim.fn.line('$') == 1 and vim.fn.getline(1) == '' then vim.fn.setline(1, 'x') end\n"
        "  if not agreed() then return number end\n"
        "end\n"
        "vim.cmd('bwipeout!')"
    )
    assert wrong is None, f"after step {wrong}"


@pytest.mark.parametrize("style", STYLES)
def test_a_chosen_code_action_changes_what_it_says_and_can_be_undone(neovim, plain, tmp_path, sketch, style):
    text = STYLES[style](sketch)
    path = write(tmp_path, text)
    neovim.edit(path)
    titles = neovim.lua(
        "local titles, before, menu = nil, vim.b.changedtick, vim.ui.select\n"
        "vim.ui.select = function(items, options, choose)\n"
        "  titles = vim.tbl_map(options.format_item, items)\n"
        "  for number, title in ipairs(titles) do\n"
        "    if title:find('Fill 2 holes in this file', 1, true) then return choose(items[number], number) end\n"
        "  end\n"
        "  choose(nil)\n"
        "end\n"
        "vim.lsp.buf.code_action()\n"
        "wait_until(function() return titles ~= nil end)\n"
        "vim.ui.select = menu\n"
        "wait_until(function() return vim.b.changedtick ~= before end)\n"
        "vim.cmd('silent write')\n"
        "return titles"
    )
    assert any("Fill 2 holes in this file" in title for title in titles)
    assert path.read_bytes() == after_command(plain, text, "diffill.fillHoles").encode()
    neovim.lua("vim.cmd('silent undo | silent write')")
    assert path.read_bytes() == text.encode()


@pytest.mark.parametrize("style", STYLES)
def test_the_commands_of_the_page_work(neovim, plain, tmp_path, sketch, style):
    text = STYLES[style](sketch)
    path = write(tmp_path, text)
    neovim.edit(path)
    change(neovim, "vim.cmd('DiffillFill')")
    assert path.read_bytes() == after_command(plain, text, "diffill.fillHoles").encode()


def test_lines_are_written_anew_behind_wide_characters(neovim, plain, tmp_path):
    text, _, _, wanted = rewritten(plain)
    path = write(tmp_path, text)
    neovim.edit(path)
    change(neovim, "vim.cmd('2DiffillRegenerate strong')")
    assert path.read_bytes() == wanted.encode()


def test_typing_overtakes_an_edit(neovim, plain, tmp_path, sketch):
    """The server does not send an edit of an older text, and Neovim does not apply one that was under way."""
    path = write(tmp_path, sketch)
    neovim.edit(path)
    neovim.lua(
        "local answered = false\n"
        "local task = { uri = vim.uri_from_bufnr(0) }\n"
        "local params = { command = 'diffill.fillHoles', arguments = { task } }\n"
        "vim.lsp.buf_request(0, 'workspace/executeCommand', params, function() answered = true end)\n"
        "vim.api.nvim_buf_set_lines(0, 0, 0, true, { '# typed meanwhile' })\n"
        "vim.lsp.buf_request_sync(0, 'diffill/checksum', { textDocument = { uri = vim.uri_from_bufnr(0) } }, 60000)\n"
        "wait_until(function() return answered end)\n"
        "vim.cmd('silent write')"
    )
    assert path.read_bytes() == b"# typed meanwhile\n" + sketch.encode()
    assert edits_of(plain, sketch, "diffill.fillHoles")  # nothing but the typing kept it from being filled


def test_a_suggestion_comes_by_itself_and_tab_accepts_it(neovim, plain, tmp_path):
    if neovim.version < (0, 12):
        pytest.skip("inline completion came with Neovim 0.12")
    place = suggested(plain)
    path = write(tmp_path, place.before)
    neovim.edit(path)
    before = neovim.request("diffill/status", "{}")["counters"]
    neovim.lua(f"vim.api.nvim_win_set_cursor(0, {{ {place.line + 1}, 0 }})")
    neovim.type(f"A{place.key}")  # what is right of the cursor is the line's end
    neovim.lua(
        "local name = vim.api.nvim_get_namespaces()['nvim.lsp.inline_completion']\n"
        "wait_until(function() return #vim.api.nvim_buf_get_extmarks(0, name, 0, -1, {}) > 0 end)"
    )
    assert path.read_bytes() == place.before.encode()  # shown, not yet there
    neovim.type("<Tab>")
    neovim.lua(
        "local lines = vim.api.nvim_buf_line_count(0)\n"
        f"local wanted = vim.split({json.dumps(place.accepted, ensure_ascii=False)}, '\\n')\n"
        "table.remove(wanted)\n"
        "wait_until(function() return vim.deep_equal(vim.api.nvim_buf_get_lines(0, 0, -1, true), wanted) end)"
    )
    neovim.type("<Esc>:silent write<CR>")
    neovim.lua("wait_until(function() return not vim.bo.modified end)")
    assert path.read_bytes() == place.accepted.encode()
    counters = neovim.request("diffill/status", "{}")["counters"]
    assert counters["accepted"] == before["accepted"] + 1
