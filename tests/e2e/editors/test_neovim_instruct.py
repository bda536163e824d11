"""Neovim's command for instructions, as docs/editors.md has it, with a model that follows them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from expected import configuration
from neovim import Neovim
from test_neovim import NEWER, change, version_of

pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parents[2]))

from instructed import instructed

ANSWER = "return self.value"
TEXT = "def area(width, height):\n    size = width * height  # 😀\n    return size\n\n\narea(1, 2)\n"


@pytest.fixture(params=["installed", "newer"])
def neovim(request, environment, tmp_path_factory) -> Iterator[Neovim]:
    """A Neovim whose server has that model."""
    binary = shutil.which("nvim") if request.param == "installed" else shutil.which(str(NEWER))
    if binary is None:
        pytest.skip(f"no {request.param} Neovim here: `make editors` gets one on Debian, as root")
    folder = instructed(tmp_path_factory.mktemp("instructed"), ANSWER)
    newer = version_of(binary) >= (0, 12)
    config = configuration("neovim" if newer else "neovim-old")
    settings = "settings = { diffill = { " if newer else "settings = { "
    assert settings in config
    config = config.replace(settings, f'{settings}model = "{folder}", ')
    lines = ("vim.cmd('filetype on')", config, configuration("neovim-commands"), "")
    running = Neovim(binary, tmp_path_factory.mktemp("neovim"), environment, "\n".join(lines))
    yield running
    running.quit()


def test_lines_are_rewritten_as_they_are_told(neovim, tmp_path):
    path = tmp_path / "store.py"
    path.write_bytes(TEXT.encode())
    neovim.edit(path)
    change(neovim, "vim.cmd('2,3DiffillInstruct make it shorter')")
    assert path.read_text() == TEXT.replace("size = width * height  # 😀\n    return size", ANSWER)
    neovim.lua("vim.cmd('silent undo | silent write')")
    assert path.read_text() == TEXT
