"""What a daemon did, in Prometheus's text format (version 0.0.4): a page of names and numbers, no text of anybody's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from model_runtime import __version__
from model_runtime.daemon.figures import Figures, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[str, dict[str, str], float]  # what follows the name, labels, value


def page(status: dict[str, Any], figures: Figures, http: dict[tuple[str, int], int]) -> str:
    """The page: `status` as the daemon answers it, `figures` of its scheduler, HTTP answers by path and status."""
    model, results = status["model"], status["results"]
    families: list[tuple[str, str, str, Iterable[Sample]]] = [
        ("info", "gauge", "Version and model.", [("", {"version": __version__, "model": model["name"]}, 1)]),
        ("uptime_seconds", "gauge", "Since the start.", at(status["uptime_s"])),
        ("clients", "gauge", "Websockets connected.", at(status["clients"])),
        ("model_loaded", "gauge", "1 while a model is in memory.", at(model["state"] == "ready")),
        ("requests_waiting", "gauge", "Fills in the queue.", at(status["queue"]["waiting"])),
        ("requests_running", "gauge", "Fills at the model.", at(status["queue"]["running"])),
        (
            "fills_total",
            "counter",
            "Fills answered: by the model, from memory, or not, because cancelled, superseded, late or wrong.",
            [("", {"by": name}, count) for name, count in status["answered"].items()],
        ),
        ("fill_seconds", "histogram", "From a fill's arrival to its text.", buckets(figures.seconds)),
        ("model_seconds_total", "counter", "Time the model spent on fills.", at(figures.model_s)),
        ("steps_total", "counter", "Denoising steps.", at(figures.steps)),
        ("tokens_total", "counter", "Tokens written.", at(figures.tokens)),
        (
            "kept_answers_total",
            "counter",
            "Looked up in memory: found, found after typing, not found.",
            [("", {"result": name}, results[name]) for name in ("hits", "typed", "misses")],
        ),
        ("kept_answers", "gauge", "Answers in memory.", at(results["entries"])),
        ("kept_answers_bytes", "gauge", "Their size.", at(results["bytes"])),
        (
            "worker_crashes",
            "gauge",
            "Ends of the model process in five minutes.",
            at(status["worker"]["crashes"]),
        ),
        ("resident_memory_bytes", "gauge", "Memory in use, by process.", memory(status["worker"]["pid"])),
        (
            "http_responses_total",
            "counter",
            "Answers of the HTTP endpoints.",
            [("", {"path": path, "status": str(code)}, count) for (path, code), count in sorted(http.items())],
        ),
    ]
    lines = []
    for name, kind, text, samples in families:
        lines += [f"# HELP diffill_{name} {text}", f"# TYPE diffill_{name} {kind}"]
        lines += [f"diffill_{name}{more}{braces(labels)} {number(value)}" for more, labels, value in samples]
    return "\n".join(lines) + "\n"


def at(value: float) -> list[Sample]:
    """A single sample without labels."""
    return [("", {}, float(value))]


def buckets(histogram: Histogram) -> list[Sample]:
    """The samples of a histogram: counts up to each bound, then sum and count."""
    counted, samples = 0, []
    for bound, count in zip([*histogram.bounds, float("inf")], histogram.counts, strict=True):
        counted += count
        samples.append(("_bucket", {"le": number(bound)}, float(counted)))
    return [*samples, ("_sum", {}, histogram.sum), ("_count", {}, float(counted))]


def memory(worker: int | None) -> list[Sample]:
    """Resident memory of the daemon and of the model's process, where the system tells."""
    samples = []
    for name, pid in (("daemon", os.getpid()), ("model", worker)):
        size = resident(pid) if pid is not None else None
        if size is not None:
            samples.append(("", {"process": name}, float(size)))
    return samples


def resident(pid: int) -> int | None:
    """The resident memory of a process in bytes; None where there is no /proc (but for oneself, its peak)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        pass
    if pid != os.getpid() or sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def braces(labels: dict[str, str]) -> str:
    """Labels as they stand behind a name."""
    if not labels:
        return ""
    escaped = ((name, escape(value)) for name, value in labels.items())
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def escape(value: str) -> str:
    """A label's value, escaped as the format wants."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def number(value: float) -> str:
    """A number as the format wants it."""
    return "+Inf" if value == float("inf") else f"{value:g}" if value != int(value) else str(int(value))
