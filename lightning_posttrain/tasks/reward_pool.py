"""The worker processes of rewards with a time limit.

They are killed when a sample's time is over. Those that something else kills, as a system does where memory is short,
are replaced, and their samples are tried again.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from pebble import ProcessExpired, ProcessPool

from ..types import Completion, Record, UserError

if TYPE_CHECKING:
    from .reward import Reward

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Times that a sample is tried whose process is killed."""


class RewardPool:
    """Worker processes that start at the first need, live until `close`, and hold the rewards.

    Args:
        rewards: number -> a reward with a time limit.
        max_workers: processes.
    """

    def __init__(self, rewards: Mapping[int, Reward], max_workers: int) -> None:
        self.rewards, self.max_workers = dict(rewards), max_workers
        self._pool: ProcessPool | None = None

    def evaluate(self, pairs: Sequence[tuple[Record, Completion]]) -> dict[tuple[int, int], Outcome | None]:
        """(sample, reward) -> the outcome of each; None where the time limit is over, or the sample fatal.

        A sample whose process was killed is tried again: what the system does to processes is no sample's doing, unless
        it happens to it each time.

        Raises:
            UserError: all processes were killed each time, or none can start.
        """
        found: dict[tuple[int, int], Outcome | None] = {}
        left = [(i, k) for k in self.rewards for i in range(len(pairs))]
        for attempt in range(ATTEMPTS):
            killed, broken = self._attempt(left, pairs, found)
            if broken is not None:
                self.close()
                if attempt == ATTEMPTS - 1:
                    raise UserError(
                        f"rewards with a time limit: their worker processes failed or were killed {ATTEMPTS} times "
                        f"({broken!r}); where memory is short, free some or use fewer devices; guard a script by "
                        "`if __name__ == '__main__'`; or set time_limit to null"
                    ) from broken
            if not killed:
                break
            log.warning("rewards: the processes of %d samples were killed; trying these again", len(killed))
            left = killed
        return found

    def _attempt(
        self,
        left: Sequence[tuple[int, int]],
        pairs: Sequence[tuple[Record, Completion]],
        found: dict[tuple[int, int], Outcome | None],
    ) -> tuple[list[tuple[int, int]], Exception | None]:
        """Fill ``found``; what lost its process to somebody else, and why there are no processes any more."""
        killed: list[tuple[int, int]] = []
        broken: Exception | None = None
        waiting: dict[tuple[int, int], Future[Outcome]] = {}
        try:
            for i, k in left:
                limit = self.rewards[k].time_limit
                waiting[i, k] = self._started().schedule(_work, (k, *pairs[i]), timeout=limit)
        except RuntimeError as error:  # of a pool whose processes were killed while they had nothing to do
            broken = error
        for place in left:
            found[place] = None
            try:
                if place in waiting:
                    found[place] = _finished(waiting[place], self.rewards[place[1]])
                    continue
            except ProcessExpired as error:
                if not _by_a_signal(error):
                    continue
            except (BrokenProcessPool, RuntimeError) as error:
                broken = error
            killed.append(place)
        return killed, broken

    def close(self) -> None:
        """Stop the worker processes; a later `evaluate` starts new ones."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}  # processes stay with the original of a copy

    def _started(self) -> ProcessPool:
        """The pool. From a fork server: a plain fork would copy locks that torch's threads may hold."""
        if self._pool is None:
            methods = multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
            if "forkserver" in methods:
                context.set_forkserver_preload([__name__])  # torch is imported once, not in every worker
            self._pool = ProcessPool(
                self.max_workers, initializer=_start_worker, initargs=(pickle.dumps(self.rewards),), context=context
            )
        return self._pool


Outcome = tuple[float, str]
"""A reward's number, and what is wrong with it (an empty text: nothing)."""

_rewards: dict[int, Reward] = {}
_unloaded = ""


def _start_worker(pickled: bytes) -> None:
    """Runs once in each worker, before the clock of any sample: loading a reward may import much."""
    global _unloaded
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # die at once when told to, even inside a regular expression
    try:
        _rewards.update(pickle.loads(pickled))
    except Exception as error:
        _unloaded = f"cannot be loaded in a worker process ({error!r}); define its class at the top of a module"


def _work(index: int, record: Record, completion: Completion) -> Outcome:
    return (math.nan, _unloaded) if _unloaded else worth(_rewards[index], record, completion)


def _finished(future: Future[Outcome], reward: Reward) -> Outcome | None:
    """What a worker found; None when it was over its time limit.

    Raises:
        UserError: the sample cannot be sent there.
        ProcessExpired: the process is gone.
        BrokenProcessPool: all of them are.
    """
    try:
        return future.result()
    except TimeoutError:
        return None
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"reward {reward.name!r}: a record cannot be sent to its worker processes ({error!r}); make records of "
            "plain values, or set time_limit to null"
        ) from error


def _by_a_signal(error: ProcessExpired) -> bool:
    """Whether something killed the process, rather than it ended itself; 255 is what is known without a fork server."""
    return int(error.exitcode) < 0 or int(error.exitcode) == 255


def worth(reward: Reward, record: Record, completion: Completion) -> Outcome:
    try:
        return read(reward, reward(record, completion))
    except (Exception, SystemExit) as error:
        return math.nan, raised(error)


def read(reward: Reward, value: Any) -> Outcome:
    if value is None and reward.optional:
        return math.nan, ""
    if value is None:
        return math.nan, "returned None; a reward that does not apply to every sample sets `optional = True`"
    if isinstance(value, Real | np.bool_) and math.isfinite(value):
        return float(value), ""
    return math.nan, f"returned {repr(value)[:60]}; a reward is one finite number"


def raised(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"raised {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
