"""The ledger of rollouts: what is written is read, by the token and by query, and never half."""

import os
import signal
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightning_posttrain.batching.prompts import Prompt
from lightning_posttrain.rollout import ledger
from lightning_posttrain.rollout.ledger import read_steps, write_step
from lightning_posttrain.rollout.rollouts import Rollout
from lightning_posttrain.types import Completion, Message, Record, UserError

NAMES = ["right", "format"]


def rollout(key=0, sample=0, rewards=(1.0, 0.5), text="4", finished=True, **fields):
    """A rollout of three tokens with reward right + format."""
    messages = (Message("system", "Add."), Message("user", f"What is {key} + {key}?"))
    prompt = Prompt(Record(f"row-{key}", messages, "4", f"rows.jsonl:{key + 1}"), np.array([5, 6], np.int32), key)
    completion = Completion((7, 8, 9), (-0.1, -0.2, -0.3), text, finished)
    values = np.array(rewards, np.float64)
    total = np.nan if np.isnan(values).all() else float(np.nansum(values))
    return Rollout(prompt, sample, completion, values, total, **fields)


def test_what_is_written_is_read(tmp_path):
    numbers = np.array([-0.15, -0.25, -0.35], np.float32)
    one = rollout(3, 1, advantage=0.7, trained=True, logprobs=numbers, reference=numbers - 1)
    path = write_step(tmp_path, 12, [one], NAMES)
    assert path == tmp_path / "rollouts" / "step_000012.parquet"
    table = pq.read_table(path)
    assert table.schema.equals(ledger.schema(NAMES))
    assert table.to_pylist() == [
        {
            "step": 12,
            "key": 3,
            "id": "row-3",
            "sample": 1,
            "prompt_ids": [5, 6],
            "completion_ids": [7, 8, 9],
            "sampler_logprobs": [np.float32(x).item() for x in (-0.1, -0.2, -0.3)],
            "trainer_logprobs": numbers.tolist(),
            "reference_logprobs": (numbers - 1).tolist(),
            "rewards": {"right": 1.0, "format": 0.5},
            "reward": 1.5,
            "advantage": 0.7,
            "truncated": False,
            "masked": False,
            "trained": True,
            "text": "4",
            "prompt": "What is 3 + 3?",
        }
    ]


def test_what_is_not_known_is_null(tmp_path):
    some = rollout(0, 0, (np.nan, 0.5), finished=False, masked=True)
    none = rollout(0, 1, (np.nan, np.nan))
    first, second = pq.read_table(write_step(tmp_path, 0, [some, none], NAMES)).to_pylist()
    assert first["rewards"] == {"right": None, "format": 0.5}
    assert first["reward"] == 0.5
    assert first["truncated"]
    assert first["masked"]
    assert second["rewards"] == {"right": None, "format": None}
    assert second["reward"] is None
    assert second["trainer_logprobs"] is None
    assert second["reference_logprobs"] is None
    counts = "select count(*), count(reward), count(rewards.right), count(trainer_logprobs) from rollouts"
    assert read_steps(tmp_path).query("rollouts", counts).fetchone() == (2, 1, 0, 0)


def test_queries_over_steps(tmp_path):
    for step in range(3):
        group = [rollout(k, s, (float(s < step), 0.25)) for k in range(2) for s in range(2)]
        write_step(tmp_path, step, group, NAMES)
    rollouts = read_steps(tmp_path)
    by_step = """
        select step, avg(reward), avg(rewards.right), avg(rewards.format), stddev_samp(reward) > 0
        from rollouts group by step order by step
    """
    assert rollouts.query("rollouts", by_step).fetchall() == [
        (0, 0.25, 0.0, 0.25, False),
        (1, 0.75, 0.5, 0.25, True),
        (2, 1.25, 1.0, 0.25, False),
    ]
    tokens = "select sum(len(completion_ids)), min(list_sum(sampler_logprobs)) from rollouts"
    assert rollouts.query("rollouts", tokens).fetchone() == (36, pytest.approx(-0.6))


@pytest.mark.parametrize("name", ["run [1]", "it's", "a*b?", "ünï"])
def test_folders_of_any_name(name, tmp_path):
    (tmp_path / "run 1").mkdir()
    write_step(tmp_path / name, 0, [rollout()], NAMES)
    assert len(read_steps(tmp_path / name).fetchall()) == 1


