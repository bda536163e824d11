"""What rollouts are worth: answers and infills go to the sandbox, each kind to its reward; equal ones once.

An answer is worth its form and the tests its code passes; an infill is worth that the file parses, and the tests of the
function whose body it is.
"""

from __future__ import annotations

import sysconfig
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from training.corpus.tasks import LIMITS, Task, task_reward
from training.errors import TrainingError
from training.grpo.problems import Problem
from training.grpo.recipe import Rewards
from training.grpo.rollouts import Rollout
from training.rewards.pool import RewardPool
from training.rewards.sandbox import Limits
from training.rewards.tests import Reward, answer_reward

REMEMBERED = 100_000  # rewards of (task, text); tests give the same twice, the miner saw to that
PROBED = 3  # mined tasks whose own bodies must pass before a run

Known = OrderedDict[tuple[str, str], Reward]


class Grader:
    """A pool of sandboxes and what was graded before."""

    def __init__(
        self,
        pool: RewardPool,
        rewards: Rewards,
        packages: Sequence[Path],
        newline: bool = False,
        known: Known | None = None,
    ):
        """`newline`: an answer's code must be followed by a line end, as in the DiffuCoder repository.

        `known`: rewards of other runs on the same tasks, with the same weights and limits; it is added to.
        """
        self.pool, self.rewards, self.newline = pool, rewards, newline
        self.packages = [*(path.resolve() for path in packages), Path(sysconfig.get_path("purelib"))]
        self.known: Known = OrderedDict() if known is None else known

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """The reward of each rollout."""
        keys = [(rollout.problem.task.id, rollout.text) for rollout in rollouts]
        begun: dict[tuple[str, str], Future[Reward]] = {}
        for key, rollout in zip(keys, rollouts, strict=True):
            if key not in self.known and key not in begun:
                begun[key] = self.submit(rollout.problem, rollout.text)
        graded = {key: self.known[key] for key in keys if key in self.known}
        graded |= {key: future.result() for key, future in begun.items()}
        self.known.update(graded)
        while len(self.known) > REMEMBERED:
            self.known.popitem(last=False)
        return [graded[key] for key in keys]

    def submit(self, problem: Problem, text: str) -> Future[Reward]:
        """Begin to grade a text as a problem's completion; tests that weigh nothing are not run."""
        task = problem.task if self.rewards.tests else replace(problem.task, tests=())
        if isinstance(task, Task):
            return self.pool.submit(task_reward, task, text, self.packages, self.limits(LIMITS))
        return self.pool.submit(answer_reward, text, task.tests, self.newline, limits=self.limits(Limits()))

    def limits(self, usual: Limits) -> Limits:
        """The limits of a test, with the recipe's time."""
        return usual if self.rewards.seconds is None else replace(usual, seconds=self.rewards.seconds)

    def total(self, rewards: Sequence[Reward]) -> Tensor:
        """The weighed rewards [B]."""
        both_RB = torch.tensor([[r.form for r in rewards], [r.tests for r in rewards]])
        return total_rewards(both_RB, [self.rewards.form, self.rewards.tests])

    def probe(self, problems: Sequence[Problem]) -> None:
        """TrainingError where mined tasks fail with their own bodies: their files cannot be imported here."""
        infills = [problem for problem in problems if isinstance(problem.task, Task)]
        some = infills[:PROBED] if self.rewards.tests else []
        found = [self.submit(p, p.task.body).result() for p in some if isinstance(p.task, Task)]
        if found and not any(reward.tests for reward in found):
            told = next((f": {o.why} {o.detail}" for reward in found for o in reward.outcomes if not o.passed), "")
            raise TrainingError(
                "the tasks' own bodies fail their tests here, so nothing could be learned from them; give the folder "
                f"that their modules are imported from as tasks.packages{told[:160]}"
            )


def total_rewards(rewards_RB: Tensor, weights: Sequence[float]) -> Tensor:
    """The weighed sum [B] of several rewards; one that is not a number counts as 0."""
    return (rewards_RB * torch.tensor(weights).unsqueeze(1)).nansum(0)
