"""Install what the tests in VS Code need: Chromium from Debian, code-server from npm. Run again, it does nothing.

Each step leaves a mark when it is done: a run that was stopped goes on where it was, and with all marks there no
network is used. What is installed stays below build/e2e.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import places

# Of VS Code's native modules only these two are needed; kerberos and others fail or take minutes to compile.
NATIVE = ("@vscode/spdlog", "@vscode/native-watchdog")
PACKAGES = ("chromium", "fonts-dejavu-core", "make", "g++", "python3")
BEGUN = time.monotonic()


def main() -> int:
    """Install; 1 with a sentence if that cannot be, 0 with a sentence if it cannot be and need not."""
    if sys.platform != "linux":
        return cannot("code-server is installed on Linux only")
    try:
        install_browser()
        install_code_server()
    except subprocess.CalledProcessError as error:
        print(f"e2e: `{' '.join(map(str, error.cmd[:4]))} …` failed:\n{error.output or ''}", file=sys.stderr)
        return 1
    missing = places.missing()
    return cannot(missing) if missing else 0


def cannot(why: str) -> int:
    """What cannot be installed is an error only where the tests are required."""
    print(f"e2e: {why}", file=sys.stderr)
    return 1 if places.REQUIRED else 0


def install_browser() -> None:
    """Chromium, and a compiler for the native modules; only root can."""
    there = places.browser() is not None and shutil.which("g++") and shutil.which("make")
    if there or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", env=environment)
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES, env=environment)
    tell("chromium")


def install_code_server() -> None:
    """code-server with the dependencies of the VS Code in it, which its package leaves to its install script."""
    home = places.node_home()
    if places.INSTALLED.exists() or home is None:
        return
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((str(home / "bin"), os.environ["PATH"])),
        "npm_config_nodedir": str(home),  # headers; otherwise they are fetched from nodejs.org
        "npm_config_update_notifier": "false",
    }
    folder = places.CODE_SERVER_HOME
    npm = (places.node(), home / "lib/node_modules/npm/bin/npm-cli.js")
    quiet = ("--no-audit", "--no-fund", "--loglevel=error")

    def unpack() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(json.dumps({"private": True}))
        wanted = f"code-server@{places.CODE_SERVER}"
        run(*npm, "install", "--ignore-scripts", *quiet, wanted, cwd=folder, env=environment)

    def complete() -> None:  # not `npm ci`: the lock in the package does not fit its package.json
        run(*npm, "install", "--omit=dev", "--ignore-scripts", *quiet, cwd=places.VSCODE_HOME, env=environment)

    def compile_native() -> None:
        run(*npm, "rebuild", *quiet, *NATIVE, cwd=places.VSCODE_HOME, env=environment)

    def link() -> None:
        for name, target in (("remote-cli/code-server", "code-linux.sh"), ("helpers/browser.sh", "browser-linux.sh")):
            path = places.VSCODE_HOME / "bin" / name
            if not path.exists():
                path.unlink(missing_ok=True)
                path.symlink_to(target)

    for step in (unpack, complete, compile_native, link):
        mark = folder / f".{step.__name__}-{places.CODE_SERVER}"
        if not mark.exists():
            step()
            mark.touch()
            tell(step.__name__.replace("_", " "))
    run(places.node(), places.CODE_SERVER_ENTRY, "--config", folder / "config.yaml", "--version", env=environment)
    places.INSTALLED.touch()


def run(*command: str | Path, **options: object) -> None:
    """Run a command; what it prints is shown only if it fails."""
    subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)  # type: ignore[call-overload]


def tell(done: str) -> None:
    print(f"e2e: installed: {done} ({time.monotonic() - BEGUN:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
