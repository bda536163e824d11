"""Run the tests in VS Code many times and count what failed: `python repeat.py [TIMES]`; ends with a line of JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
OUTCOME = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def main() -> int:
    """0 if every run passed."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    flakes: Counter[str] = Counter()
    passed = 0
    for number in range(1, times + 1):
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", str(HERE), "--tb=short"], capture_output=True, text=True, check=False
        )
        failed = OUTCOME.findall(done.stdout)
        flakes.update(failed)
        passed += done.returncode == 0
        print(f"run {number} of {times}: {done.stdout.strip().splitlines()[-1]} ({time.monotonic() - begun:.0f} s)")
        if done.returncode:
            print(done.stdout[-6000:])
        sys.stdout.flush()
    print(json.dumps({"runs": times, "passed": passed, "failed": flakes}))
    return 0 if passed == times else 1


if __name__ == "__main__":
    sys.exit(main())
