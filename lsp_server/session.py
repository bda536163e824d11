"""Everything that the server knows about the one client it talks to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsp_server.documents import Document
from lsp_server.exclusions import GitIgnore, check_document
from lsp_server.runtime import Runtime
from lsp_server.settings import Settings
from lsp_server.silence import Silence
from lsp_server.status import Status
from model_runtime.protocol import FillResult, HoleFill

OFFERED = 32  # suggestions that are kept; an editor shows but the last few
BY_SETTINGS = ("paused", "excluded", "language_off", "too_large")  # silences that other settings may end


class NotOpen(Exception):
    """A request about a file that the client has not opened."""


@dataclass
class Session:
    """One client: its open files, its settings, what runs for it and what it was told."""

    runtime: Runtime
    status: Status
    documents: dict[str, Document]
    show: Callable[[str], None]  # a message that the user must see
    start_options: Any = None
    settings: Settings = field(default_factory=Settings)
    folders: dict[str, Settings] = field(default_factory=dict)  # by URI, where a workspace folder has its own
    trusted: bool = True
    git: GitIgnore = field(default_factory=GitIgnore)
    paused: frozenset[str] = frozenset()  # files, by URI, that the client's user paused
    offered: dict[str, tuple[Document, FillResult]] = field(default_factory=dict)  # the last suggestions, by name
    told: set[str] = field(default_factory=set)  # messages that were shown: each once
    last: dict[str, Any] | None = None  # the answer to diffill/lastFill
    instruct_command: str | None = None  # the client's own, which asks its user what to do with a part of a file
    ready: asyncio.Event = field(default_factory=asyncio.Event)  # the client's settings are known

    async def check(self, document: Document) -> None:
        """Raise Silence unless the document may be shown to the model, by the client's own settings."""
        await self.ready.wait()
        if document.uri in self.paused:
            raise Silence("paused", "in this file")
        await check_document(document, self.settings_for(document.uri), self.trusted, self.git)

    async def learn(self) -> None:
        """Have the model loaded, and tell the client whether it follows instructions."""
        runtime = self.runtime
        asked = runtime.model, runtime.server
        instructions = await runtime.warm()
        if asked == (runtime.model, runtime.server):
            self.status.change(instructions=instructions)

    async def check_instructions(self) -> None:
        """Raise Silence if the model is known to follow no instructions; one that is not refuses by itself."""
        if self.status.instructions is None:
            await self.learn()
        if self.status.instructions is False:
            raise Silence("no_instructions", who_follows(self.runtime))

    def settings_for(self, uri: str) -> Settings:
        """What holds for a file: the settings of the innermost workspace folder that it lies in, or the window's."""
        around = [folder for folder in self.folders if uri.startswith(folder.rstrip("/") + "/")]
        return self.folders[max(around, key=len)] if around else self.settings

    def document(self, uri: str) -> Document:
        """An open file; NotOpen otherwise."""
        if uri not in self.documents:
            raise NotOpen(f"{uri.rsplit('/', 1)[-1]} is not open")
        return self.documents[uri]

    def silence(self, silence: Silence, uri: str | None = None) -> None:
        """Take note of why nothing was shown in a file; what only the user can mend is said aloud, once."""
        self.status.change(silence=silence, silent=uri)
        if silence.reason in ("no_model", "runtime_down"):
            self.tell_once(f"Diffill: {silence.sentence()}")

    def tell_once(self, message: str) -> None:
        """Show a message unless it was shown before."""
        if message not in self.told:
            self.told.add(message)
            self.show(message)

    def take_settings(self, settings: Settings, problems: list[str]) -> None:
        """Let settings hold from now on, and show what is wrong with others."""
        self.settings = settings
        if settings.model != self.runtime.model:
            self.runtime.model = settings.model
            self.status.instructions = None
        self.git.forget()
        for problem in problems:
            self.tell_once(problem)
        if self.status.silence and self.status.silence.reason in BY_SETTINGS:
            self.status.silence = None  # it may no longer hold
        self.status.change(state=self.runtime.state if settings.enabled else "paused")

    def remember(self, document: Document, result: FillResult) -> None:
        """Keep what was filled last, for a view of how sure the model was."""
        self.last = last_fill(document, result)

    def offer(self, name: str, document: Document, result: FillResult) -> None:
        """Keep a suggestion until it may be accepted; only the last ones."""
        self.offered[name] = document, result
        while len(self.offered) > OFFERED:
            del self.offered[next(iter(self.offered))]

    def accept(self, name: Any) -> None:
        """A suggestion is in the file now: it is what was filled last, whatever was only offered since."""
        if isinstance(name, str) and name in self.offered:
            self.remember(*self.offered[name])


def who_follows(runtime: Runtime) -> str:
    """Which models follow instructions, as part of a sentence that says that the one in use does not."""
    if runtime.server is not None:
        return f"the one of {runtime.server.address} only fills holes"
    from model_runtime.catalog.entries import ENTRIES

    *names, last = [entry.name for entry in ENTRIES if entry.instructed]
    return f"{Path(runtime.model).name} only fills holes, unlike {', '.join(names)} and {last}"


def last_fill(document: Document, result: FillResult) -> dict[str, Any]:
    """A result as diffill/lastFill says it: ranges of holes and tokens as they stand once everything is accepted."""
    filled = document.with_text(result.apply(document.text))
    holes, shift = [], 0
    for hole in result.holes:
        start = hole.start + shift
        holes.append(last_hole(document, filled, hole, start))
        shift += len(hole.text) - (hole.end - hole.start)
    return {
        "uri": document.uri,
        "version": document.version,
        "holes": holes,
        "end": result.end,
        "steps": result.steps,
        "model": result.model,
        "seed": result.seed,
        "timingMs": result.timing_ms,
    }


def last_hole(document: Document, filled: Document, hole: HoleFill, start: int) -> dict[str, Any]:
    """One hole: `range` in the text as it was, `newRange` and the tokens' ranges in the text with the fills."""
    tokens = [
        {
            "range": filled.range_of(start + token.start, start + token.end),
            "confidence": token.confidence,
            "step": token.step,
        }
        for token in hole.tokens
    ]
    return {
        "range": document.range_of(hole.start, hole.end),
        "newText": hole.text,
        "newRange": filled.range_of(start, start + len(hole.text)),
        "confidence": hole.confidence,
        "tokens": tokens,
    }
