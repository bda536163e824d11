"""What the server can say about itself: its state, the last silence, latency, counters; told to the editor as it
changes. Everything stays on this machine: the counters live as long as the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lsp_server.silence import Silence


@dataclass
class Counters:
    """How many suggestions were sent to the editor, how many it says it showed, how many were accepted."""

    offered: int = 0
    shown: int = 0
    accepted: int = 0


@dataclass
class Status:
    """`tell` gets the whole status whenever something of it changed, counters aside."""

    tell: Callable[[dict[str, Any]], None]
    state: Literal["idle", "loading", "working", "paused", "down"] = "idle"
    model: str | None = None
    instructions: bool | None = None  # whether the model follows them; not known before it was loaded
    server: str | None = None  # the address that is asked instead of this machine's daemon
    latency_ms: float | None = None  # of the last answer, request to reply, debounce not counted
    silence: Silence | None = None  # why the last request was answered with nothing
    silent: str | None = None  # the file that was about, by its URI
    counters: Counters = field(default_factory=Counters)
    told: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The answer to diffill/status."""
        return {**self.outline(), "counters": asdict(self.counters)}

    def outline(self) -> dict[str, Any]:
        """What diffill/didChangeStatus says."""
        silence = self.silence and {
            "reason": self.silence.reason,
            "message": self.silence.sentence(),
            "uri": self.silent,
        }
        return {
            "state": self.state,
            "model": self.model,
            "instructions": self.instructions,
            "server": self.server,
            "lastLatencyMs": self.latency_ms,
            "lastSilence": silence,
        }

    def change(self, **changes: Any) -> None:
        """Set fields, and tell the editor if that made a difference."""
        for name, value in changes.items():
            setattr(self, name, value)
        outline = self.outline()
        if outline != self.told:
            self.told = outline
            self.tell(outline)
