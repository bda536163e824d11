"""A process that can do no harm: bubblewrap around the runner, with nothing of the machine but a Python to read.

No network, an empty process table, a read-only system without the home folder, a small disk in memory, no rights and an
unprivileged user, and limits on time, memory, processes, files and output. Without bubblewrap nothing runs, unless it
is asked for by the name of unsafe.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from model_runtime.protocol import DiffillError

RUNNER = Path(__file__).with_name("runner.py")
FIRST_UID = 61000  # of sandboxes that root starts: one a slot, so that their limits on processes do not add up
SLOTS = 512
CANDIDATE = "candidate"  # the module that code is, unless it is a version of another
START_SECONDS = 60.0  # with the imports of a package
GRACE_SECONDS = 5.0
MEGABYTE = 1 << 20
INSTALL = "install it (Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap)"


class SandboxError(DiffillError):
    """No sandbox can be made here; its text says what to do."""


class Gone(Exception):
    """The sandbox ended, or did not answer in time."""


@dataclass(frozen=True)
class Limits:
    """What one test may use. Memory is of one process; the disk is in memory and counts for all together."""

    seconds: float = 5.0
    memory_mb: int = 512
    processes: int = 16
    file_mb: int = 8
    disk_mb: int = 32
    files: int = 64
    output_kb: int = 64

    def for_runner(self) -> dict[str, Any]:
        """As the runner takes them, in bytes."""
        sizes = {"memory": self.memory_mb * MEGABYTE, "file": self.file_mb * MEGABYTE, "output": self.output_kb * 1024}
        return sizes | {"seconds": self.seconds, "processes": self.processes, "files": self.files}


@lru_cache(maxsize=1)
def why_not() -> str | None:
    """None where sandboxes work; else the reason, with what to install."""
    program = shutil.which("bwrap")
    if program is None:
        return f"code of a model runs in a sandbox only, and bubblewrap is missing: {INSTALL}"
    try:
        done = subprocess.run(
            [*isolation(program), "--ro-bind", "/", "/", "true"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"code of a model runs in a sandbox only, and bubblewrap does not start: {error}"
    if done.returncode:
        reason = done.stderr.strip() or f"exit code {done.returncode}"
        return (
            f"code of a model runs in a sandbox only, and bubblewrap may not make namespaces here ({reason}): "
            "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1), or use another machine"
        )
    return None


def require(unsafe: bool = False) -> None:
    """SandboxError where there is no sandbox, unless `unsafe`."""
    reason = why_not()
    if reason is not None and not unsafe:
        raise SandboxError(f"{reason}; --unsafe-exec runs it with your own rights")


def isolation(program: str) -> list[str]:
    """bubblewrap's options that take rights away. Root keeps what the runner needs to become another user."""
    arguments = [program, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    arguments += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if os.geteuid() == 0:
        return [*arguments, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [*arguments, "--unshare-user", "--uid", "65534", "--gid", "65534"]


def python_paths() -> list[Path]:
    """What an interpreter needs to start: its own folders, and the system's libraries."""
    base = Path(sys.base_prefix).resolve()
    own = [base, Path(sysconfig.get_path("stdlib")).resolve(), Path(os.path.realpath(sys.executable)).parent.parent]
    outer: list[Path] = [Path("/usr")]
    for path in own:
        if not any(path.is_relative_to(known) for known in outer):
            outer.append(path)
    return outer


def arguments_of(limits: Limits, packages: Sequence[Path]) -> list[str]:
    """The command line of a sandbox around the runner."""
    program = shutil.which("bwrap")
    assert program is not None
    arguments = isolation(program)
    arguments += ["--perms", "1777", "--size", str(limits.disk_mb * MEGABYTE), "--tmpfs", "/tmp"]
    bound = [*python_paths(), *packages]
    for parent in sorted({parent for path in bound for parent in path.parents} - {Path("/"), Path("/tmp")}):
        arguments += ["--perms", "0755", "--dir", str(parent)]  # else only root could pass through
    for path in bound:
        arguments += ["--ro-bind", str(path), str(path)]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    arguments += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--dev", "/dev"]
    # no /proc: nothing in it is needed, and it shows other processes' open files
    arguments += ["--ro-bind", str(RUNNER), "/runner.py", "--remount-ro", "/", "--clearenv"]
    arguments += ["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8"]
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        arguments += ["--setenv", name, "1"]  # a thread counts as a process
    return [*arguments, os.path.realpath(sys.executable), "-I", "-S", "-B", "-X", "utf8", "/runner.py"]


class Sandbox:
    """One sandbox with the code of one sample. A context manager: at its end everything in it is killed."""

    def __init__(
        self,
        code: str,
        limits: Limits | None = None,
        name: str = CANDIDATE,
        packages: Sequence[Path] = (),
        slot: int = 0,
        unsafe: bool = False,
    ):
        """`packages`: folders that may be imported from. `slot`: a number below 512 that no other one has now.

        `name`: of the module that `code` is a version of; if it can be imported, its functions are replaced.

        SandboxError where there is no sandbox; with `unsafe` the code then runs with the caller's rights.
        """
        require(unsafe)
        self.limits = limits or Limits()
        inner = why_not() is None
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        if inner:
            command = arguments_of(self.limits, packages)
        else:
            self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(RUNNER)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        limits_told = self.limits.for_runner()
        if not inner:
            limits_told["processes"] = None  # would count all of the user's processes
        job = {
            "code": code,
            "name": name,
            "over": name != CANDIDATE,
            "path": [str(path) for path in packages],
            "uid": FIRST_UID + slot % SLOTS if inner and os.geteuid() == 0 else None,
            "inner": inner,
            "folder": self.folder.name if self.folder else "/tmp",
            "limits": limits_told,
        }
        try:
            self._send(job)
            self._receive(START_SECONDS)
        except Gone:
            self.close()
            raise SandboxError("the sandbox did not start") from None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, test: dict[str, Any]) -> list[Any]:
        """The runner's answer to one test; Gone when the sandbox ended or hangs."""
        self._send(test)
        return self._receive(self.limits.seconds + GRACE_SECONDS)

    def _send(self, value: dict[str, Any]) -> None:
        raw = marshal.dumps(value)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(len(raw).to_bytes(4, "big") + raw)
            self.process.stdin.flush()
        except OSError as error:
            raise Gone from error

    def _receive(self, seconds: float) -> list[Any]:
        assert self.process.stdout is not None
        descriptor, deadline, raw, wanted = self.process.stdout.fileno(), time.monotonic() + seconds, b"", 4
        most = self.limits.output_kb * 1024 * 16
        while len(raw) < wanted:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise Gone
            part = os.read(descriptor, wanted - len(raw))
            if not part:
                raise Gone
            raw += part
            if wanted == 4 and len(raw) == 4:
                wanted += int.from_bytes(raw, "big")
                if wanted > most:
                    raise Gone
        try:
            answer = json.loads(raw[4:])
        except ValueError:
            raise Gone from None
        if not isinstance(answer, list) or not answer:
            raise Gone
        return answer

    def close(self) -> None:
        """Kills the sandbox and all that runs in it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self.process.wait()
        if self.folder is not None:
            self.folder.cleanup()