def test_a_step_done_again_replaces_the_first(tmp_path):
    write_step(tmp_path, 0, [rollout(text="first"), rollout(sample=1)], NAMES)
    write_step(tmp_path, 0, [rollout(text="second")], NAMES)
    assert read_steps(tmp_path).select("text").fetchall() == [("second",)]


def test_steps_with_other_rewards_are_read_together(tmp_path):
    write_step(tmp_path, 0, [rollout(rewards=(1.0, 2.0))], NAMES)
    write_step(tmp_path, 1, [rollout(rewards=(3.0, 4.0))], ["length", "right"])
    found = read_steps(tmp_path).order("step").select("rewards.right, rewards.format, rewards.length").fetchall()
    assert found == [(1.0, 2.0, None), (4.0, None, 3.0)]


@pytest.mark.parametrize("text", ["a\ud800b", "nul\0", '"quotes"\r\nand |pipes|', "", "漢字 🙂"])
def test_any_text_survives(text, tmp_path):
    write_step(tmp_path, 0, [rollout(text=text)], NAMES)
    expected = text.replace("\ud800", "\\ud800")
    assert read_steps(tmp_path).select("text").fetchall() == [(expected,)]


def test_an_empty_completion_is_an_empty_list(tmp_path):
    empty = rollout()
    empty.completion = Completion((), (), "", False)
    assert pq.read_table(write_step(tmp_path, 0, [empty], NAMES))["completion_ids"].to_pylist() == [[]]


def test_a_full_disk_leaves_no_half_file_and_the_old_one_alone(tmp_path, monkeypatch):
    before = write_step(tmp_path, 0, [rollout()], NAMES).read_bytes()

    def fail(table, file, **_):
        file.write(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger.pq, "write_table", fail)
    with pytest.raises(UserError, match=r"step_000000\.parquet: the rollouts cannot be written"):
        write_step(tmp_path, 0, [rollout(text="other")], NAMES)
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "rollouts").iterdir()] == [("step_000000.parquet", before)]


def test_a_killed_write_is_not_read(tmp_path):
    write_step(tmp_path, 0, [rollout()], NAMES)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        ledger.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        with suppress(BaseException):
            write_step(tmp_path, 1, [rollout()], NAMES)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert any(p.name.startswith(".tmp-step_000001.parquet") for p in (tmp_path / "rollouts").iterdir())
    assert not (tmp_path / "rollouts" / "step_000001.parquet").exists()
    assert read_steps(tmp_path).select("step").fetchall() == [(0,)]


@pytest.mark.parametrize(
    ("step", "rollouts", "names", "named"),
    [
        (-1, [rollout()], NAMES, "step=-1"),
        (0, [], NAMES, "there are none"),
        (0, [rollout()], [], r"reward_names=\[\]"),
        (0, [rollout()], ["right", "Right"], "capitals"),
        (0, [rollout(rewards=(1.0,))], NAMES, "0/0 of step 0 has 1 rewards"),
    ],
)
def test_what_cannot_be_a_ledger_is_refused(step, rollouts, names, named, tmp_path):
    with pytest.raises(UserError, match=named):
        write_step(tmp_path, step, rollouts, names)
    assert not (tmp_path / "rollouts").exists()


def test_a_run_without_or_with_damaged_rollouts(tmp_path):
    with pytest.raises(UserError, match="holds no rollouts"):
        read_steps(tmp_path)
    write_step(tmp_path, 0, [rollout()], NAMES).write_bytes(b"PAR1")
    with pytest.raises(UserError, match="damaged"):
        read_steps(tmp_path)


def test_the_columns_types():
    kinds = {field.name: (field.type, field.nullable) for field in ledger.schema(NAMES)}
    assert kinds["step"] == kinds["key"] == (pa.int64(), False)
    assert kinds["sample"] == (pa.int32(), False)
    assert kinds["sampler_logprobs"] == (pa.list_(pa.float32()), False)
    assert kinds["trainer_logprobs"] == kinds["reference_logprobs"] == (pa.list_(pa.float32()), True)
    assert kinds["rewards"][0].field("right").type == pa.float64()
    assert kinds["reward"] == (pa.float64(), True)
    assert kinds["advantage"] == (pa.float64(), False)
