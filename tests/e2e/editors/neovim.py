"""A real Neovim without a screen, driven through its RPC address: runs Lua in it and gives back what that returns."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

PATIENCE = 60  # seconds until a test that waits for something gives up
INIT = """
vim.o.swapfile = false
vim.o.hidden = true
function _G.step(path)
  local done, result = pcall(dofile, path)
  return vim.json.encode({ done = done, result = result })
end
function _G.wait_until(condition)
  assert(vim.wait(PATIENCE000, condition, 10), "waited in vain")
end
""".replace("PATIENCE", str(PATIENCE))


class Neovim:
    """One running Neovim; `config` is Lua that a user would have in their init.lua."""

    def __init__(self, binary: str, folder: Path, environment: dict[str, str], config: str):
        self.binary, self.folder, self.environment = binary, folder, environment
        self.address = str(folder / "nvim.sock")
        init = folder / "init.lua"
        ready = folder / "ready"
        init.write_text(f"{INIT}\n{config}\nvim.fn.writefile({{}}, [[{ready}]])", encoding="utf-8")
        self.process = subprocess.Popen(
            [binary, "--headless", "-i", "NONE", "-u", str(init), "--listen", self.address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(folder / "nvim.err").open("wb"),
            env=environment,
            cwd=folder,
        )
        deadline = time.monotonic() + PATIENCE
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.quit()
                raise AssertionError((folder / "nvim.err").read_text())
            time.sleep(0.02)

    def _remote(self, *arguments: str) -> str:
        """Ask the running Neovim for something."""
        command = [self.binary, "--headless", "-u", "NONE", "-i", "NONE", "--server", self.address, *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=3 * PATIENCE, check=False
        )
        said = done.stdout or done.stderr  # which of the two depends on the version
        assert done.returncode == 0, said
        return said

    def lua(self, code: str) -> Any:
        """What a chunk of Lua returns; AssertionError with its message where it fails."""
        path = self.folder / "step.lua"
        path.write_text(code, encoding="utf-8")
        answer = json.loads(self._remote("--remote-expr", f"luaeval('step(_A)', '{path}')"))
        assert answer["done"], answer.get("result")
        return answer.get("result")

    def type(self, keys: str) -> None:
        """Press keys, in the notation of maps (<Esc>), as if at the keyboard."""
        self._remote("--remote-send", keys)

    def edit(self, path: Path) -> None:
        """Open a file, and wait until the server has it."""
        self.lua(f"vim.cmd('edit ' .. vim.fn.fnameescape([[{path}]]))")
        self.lua(
            "local get = vim.lsp.get_clients or vim.lsp.get_active_clients\n"
            "wait_until(function()\n"
            "  for _, client in pairs(get()) do\n"
            "    if client.name == 'diffill' and client.initialized and vim.lsp.buf_is_attached(0, client.id) then\n"
            "      return true\n"
            "    end\n"
            "  end\n"
            "end)"
        )

    def request(self, method: str, params: str) -> Any:
        """The server's answer to a request of the current buffer; `params` is a Lua expression."""
        return self.lua(
            f"local answers = vim.lsp.buf_request_sync(0, '{method}', {params}, {PATIENCE}000)\n"
            "for _, answer in pairs(answers) do\n"
            "  if answer.err then error(answer.err.message) end\n"
            "  return answer.result\n"
            "end"
        )

    def quit(self) -> None:
        """End it; nothing is saved."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE)
