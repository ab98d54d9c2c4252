"""Rewards: numbers, refusals, time limits and sums."""

import math
import os
import pickle
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.tasks.reward import Reward, RewardRunner, TaskReward, totals
from lightning_posttrain.tasks.reward_pool import RewardPool
from lightning_posttrain.types import Completion, Message, Record, UserError

RECORD = Record("r1", (Message("user", "1+1?"),), "#### 2", "f.jsonl:3", {"gold": "2"})


def pair(text: str) -> tuple[Record, Completion]:
    return RECORD, Completion((1,), (0.0,), text, True)


class Says(Reward):
    """Returns what it was made with."""

    def __init__(self, value, name="says", **options):
        self.value, self.name = value, name
        vars(self).update(options)

    def __call__(self, record, completion):
        return self.value


class Fails(Reward):
    name = "fails"

    def __call__(self, record, completion):
        raise ValueError("bad luck")


class Obeys(Reward):
    """Does what the completion says."""

    name = "obeys"
    timeout_score = -1.0

    def __init__(self, time_limit: float = 3600.0) -> None:
        self.time_limit = time_limit

    def __call__(self, record, completion):  # noqa: C901
        match completion.text:
            case "sleep":
                time.sleep(1 << 30)
            case "stuck":
                re.match(r"(a+)+$", "a" * 60 + "b")  # hours, in C, where no signal handler of Python runs
            case "die":
                os._exit(3)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "killed once":
                marker = Path(record.meta["folder"]) / "killed"
                if not marker.exists():
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            case "vanish":
                os._exit(0)
            case "leave":
                raise SystemExit("enough")
            case "fail":
                raise TimeoutError("of its own")
            case "inapplicable":
                return None
        return float(len(completion.text))


@pytest.fixture
def runner():
    made = RewardRunner([Obeys()], max_workers=1)
    yield made
    made.close()


def test_values_weights_and_names():
    runner = RewardRunner([Says(1.5, "a"), Says(True, "b", weight=2.0), Says(np.float32(0.25), "c")])
    table = runner.evaluate([pair("x"), pair("y")])
    assert table.names == runner.names == ("a", "b", "c")
    assert table.values.dtype == np.float64
    assert table.values.tolist() == [[1.5, 1.0, 0.25]] * 2
    assert table.timeouts.tolist() == [0, 0, 0]
    assert totals(table.values, runner.weights).tolist() == [3.75, 3.75]
    assert runner.evaluate([]).values.shape == (0, 3)


def test_an_optional_reward_may_not_apply():
    runner = RewardRunner([Says(None, "a", optional=True), Says(2, "b")])
    table = runner.evaluate([pair("x")])
    assert np.isnan(table.values[0, 0])
    assert totals(table.values, runner.weights).tolist() == [2.0]


def test_totals_by_hand():
    values = np.array([[1.0, np.nan], [2.0, 3.0], [np.nan, np.nan]])
    np.testing.assert_equal(totals(values, [0.5, 10.0]), [0.5, 31.0, np.nan])


@given(
    hnp.arrays(np.float64, (4, 3), elements=st.floats(-9, 9) | st.just(math.nan)),
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
def test_totals_are_the_sums_of_what_applies(values, weights):
    for row, total in zip(values, totals(values, weights), strict=True):
        here = [w * v for w, v in zip(weights, row, strict=True) if not math.isnan(v)]
        assert math.isnan(total) if not here else math.isclose(total, sum(here), abs_tol=1e-9)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (math.nan, "returned nan"),
        (math.inf, "returned inf"),
        (None, "returned None.*optional = True"),
        ("1", "returned '1'"),
        ([1.0], r"returned \[1.0\]"),
        (np.ones(2), "returned array"),
        (10**400, "raised OverflowError|returned 1000"),
    ],
)
def test_what_is_no_number_is_refused_with_the_sample(value, named):
    with pytest.raises(UserError, match=named) as caught:
        RewardRunner([Says(value)]).evaluate([pair("a long " + "text " * 100)])
    message = str(caught.value)
    assert all(part in message for part in ("'says'", "r1", "f.jsonl:3", "a long text"))
    assert len(message) < 400


def test_a_reward_that_raises_names_itself_the_sample_and_its_line():
    with pytest.raises(UserError, match=r"'fails' raised ValueError: bad luck \(.*test_reward.py:\d+\).*r1.*'hello'"):
        RewardRunner([Says(1), Fails()]).evaluate([pair("hello")])


@pytest.mark.parametrize(
    ("rewards", "named"),
    [
        ([], "at least one"),
        ([Says(1), Says(2)], "2 rewards are called 'says'"),
        ([Says(1, name="")], "Says: name=''"),
        ([Says(1, weight=math.nan)], "weight=nan"),
        ([Says(1, timeout_score=math.inf)], "timeout_score=inf"),
        ([Says(1, time_limit=0)], "time_limit=0"),
        ([Says(lambda: 1, time_limit=1.0)], "cannot be pickled"),
    ],
)
def test_impossible_rewards_are_refused(rewards, named):
    with pytest.raises(UserError, match=named):
        RewardRunner(rewards)


