"""A real VS Code with the packaged extension, the real server, daemon and embedded model.

One code-server and one window serve most tests, each with files of its own; a test that failed costs the next one a
new window. What a test does to a server or daemon itself, it does to one of its own.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "editors"), str(HERE.parents[1] / "lsp")]

import places  # noqa: E402

collect_ignore_glob: list[str] = []
if places.missing() and not places.REQUIRED:

    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        """Say why the tests of this folder do not run."""
        skip = pytest.mark.skip(reason=f"no VS Code to drive: {places.missing()}")
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(skip)


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Let fixtures know how their test ended."""
    report = yield
    if call.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture(scope="session")
def extensions(tmp_path_factory) -> Path:
    """A folder with the packaged extension installed."""
    from codeserver import install_extension

    shutil.rmtree(places.SHOTS, ignore_errors=True)
    return install_extension(tmp_path_factory.mktemp("extensions"))


@pytest.fixture
def start_server(tmp_path_factory, extensions) -> Iterator[Callable[..., Any]]:
    """A function that starts a code-server for one test, with settings of its own."""
    with servers(tmp_path_factory, extensions) as start:
        yield start


@pytest.fixture(scope="module")
def start_for_module(tmp_path_factory, extensions) -> Iterator[Callable[..., Any]]:
    """The same for the tests of one file."""
    with servers(tmp_path_factory, extensions) as start:
        yield start


@pytest.fixture(scope="session")
def server(tmp_path_factory, extensions) -> Iterator[Any]:
    """The code-server that most tests share."""
    with servers(tmp_path_factory, extensions) as start:
        yield start()


class servers:
    """Starts code-servers, and ends them all when it is left."""

    def __init__(self, tmp_path_factory: pytest.TempPathFactory, extensions: Path):
        self.new_home, self.extensions = tmp_path_factory.mktemp, extensions
        self.running: list[Any] = []

    def __enter__(self) -> Callable[..., Any]:
        return self.start

    def start(self, **settings: Any) -> Any:
        from codeserver import CodeServer

        named = {name.replace("__", "."): value for name, value in settings.items()}
        self.running.append(CodeServer(self.new_home("home"), self.extensions, named))
        return self.running[-1]

    def __exit__(self, *error: object) -> None:
        for one in self.running:
            one.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium."""
    from window import chromium

    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def context(browser) -> Iterator[Any]:
    """A browser profile; its cache makes later windows faster."""
    profile = browser.new_context(viewport={"width": 1280, "height": 800})
    profile.grant_permissions(["clipboard-read", "clipboard-write"])
    yield profile
    profile.close()


@pytest.fixture(scope="session")
def plain(server) -> Iterator[Any]:
    """A client of our own, with the daemon that the shared server's windows use: tests ask it what to expect."""
    from codeserver import SETTINGS
    from editor import Editor

    ours = {name[8:]: value for name, value in SETTINGS.items() if name.startswith("diffill.")}
    running = Editor("vscode", server.environment, settings=ours)
    yield running
    running.close()


def tell_failure(window: Any) -> None:
    """Leave a picture of where a test failed, and say what the extension says."""
    print(f"picture: {window.shot('failed')}\nstatus: {window.status()}\npage errors: {window.errors}")


@pytest.fixture
def open_window(request, context, tmp_path) -> Iterator[Callable[..., Any]]:
    """A function that opens a window for one test: on a server, with a folder of files."""
    from window import Window

    windows: list[Window] = []

    def run(server: Any, files: dict[str, str | bytes], folder: Path = tmp_path) -> Window:
        window = Window(context, server, folder, f"{request.node.name}{len(windows) or ''}")
        windows.append(window)
        for name, text in files.items():
            window.write(name, text)
        return window

    yield run
    for window in windows:
        if request.node.stash.get(FAILED, True):
            tell_failure(window)
        window.page.close()


@pytest.fixture(scope="session")
def shared(context, server, plain, tmp_path_factory) -> Iterator[Callable[[], Any]]:
    """The window that most tests share, opened anew after a test that failed."""
    from window import Window

    opened: list[Window] = []

    def get() -> Window:
        if not opened or opened[-1].page.is_closed():
            window = Window(context, server, tmp_path_factory.mktemp("folder"), "")
            window.write("start.py", "")
            opened.append(window)
            window.open("start.py").ready()
        return opened[-1]

    yield get
    for window in opened:
        window.page.close()


@pytest.fixture
def window(request, shared) -> Iterator[Any]:
    """The shared window, with nothing in it but start.py."""
    running = shared()
    running.name, running.shots = request.node.name, 0
    yield running
    if request.node.stash.get(FAILED, True):
        tell_failure(running)
        running.page.close()
    else:
        running.close_files()
