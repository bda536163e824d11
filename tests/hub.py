"""A local server that plays the Hugging Face hub: what a repository holds, and its files, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves the files of `folders` (repository → folder) on a port of its own.

    `cut` breaks the first answers for a file off after so many bytes each; `spoilt` changes a byte of it on the way;
    `status` answers everything with an error; `held` makes files wait for the event `go` after their first half;
    `ranges` off ignores where a client wants to go on. `asked` has (file, first byte) of every download.
    """

    def __init__(self, folders: dict[str, Path]):
        self.folders, self.commit = folders, COMMIT
        self.cut: dict[str, list[int]] = {}
        self.spoilt: set[str] = set()
        self.status: int | None = None
        self.gated = False
        self.ranges = True
        self.held: set[str] = set()
        self.go, self.reached = threading.Event(), threading.Event()
        self.asked: list[tuple[str, int]] = []
        self.tokens: list[str | None] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.go.set()
        self.server.shutdown()
        self.server.server_close()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                hub.tokens.append(self.headers.get("Authorization"))
                parts = urlsplit(self.path).path.strip("/").split("/")
                if hub.status is not None:
                    self.fail(hub.status, "GatedRepo" if hub.gated else None)
                elif parts[:2] == ["api", "models"]:
                    self.listing("/".join(parts[2:4]), parts[5] if len(parts) > 5 else None)
                elif "resolve" in parts:
                    self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
                else:
                    self.fail(404, "RepoNotFound")

            def listing(self, repository: str, revision: str | None) -> None:
                if repository not in hub.folders:
                    return self.fail(404, "RepoNotFound")
                if revision == "gone":
                    return self.fail(404, "RevisionNotFound")
                files = [path for path in sorted(hub.folders[repository].iterdir()) if path.is_file()]
                body = {"id": repository, "sha": hub.commit, "siblings": [described(path) for path in files]}
                self.answer(json.dumps(body).encode())

            def file(self, repository: str, revision: str, name: str) -> None:
                path = hub.folders[repository] / name
                if revision != hub.commit or not path.is_file():
                    return self.fail(404, "EntryNotFound")
                data = bytearray(path.read_bytes())
                if name in hub.spoilt:
                    data[-1] ^= 1
                wanted = self.headers.get("Range", "")
                first = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted and hub.ranges else 0
                hub.asked.append((name, first))
                self.send_response(206 if first else 200)
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - first))
                self.send_header("X-Repo-Commit", hub.commit)
                self.end_headers()
                rest = bytes(data[first:])
                if hub.cut.get(name):
                    self.wfile.write(rest[: hub.cut[name].pop(0)])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.close()
                    return None
                if name in hub.held and not hub.go.is_set():
                    self.wfile.write(rest[: len(rest) // 2])
                    self.wfile.flush()
                    hub.reached.set()
                    hub.go.wait(60)
                    rest = rest[len(rest) // 2 :]
                self.wfile.write(rest)
                return None

            def answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def fail(self, status: int, code: str | None) -> None:
                self.send_response(status)
                if code:
                    self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()

        return Handler


def described(path: Path) -> dict[str, object]:
    """A file as the hub lists it: large ones by their SHA-256, small ones by git's hash."""
    data = path.read_bytes()
    one: dict[str, object] = {"rfilename": path.name, "size": len(data)}
    one["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if path.suffix in (".safetensors", ".bin"):
        one["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return one
