"""Many samples at once: a fixed number of sandboxes, one a sample, results in the order of the samples.

`python -m training.rewards.pool` measures samples a second on this machine.
"""

from __future__ import annotations

import argparse
import os
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from training.rewards.sandbox import require
from training.rewards.tests import answer_reward, read_test

Result = TypeVar("Result")


class RewardPool:
    """Sandboxes in parallel. A thread waits for each: the work is in their processes."""

    def __init__(self, workers: int = 0, unsafe: bool = False):
        """`workers` at once, one a core by default. SandboxError at once where there is no sandbox."""
        require(unsafe)
        self.workers, self.unsafe = workers or os.cpu_count() or 1, unsafe
        self._threads = ThreadPoolExecutor(self.workers)
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        first = os.getpid() % 16 * 32  # of two pools on a machine, each has its own users most of the time
        for slot in range(self.workers):
            self._slots.put(first + slot)

    def __enter__(self) -> RewardPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)

    def submit(self, reward: Callable[..., Result], *arguments: Any, **options: Any) -> Future[Result]:
        """Begins `reward(*arguments, slot=…, unsafe=…, **options)` when a sandbox is free."""

        def run() -> Result:
            slot = self._slots.get()
            try:
                return reward(*arguments, slot=slot, unsafe=self.unsafe, **options)
            finally:
                self._slots.put(slot)

        return self._threads.submit(run)

    def map(
        self, reward: Callable[..., Result], samples: Iterable[tuple[Any, ...]], **options: Any
    ) -> Iterator[Result]:
        """The reward of each sample, in order; all are begun at once."""
        futures = [self.submit(reward, *sample, **options) for sample in samples]
        for future in futures:
            yield future.result()


def measure(samples: int, workers: int, tests: int) -> float:
    """Samples a second, each with a small function and `tests` assertions."""
    code = "```python\ndef add(a, b):\n    return a + b\n```\n"
    asked = [read_test(f"assert add({n}, 1) == {n + 1}") for n in range(tests)]
    with RewardPool(workers) as pool:
        list(pool.map(answer_reward, [(code, asked)] * workers))
        started = time.perf_counter()
        rewards = list(pool.map(answer_reward, [(code, asked)] * samples))
        seconds = time.perf_counter() - started
    if any(reward.total != 2.5 for reward in rewards):
        raise SystemExit("a sample that is right was not rewarded")
    return samples / seconds


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.rewards.pool", description="Measure samples a second.")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tests", type=int, default=5)
    options = parser.parse_args()
    rate = measure(options.samples, options.workers, options.tests)
    print(f"{rate:.1f} samples a second, {options.tests} tests each, {options.workers} sandboxes at once")


if __name__ == "__main__":
    main()
