"""The ledger: every completion a run learned from, token by token, as one parquet file per step.

Written whole or not at all, and under the same name again when a resumed run repeats a step. Read with DuckDB.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..types import UserError
from .rollouts import Rollout

if TYPE_CHECKING:
    import duckdb

FOLDER = "rollouts"


def write_step(run: Path, step: int, rollouts: Sequence[Rollout], reward_names: Sequence[str]) -> Path:
    """Write the rollouts of one step, of all ranks, as ``<run>/rollouts/step_<n>.parquet``.

    Columns, one row per completion in the order given: ``step``, ``key`` (row number of the prompt), ``id``,
    ``sample``, ``prompt_ids``, ``completion_ids``, ``sampler_logprobs``, ``trainer_logprobs`` and
    ``reference_logprobs`` (float32 nats per completion token; null where they were not computed), ``rewards`` (a
    struct by name, unweighted, null where one does not apply), ``reward`` (their weighted sum, null where none
    applies), ``advantage``, ``truncated`` (ran into the length limit), ``masked``, ``trained``, ``text`` (of the
    completion) and ``prompt`` (the last user message). Lone surrogates in texts are spelt out.

    Args:
        run: run directory.
        step: number of the step, from 0.
        rollouts: at least one.
        reward_names: of the K rewards, in the order of ``Rollout.rewards``.

    Returns:
        The file.

    Raises:
        UserError: no rollout, names that are no columns, or a file that cannot be written.
    """
    _check(step, rollouts, reward_names)
    table = pa.Table.from_pydict(_columns(step, rollouts, reward_names), schema(reward_names))
    path = run / FOLDER / f"step_{step:06d}.parquet"
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: the rollouts cannot be written ({error}); make room, or choose another folder") from (
            error
        )
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def read_steps(run: Path) -> duckdb.DuckDBPyRelation:
    """All steps of a run as one relation with the columns of `write_step`; nothing is read before it is asked.

    ``read_steps(run).query("rollouts", "select step, avg(reward) from rollouts group by step order by step")``. Steps
    with other rewards than the rest have null in those they lack.

    Args:
        run: run directory.

    Raises:
        UserError: the run has no rollouts, or they are damaged.
    """
    import duckdb

    folder = run / FOLDER
    if not any(folder.glob("*.parquet")):
        raise UserError(f"{folder}: holds no rollouts; name the directory of a run that generated while it trained")
    try:
        return duckdb.connect().read_parquet(f"{glob.escape(str(folder))}/*.parquet", union_by_name=True)
    except duckdb.Error as error:
        raise UserError(f"{folder}: a file is damaged ({error}); delete it") from error


def schema(reward_names: Iterable[str]) -> pa.Schema:
    """Columns of a file; those that may be null are."""
    ids, logprobs = pa.list_(pa.int32()), pa.list_(pa.float32())
    rewards = pa.struct([pa.field(name, pa.float64()) for name in reward_names])
    columns: list[tuple[str, pa.DataType, bool]] = [
        ("step", pa.int64(), False),
        ("key", pa.int64(), False),
        ("id", pa.string(), False),
        ("sample", pa.int32(), False),
        ("prompt_ids", ids, False),
        ("completion_ids", ids, False),
        ("sampler_logprobs", logprobs, False),
        ("trainer_logprobs", logprobs, True),
        ("reference_logprobs", logprobs, True),
        ("rewards", rewards, False),
        ("reward", pa.float64(), True),
        ("advantage", pa.float64(), False),
        ("truncated", pa.bool_(), False),
        ("masked", pa.bool_(), False),
        ("trained", pa.bool_(), False),
        ("text", pa.string(), False),
        ("prompt", pa.string(), False),
    ]
    return pa.schema([pa.field(name, kind, nullable) for name, kind, nullable in columns])


def _columns(step: int, rollouts: Sequence[Rollout], names: Sequence[str]) -> dict[str, list[Any]]:
    return {
        "step": [step] * len(rollouts),
        "key": [r.prompt.key for r in rollouts],
        "id": [_text(r.prompt.record.id) for r in rollouts],
        "sample": [r.sample for r in rollouts],
        "prompt_ids": [np.asarray(r.prompt.ids, np.int32) for r in rollouts],
        "completion_ids": [np.asarray(r.completion.tokens, np.int32) for r in rollouts],
        "sampler_logprobs": [np.asarray(r.completion.logprobs, np.float32) for r in rollouts],
        "trainer_logprobs": [_numbers(r.logprobs) for r in rollouts],
        "reference_logprobs": [_numbers(r.reference) for r in rollouts],
        "rewards": [dict(zip(names, map(_number, r.rewards), strict=True)) for r in rollouts],
        "reward": [_number(r.total) for r in rollouts],
        "advantage": [float(r.advantage) for r in rollouts],
        "truncated": [not r.completion.finished for r in rollouts],
        "masked": [bool(r.masked) for r in rollouts],
        "trained": [bool(r.trained) for r in rollouts],
        "text": [_text(r.completion.text) for r in rollouts],
        "prompt": [_text(_question(r)) for r in rollouts],
    }


def _check(step: int, rollouts: Sequence[Rollout], names: Sequence[str]) -> None:
    if step < 0:
        raise UserError(f"rollouts of step={step}: count steps from 0")
    if not rollouts:
        raise UserError(f"rollouts of step {step}: there are none; a step has at least one completion")
    if not names or len({name.lower() for name in names}) < len(names) or "" in names:
        raise UserError(
            f"reward_names={list(names)}: give each reward a `name` of its own; queries do not tell capitals apart"
        )
    for rollout in rollouts:
        if len(rollout.rewards) != len(names):
            raise UserError(
                f"rollout {rollout.name} of step {step} has {len(rollout.rewards)} rewards, reward_names names "
                f"{len(names)}: {', '.join(names)}; give one number per name, nan where a reward does not apply"
            )


def _question(rollout: Rollout) -> str:
    messages = rollout.prompt.record.prompt
    asked = [m.content for m in messages if m.role == "user"] or [m.content for m in messages]
    return asked[-1] if asked else ""


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _numbers(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else np.asarray(values, np.float32)
