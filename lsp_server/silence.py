"""Why nothing is shown: the closed list of reasons, each with a sentence for the editor."""

from __future__ import annotations

REASONS = {
    "paused": "Diffill is paused",
    "excluded": "this file is excluded",
    "language_off": "Diffill is off for this language",
    "untrusted": "this workspace is not trusted",
    "mid_word": "the cursor stands inside a word",
    "mid_line": "there is code to the right of the cursor",
    "unchanged": "nothing was typed since the last suggestion",
    "too_large": "this file is larger than the limit in the settings",
    "loading": "the model is being loaded",
    "no_model": "there is no model to ask",
    "no_instructions": "the model follows no instructions",
    "runtime_down": "the model process does not answer",
    "busy": "the model has too much to do",
    "deadline": "the model did not finish in the time it was given",
    "superseded": "a newer request took this one's place",
    "filtered": "the suggestion repeated or broke what is there",
    "low_confidence": "the model was not sure enough",
    "empty": "the model had nothing to add",
}


class Silence(Exception):
    """Nothing to show, for one reason of REASONS; `detail` is said after the reason's sentence."""

    def __init__(self, reason: str, detail: str = ""):
        assert reason in REASONS, reason
        super().__init__(reason)
        self.reason, self.detail = reason, detail

    def sentence(self) -> str:
        """What an editor can show."""
        return REASONS[self.reason] + (f": {self.detail}" if self.detail else "")
