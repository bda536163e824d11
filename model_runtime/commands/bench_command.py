"""The whole command as a user waits for it: `diffill fill` in processes of its own, its time and its memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from model_runtime.protocol import DiffillError

HEAVY = ("torch", "transformers", "accelerate", "bitsandbytes")
# A small process of its own starts the command: the peak of its children is then the command's and nothing else's.
MEASURE = """
import json, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True)
wall_s = time.perf_counter() - start
try:
    import resource
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
except ImportError:
    peak = None
error = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
print(json.dumps({"code": done.returncode, "wall_s": wall_s, "peak_bytes": peak, "error": error}))
"""
COMMAND = "import sys; from model_runtime.cli import main; sys.exit(main(sys.argv[1:]))"
PROBE = f"""
import json, sys
from model_runtime.cli import main
code = main(sys.argv[1:])
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
sys.exit(code)
"""


def measure_command(folder: Path, text: str, span: tuple[int, int], hole: int, repeats: int) -> dict[str, Any]:
    """Fill `span` of `text` with `hole` tokens, `repeats` times from the command to the printed diff.

    Returns medians of wall time [s] and peak memory [bytes; None where the system does not tell], and which
    heavy modules were imported. DiffillError if the command fails.
    """
    with tempfile.TemporaryDirectory(prefix="diffill-bench-") as temporary:
        path = Path(temporary) / "code.py"
        path.write_bytes((text[: span[0]] + "<FILL>" + text[span[1] :]).encode())
        fill = ["fill", str(path), "--model", str(folder.resolve()), "--length", f"fixed:{hole}"]
        fill += ["--max-tokens", str(hole)]
        runs = [measured([sys.executable, "-c", COMMAND, *fill]) for _ in range(repeats)]
        probe = subprocess.run([sys.executable, "-c", PROBE, *fill], capture_output=True, check=False)
        imported = json.loads(probe.stdout.splitlines()[-1]) if probe.returncode == 0 else None
    peaks = [run["peak_bytes"] for run in runs if run["peak_bytes"] is not None]
    return {
        "hole": hole,
        "wall_s": round(statistics.median(run["wall_s"] for run in runs), 3),
        "runs_s": [round(run["wall_s"], 3) for run in runs],
        "peak_bytes": int(statistics.median(peaks)) if peaks else None,
        "heavy_modules": imported,
    }


def measured(command: list[str]) -> dict[str, Any]:
    """Run a command once; return its wall time and peak memory, DiffillError if it does not end with 0."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, check=True)
    run = json.loads(done.stdout)
    if run["code"] != 0:
        raise DiffillError(f"diffill fill ended with {run['code']} ({' '.join(run['error'])})")
    return run
