"""From key to ghost text, as the browser sees it: median of many keys, each at a place that was never asked about.

The extension, the server's debounce, the daemon, the model and VS Code's drawing are all in it. Ends with one line of
JSON.
"""

from __future__ import annotations

import json
import re
import statistics
import sys

import driven
from playwright.sync_api import TimeoutError as NothingCame

WANTED, MOST = 20, 60
WARM = 3  # keys that are not counted
NAMES = ("items", "rows", "users", "files", "paths", "words", "lines", "names", "keys", "nodes", "tasks", "jobs")
KINDS = ("ValueError", "TypeError", "KeyError", "IndexError", "OSError")

# Remember when the last key went down, and when ghost text was first drawn after it.
WATCH = """() => {
  window.keyAt = window.ghostAt = 0;
  addEventListener('keydown', () => { window.keyAt = performance.now(); window.ghostAt = 0; }, true);
  const look = () => {
    const drawn = document.querySelector('.monaco-editor [class*="ghost-text"]');
    if (drawn && drawn.textContent && window.keyAt && !window.ghostAt) window.ghostAt = performance.now();
    requestAnimationFrame(look);
  };
  look();
}"""


def sample(number: int) -> tuple[str, int, int]:
    """A file of its own for each key, and the line and column (from 1) where it is typed."""
    name, kind = NAMES[number % len(NAMES)], KINDS[number // len(NAMES) % len(KINDS)]
    text = (
        f"def first(self, {name}):\n    if not {name}:\n        raise {kind}('no {name}')\n    return {name}[0]\n\n\n"
        f"def last(self, {name}):\n    if not {name}:\n        raise\n    return {name}[-1]\n"
    )
    return text, 9, len("        raise") + 1


def answer_ms(status: str) -> float:
    """What the status says that the last answer took, the debounce not counted."""
    said = re.search(r"Last answer: ([\d.]+) (ms|s)", status)
    assert said, status
    return float(said[1]) * (1000 if said[2] == "s" else 1)


def measure() -> dict[str, object]:
    """Type, wait for ghost text, and again."""
    taken: list[float] = []
    answers: list[float] = []
    silent = 0
    with driven.window() as window:
        window.write("start.py", "")
        window.open("start.py").ready()
        window.page.evaluate(WATCH)
        for number in range(MOST):
            text, line, column = sample(number)
            file = f"sample_{number}.py"
            window.write(file, text)
            window.show(file, line, column)
            window.press(" ")
            try:
                window.page.wait_for_function("() => window.ghostAt", timeout=3000 if number else 60_000, polling=20)
            except NothingCame:  # filtered: nothing to time
                silent += 1
            else:
                if number - silent >= WARM:
                    taken.append(window.page.evaluate("() => window.ghostAt - window.keyAt"))
                    answers.append(answer_ms(window.status()))
            window.close_files()
            if len(taken) == WANTED:
                break
    assert len(taken) == WANTED, f"ghost text came {len(taken)} times only"
    ranks = statistics.quantiles(taken, n=10)
    return {
        "bench": "vscode key to ghost text",
        "count": len(taken),
        "p50_ms": round(statistics.median(taken)),
        "p90_ms": round(ranks[8]),
        "min_ms": round(min(taken)),
        "server_p50_ms": round(statistics.median(answers)),
        "silent": silent,
    }


if __name__ == "__main__":
    print(json.dumps(measure()))
    sys.exit(0)