def test_a_metric_of_a_task():
    rewards = [TaskReward(GSM8K()), TaskReward(GSM8K(), "eos_rate", weight=0.5, name="ended")]
    runner = RewardRunner(rewards)
    assert runner.names == ("accuracy", "ended")
    assert runner.evaluate([pair("#### 2"), pair("#### 3")]).values.tolist() == [[1.0, 1.0], [0.0, 1.0]]
    with pytest.raises(UserError, match="no metric 'acuracy'; it has accuracy"):
        RewardRunner([TaskReward(GSM8K(), "acuracy")]).evaluate([pair("#### 2")])


@pytest.mark.parametrize("text", ["sleep", "stuck", "vanish"])
def test_a_sample_that_never_ends_is_over_the_time_limit(text):
    """The limit is short, and only what can never end within any is asked of it."""
    runner = RewardRunner([Obeys(time_limit=0.3)], max_workers=1)
    try:
        table = runner.evaluate([pair(text)] * 2)
    finally:
        runner.close()
    assert table.values.tolist() == [[-1.0], [-1.0]]
    assert table.timeouts.tolist() == [2]


def test_samples_that_end_their_process_are_scored_and_counted(runner):
    table = runner.evaluate([pair(text) for text in ("ok", "die", "killed", "fine")])
    assert table.values[:, 0].tolist() == [2.0, -1.0, -1.0, 4.0]
    assert table.timeouts.tolist() == [2]
    pool = runner._pool._pool
    assert runner.evaluate([pair("again")]).values.tolist() == [[5.0]]
    assert runner._pool._pool is pool


def test_a_sample_whose_process_was_killed_is_tried_again(runner, tmp_path):
    record, completion = pair("killed once")
    table = runner.evaluate([(replace(record, meta={"folder": str(tmp_path)}), completion), pair("ok")])
    assert (tmp_path / "killed").exists()
    assert table.values[:, 0].tolist() == [11.0, 2.0]
    assert table.timeouts.tolist() == [0]


def workers(runner):
    return list(runner._pool._pool._pool_manager.worker_manager.workers.values())


def test_processes_that_were_killed_are_replaced(runner):
    assert runner.evaluate([pair("ok")]).values.tolist() == [[2.0]]
    for worker in workers(runner):  # while they have nothing to do
        worker.kill()
        worker.join()
    assert runner.evaluate([pair("ok"), pair("fine")]).values.tolist() == [[2.0], [4.0]]


def test_processes_that_are_killed_again_and_again_end_the_run(runner, monkeypatch):
    def broken(self):
        raise RuntimeError("Unexpected error within the Pool")

    monkeypatch.setattr(RewardPool, "_started", broken)
    with pytest.raises(UserError, match=r"failed or were killed 3 times .*where memory is short.*time_limit to null"):
        runner.evaluate([pair("ok")])


def test_failures_in_a_worker_are_told_from_time_limits(runner):
    cases = {"fail": "'obeys' raised TimeoutError: of its own", "leave": "raised SystemExit", "inapplicable": "None"}
    for text, named in cases.items():
        with pytest.raises(UserError, match=named):
            runner.evaluate([pair(text)])
        assert runner._pool._pool is None  # nothing is left running after an error


def test_only_rewards_with_a_limit_start_processes():
    runner = RewardRunner([Says(1)])
    runner.evaluate([pair("x")])
    assert runner._pool._pool is None
    assert pickle.loads(pickle.dumps(runner)).names == ("says",)


class Together(Reward):
    """Takes all samples at once; what it answers is set by the test."""

    name = "together"
    optional = True

    def __init__(self, answers: Any) -> None:
        self.answers = answers
        self.calls = 0

    def __call__(self, record: Record, completion: Completion) -> float:
        raise AssertionError("not one by one")

    def evaluate(self, pairs: Any) -> Any:
        self.calls += 1
        if isinstance(self.answers, Exception):
            raise self.answers
        return self.answers


def test_a_reward_may_take_all_samples_at_once() -> None:
    reward = Together([0.5, None, 1.0])
    table = RewardRunner([reward]).evaluate([pair("x")] * 3)
    assert reward.calls == 1
    assert table.values[[0, 2], 0].tolist() == [0.5, 1.0]
    assert math.isnan(table.values[1, 0])


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([0.5], "returned 1 numbers for 3 samples"),
        ([0.5, 1.0, float("nan")], "returned nan"),
        (ValueError("no worker"), "raised ValueError: no worker"),
    ],
)
def test_a_failure_of_all_samples_at_once_is_told(answers: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        RewardRunner([Together(answers)]).evaluate([pair("x")] * 3)
