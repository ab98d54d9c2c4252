"""What a reward is, and how rewards are evaluated: one number per completion and reward, then a weighted sum.

A reward sees one sample at a time. One with a time limit runs in worker processes that are killed when it is over, and
replaced when something else kills them (`reward_pool`); everything else runs here. Nothing is skipped in silence: a
reward that fails on a sample ends the run with a message that shows the sample.
"""

from __future__ import annotations

import math
import os
import pickle
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..progress import metered
from ..types import Completion, Record, UserError
from .base import Task
from .reward_pool import Outcome, RewardPool, raised, read, worth


class Reward(ABC):
    """What a completion is worth. Subclasses are named in configs by ``class_path``, like tasks.

    With a ``time_limit`` the reward has to be picklable, so its class is defined at the top of a module.
    """

    name: str
    """Name in metric tags; rewards that are used together have different ones."""
    weight: float = 1.0
    """Factor in the sum of the rewards; 0 = only logged."""
    optional: bool = False
    """True: the reward may return None for a sample that it does not apply to, and is left out of that sample's sum."""
    time_limit: float | None = None
    """Seconds for one sample; null = none."""
    timeout_score: float = 0.0
    """The value of a sample that took longer than ``time_limit``, ended its process, or was in one that was killed each
    time it was tried. Such samples are counted."""

    @abstractmethod
    def __call__(self, record: Record, completion: Completion) -> float | None:
        """The worth of one completion: finite, or None if ``optional``. Depends on its arguments alone."""

    def evaluate(self, pairs: Sequence[tuple[Record, Completion]]) -> Sequence[float | None]:
        """The worth of many. A reward that is cheaper for many at once overrides this; ``time_limit`` is none then."""
        return [self(record, completion) for record, completion in pairs]


class TaskReward(Reward):
    """A metric of a task as a reward, so that what is trained is what is evaluated.

    Args:
        task: prompt, parser and scorer.
        value: name of the metric; null = the task's primary one.
        weight: factor in the sum of the rewards.
        time_limit: seconds for one sample; null = none.
        timeout_score: value of a sample that took longer.
        name: name in metric tags; null = the metric's.
    """

    def __init__(
        self,
        task: Task,
        value: str | None = None,
        weight: float = 1.0,
        time_limit: float | None = None,
        timeout_score: float = 0.0,
        name: str | None = None,
    ) -> None:
        self.task, self.value = task, value or task.primary
        self.weight, self.time_limit, self.timeout_score = weight, time_limit, timeout_score
        self.name = name or self.value

    def __call__(self, record: Record, completion: Completion) -> float:
        return self.evaluate([(record, completion)])[0]

    def evaluate(self, pairs: Sequence[tuple[Record, Completion]]) -> list[float]:
        found = [score.values for score in self.task.score_all(pairs)]
        for values in found:
            if self.value not in values:
                raise UserError(f"the task {self.task.name} has no metric {self.value!r}; it has {', '.join(values)}")
        return [values[self.value] for values in found]


@dataclass(frozen=True, eq=False)
class RewardTable:
    """The rewards of n samples.

    Args:
        names: of the K rewards.
        values: (n, K) float64, unweighted; NaN where a reward does not apply.
        timeouts: (K,) int64 samples over the time limit.
    """

    names: tuple[str, ...]
    values: np.ndarray
    timeouts: np.ndarray


