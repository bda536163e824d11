"""Several fills at once: they take turns until each asks for a pass, and the passes of like shapes become one.

A fill knows nothing of it. It runs in a thread of its own, but only one of all these threads runs at a time: whoever
asks the backend for a window hands over to the driver, which lets the next fill run up to its own question, then
answers all of them at once. So nothing in the engine needs a lock, and what a fill computes depends on its own
questions alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from model_runtime.backends.interface import Backend, Window
from model_runtime.backends.joining import Answer


class Course:
    """One fill on its way: `work` runs in a thread, and pauses whenever it asks for a window."""

    def __init__(self, work: Callable[[], None]):
        self.asked: tuple[Backend, Window] | None = None
        self.answer: Answer | Exception | None = None
        self.ended = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)

    def resume(self) -> None:
        """Let it run until it asks for a window or ends."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        self._back.acquire()

    def ask(self, backend: Backend, window: Window) -> Answer:
        """In its thread: hand over, and come back with the answer."""
        self.asked = backend, window
        self._back.release()
        self._go.acquire()
        answer, self.answer = self.answer, None
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    def _run(self, work: Callable[[], None]) -> None:
        HERE.course = self
        try:
            work()
        finally:
            self.ended = True
            self._back.release()


class Here(threading.local):
    """The course that the current thread runs, if any."""

    course: Course | None = None


HERE = Here()


class Courses:
    """The fills that run together."""

    def __init__(self) -> None:
        self._running: list[Course] = []
        self.rounds = self.windows = 0  # passes in which something was computed, and windows in them

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Callable[[], None]) -> None:
        """Add a fill, which sees to its own errors."""
        self._running.append(Course(work))

    def advance(self) -> None:
        """Let every fill run to its next window or its end, and answer the windows."""
        for course in self._running:
            course.resume()
        self._running = [course for course in self._running if not course.ended]
        asked = [course.asked for course in self._running if course.asked is not None]
        if not asked:
            return
        answers = run_all(asked[0][0], [window for _, window in asked])
        self.rounds, self.windows = self.rounds + 1, self.windows + len(asked)
        for course, answer in zip(self._running, answers, strict=True):
            course.asked, course.answer = None, answer


class Shared:
    """A backend whose windows may wait for those of other fills; outside of a course it computes at once."""

    def __init__(self, backend: Backend):
        self.backend, self.name, self.facts = backend, backend.name, backend.facts

    def window(self, window: Window) -> Answer:
        """Compute a window, together with those that other fills ask for."""
        course = HERE.course
        return self.backend.window(window) if course is None else course.ask(self.backend, window)

    def windows(self, windows: list[Window]) -> list[Answer]:
        """Compute several at once."""
        return self.backend.windows(windows)

    def keep(self, cached_NBKWD: Any, wanted_W: np.ndarray) -> Any:
        """As the backend does."""
        return self.backend.keep(cached_NBKWD, wanted_W)

    def join(self, parts: list[Any]) -> Any:
        """As the backend does."""
        return self.backend.join(parts)

    def write(self, past: Any, at_S: np.ndarray, cached_NBKWD: Any, rows_S: np.ndarray) -> None:
        """As the backend does."""
        self.backend.write(past, at_S, cached_NBKWD, rows_S)


def run_all(backend: Backend, windows: list[Window]) -> list[Answer | Exception]:
    """The answer to each window; when they fail together, each is tried alone, so that only a bad one fails."""
    try:
        return [*backend.windows(windows)]
    except Exception as error:
        if len(windows) == 1:
            return [error]
    answers: list[Answer | Exception] = []
    for window in windows:
        answers += run_all(backend, [window])
    return answers
