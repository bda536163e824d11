"""What of a fill's text a client gets: cut at stop texts and at lost indentation, and streamed so that nothing changes.

A masked diffusion model settles text in any order. Only what is settled from the left on can be streamed, and of that
only what no later text can cut off.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

LINE_START = re.compile(r"\r?\n([ \t]*)(?=[^ \t\r\n])")
BLANK_END = re.compile(r"\r?\n[ \t\r\n]*\Z|\r\Z")


@dataclass(frozen=True)
class Ends:
    """Where a client wants a text to end: before a stop text, or before a line indented by less."""

    stop: Sequence[str] = ()
    indent: int = 0

    def cut(self, text: str) -> tuple[str, str]:
        """The text up to its end, and the stop text that ended it ("" if none did)."""
        ends = [(at, word) for word in self.stop if word and (at := text.find(word)) >= 0]
        if self.indent > 0:
            starts = LINE_START.finditer(text)
            ends += [(line.start(), "") for line in starts if len(line.group(1)) < self.indent][:1]
        at, word = min(ends, key=lambda end: end[0], default=(len(text), ""))
        return text[:at], word

    def certain(self, text: str) -> str:
        """What will be sent of a text that goes on with something not known yet."""
        text = self.cut(text)[0]
        keep = len(text)
        for word in self.stop:
            longest = min(len(word) - 1, len(text))
            begun = next((n for n in range(longest, 0, -1) if text.endswith(word[:n])), 0)
            keep = min(keep, len(text) - begun)
        if self.indent > 0 and (blank := BLANK_END.search(text)):
            keep = min(keep, blank.start())
        return text[:keep]


@dataclass
class Stream:
    """The part of a text that was sent: it only ever grows."""

    ends: Ends
    sent: str = field(default="")

    def grow(self, settled: str) -> str:
        """What to send now that so much of the text is settled from the left."""
        return self._send(self.ends.certain(settled))

    def end(self, text: str) -> str:
        """What to send last, once the whole text is known."""
        return self._send(self.ends.cut(text)[0])

    def _send(self, text: str) -> str:
        """What of a text was not sent; nothing if something else was, which cannot be taken back."""
        if not text.startswith(self.sent):
            return ""
        new, self.sent = text[len(self.sent) :], text
        return new


def settled_prefix(text: str, settled: Sequence[Sequence[int]]) -> str:
    """The part of a frame's hole that is settled from its start on."""
    end = 0
    for start, finish in sorted((int(a), int(b)) for a, b in settled):
        if start > end:
            break
        end = max(end, finish)
    return text[:end]