def totals(values: np.ndarray, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Weighted sum of each sample's rewards.

    Args:
        values: (n, K) float64; NaN = does not apply, and counts nothing.
        weights: (K,).

    Returns:
        (n,) float64; NaN where no reward applies.
    """
    missing = np.isnan(values)
    sums = np.where(missing, 0.0, values) @ np.asarray(weights, np.float64)
    return np.where(missing.all(axis=1), np.nan, sums)


class RewardRunner:
    """Evaluates rewards. Worker processes start at the first need, live until `close`, and hold the rewards.

    Args:
        rewards: at least one.
        max_workers: processes for rewards with a time limit; None = one per CPU.

    Raises:
        UserError: no reward, two of one name, or an impossible weight, time limit or timeout score.
    """

    def __init__(self, rewards: Sequence[Reward], max_workers: int | None = None) -> None:
        _check_rewards(rewards)
        self.rewards = tuple(rewards)
        limited = {k: reward for k, reward in enumerate(self.rewards) if reward.time_limit is not None}
        self._pool = RewardPool(limited, max_workers or os.cpu_count() or 1)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(reward.name for reward in self.rewards)

    @property
    def weights(self) -> np.ndarray:
        """(K,) float64."""
        return np.array([reward.weight for reward in self.rewards], np.float64)

    def evaluate(self, pairs: Sequence[tuple[Record, Completion]]) -> RewardTable:
        """The K rewards of n samples.

        Raises:
            UserError: a reward raised, or gave no finite number; names it, the record, the value and the completion.
        """
        values = np.full((len(pairs), len(self.rewards)), np.nan)
        timeouts = np.zeros(len(self.rewards), np.int64)
        try:
            limited = self._pool.evaluate(pairs)
            together = {k: _together(reward, pairs) for k, reward in enumerate(self.rewards) if _is_batched(reward)}
            for i, pair in enumerate(metered(pairs, "rewards", len(pairs), "completions")):
                for k, reward in enumerate(self.rewards):
                    outcome: Outcome | None
                    if k in together:
                        outcome = together[k][i]
                    else:
                        outcome = limited[i, k] if (i, k) in limited else worth(reward, *pair)
                    timeouts[k] += outcome is None
                    values[i, k], problem = (reward.timeout_score, "") if outcome is None else outcome
                    if problem:
                        raise UserError(_message(reward, *pair, problem))
        except BaseException:
            self.close()  # what is still running belongs to nobody
            raise
        return RewardTable(self.names, values, timeouts)

    def close(self) -> None:
        """Stop the worker processes; a later `evaluate` starts new ones."""
        self._pool.close()


def _is_batched(reward: Reward) -> bool:
    return reward.time_limit is None and type(reward).evaluate is not Reward.evaluate


def _together(reward: Reward, pairs: Sequence[tuple[Record, Completion]]) -> list[Outcome]:
    """All samples of a reward that takes them at once; a failure is told of the first, as nobody knows whose it is."""
    try:
        values = list(reward.evaluate(pairs))
        if len(values) != len(pairs):
            return [(math.nan, f"returned {len(values)} numbers for {len(pairs)} samples")] * len(pairs)
        return [read(reward, value) for value in values]
    except (Exception, SystemExit) as error:
        return [(math.nan, raised(error))] * len(pairs)


def _message(reward: Reward, record: Record, completion: Completion, problem: str) -> str:
    return (
        f"reward {reward.name!r} {problem}; record {record.id} ({record.origin}), "
        f"completion of {len(completion.text)} characters: {completion.text[:80]!r}"
    )


def _check_rewards(rewards: Sequence[Reward]) -> None:
    if not rewards:
        raise UserError("rewards=[]: give at least one")
    for reward in rewards:
        what = f"reward {type(reward).__name__}"
        if not isinstance(getattr(reward, "name", None), str) or not reward.name:
            raise UserError(f"{what}: name={getattr(reward, 'name', None)!r}; give it a name for metric tags")
        for field in ("weight", "timeout_score"):
            if not math.isfinite(getattr(reward, field)):
                raise UserError(f"{what}: {field}={getattr(reward, field)}; give a finite number")
        if reward.time_limit is not None and not 0 < reward.time_limit < math.inf:
            raise UserError(f"{what}: time_limit={reward.time_limit}; give seconds above 0, or null for none")
        if reward.time_limit is not None:
            try:
                pickle.dumps(reward)
            except Exception as error:
                raise UserError(
                    f"{what} has a time_limit, so it runs in other processes, but cannot be pickled ({error}). Define "
                    "its class at the top of a module, keep no open files or lambdas in it, or set time_limit to null."
                ) from error
    name, count = Counter(reward.name for reward in rewards).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} rewards are called {name!r}: their metrics would be one. Give each its own `name`.")
