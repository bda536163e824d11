"""A worker that answers when the test says so."""

from __future__ import annotations

from fake_worker import result_for

from model_runtime.protocol import FillRequest, to_json


class PuppetWorker:
    """Remembers what it was told; the test speaks for it."""

    made: list[PuppetWorker] = []  # noqa: RUF012

    def __init__(self):
        self.pid, self.told, self.stopped = len(self.made) + 1, [], False
        self.made.append(self)

    async def start(self, on_message, on_exit):
        self.say, self.die = on_message, on_exit

    def send(self, message):
        self.told.append(message)

    async def stop(self):
        self.stopped = True

    def load(self):
        """Say that the model is loaded."""
        assert self.told[-1]["do"] == "load"
        self.say({"job": self.told[-1]["job"], "loaded": 5.0})

    def fills(self):
        """The texts of the requests it was given, in order."""
        return [message["request"]["text"] for message in self.told if message["do"] in ("fill", "rewrite")]

    def finish(self, text="ok", end="complete"):
        """Answer the last request it was given."""
        last = [message for message in self.told if message["do"] in ("fill", "rewrite")][-1]
        request = FillRequest(text=last["request"]["text"], holes=[(0, 0)])
        self.say({"job": last["job"], "result": to_json(result_for(request, text, end))})
