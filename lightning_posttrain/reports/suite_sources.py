"""Where a suite's numbers come from: run directories, or a table in a CSV file."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..types import UserError
from .evals import evaluations
from .suites import Suite

if TYPE_CHECKING:
    from ..tasks.bpb.suites import SuiteTask

SEED = re.compile(r"^(.+?)[-_./ ]*seed[-_ ]?\d+$")
TASK_COLUMNS = ("task", "metric")
RUN_COLUMNS = ("name", "run")
GROUP_COLUMNS = ("family", "category", "group")


def task_group(task: str, groups: Sequence[str] = ()) -> str:
    """The group a task is counted in: of the 60 tasks the suite's, else the first that its evaluation names.

    Without either, a published short name is known too, such as ``arc_easy``, ``mmlu_stem``, ``humaneval`` or
    ``basic_skills_coding:rc``. Basic skills in coding count as code, as in the published tables.
    """
    from ..tasks.bpb.suites import SUITE

    if task in SUITE:
        return _suite_group(SUITE[task])
    if groups:
        return groups[0]
    found = {_suite_group(known) for known in _suite_tasks(task)}
    return found.pop() if len(found) == 1 else task.split("_")[0]


def _suite_tasks(name: str) -> list[SuiteTask]:
    """The tasks of the suite that a name is short for: a family, or what ids begin with."""
    from ..tasks.bpb.suites import SUITE

    short = re.sub(r"(?:_(?:rc|mc|bpb|gold|olmes|full|[0-9]+shot))+$", "", re.sub(r"[:-]+", "_", name).strip("_"))
    family = [task for task in SUITE.values() if task.family == short]
    return family[:1] or [task for id, task in SUITE.items() if f"{id}_".startswith((f"{short}_", f"codex_{short}_"))]


def _suite_group(task: SuiteTask) -> str:
    if task.id.startswith("basic_skills_coding"):
        return "code"
    return (
        task.category if task.category in ("math", "code") else task.family.removesuffix("_val").removesuffix("_test")
    )


def suite_of_runs(paths: Sequence[str], metric: str) -> Suite:
    """The last evaluation of each task in run directories.

    Raises:
        UserError: a directory has no evaluation with ``metric``, or the runs have other tasks than one another.
    """
    values: dict[str, dict[str, list[float]]] = {}
    groups: dict[str, str] = {}
    counts: dict[str, int] = {}
    for path in paths:
        name = without_seed(Path(path).name)
        last = {e.task: e for e in evaluations(Path(path)) if metric in e.metrics}
        if not last:
            raise UserError(f"{path}: has no evaluation with the metric {metric!r}; name run directories that have")
        counts[name] = counts.get(name, 0) + 1
        for task, found in last.items():
            values.setdefault(task, {}).setdefault(name, []).append(found.metrics[metric])
            said = json.loads((found.folder / "metrics.json").read_text(encoding="utf-8")).get("groups", [])
            groups.setdefault(task, task_group(task, said))
    for task, held in values.items():
        if {run: len(v) for run, v in held.items()} != counts:
            missing = [run for run in counts if len(held.get(run, [])) < counts[run]]
            raise UserError(f"{task}: {', '.join(missing)} lack its {metric}; evaluate all runs on the same tasks")
    return Suite(tuple(counts), values, groups)


def suite_of_csv(path: str) -> Suite:
    """A table of tasks in rows (a column ``task``, one column per run, perhaps ``family`` or ``category``), or of
    runs in rows (a column ``name`` or ``run``, one column per task).

    Raises:
        UserError: the file is missing, is neither, or holds something else than numbers; names line and column.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows, named = list(reader), [column for column in reader.fieldnames or () if column]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error})") from error
    if not rows:
        raise UserError(f"{path}: holds no rows")
    if twice := [column for column in named if named.count(column) > 1]:
        raise UserError(f"{path}: the column {twice[0]!r} is there twice; give each run or task its own")
    header = [column for column in rows[0] if column]
    task = next((c for c in header if c.lower() in TASK_COLUMNS), None)
    run = next((c for c in RUN_COLUMNS if c in header), None)
    if task is not None:
        suite = _tasks_in_rows(path, rows, header, task)
    elif run is not None:
        suite = _runs_in_rows(path, rows, header, run)
    else:
        raise UserError(f"{path}: has the columns {', '.join(header)}; give a column `task`, or `name` with the runs")
    if len(suite.runs) < 2:
        raise UserError(f"{path}: has {len(suite.runs)} run; a comparison needs two")
    return suite


def _tasks_in_rows(path: str, rows: list[dict[str, str]], header: list[str], task_column: str) -> Suite:
    group_column = next((c for c in header if c.lower() in GROUP_COLUMNS), None)
    columns = [c for c in header if c not in (task_column, group_column)]
    values: dict[str, dict[str, list[float]]] = {}
    groups: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        task = row[task_column]
        if task in values:
            raise UserError(f"{path}:{line}: the task {task!r} is there twice")
        values[task] = {}
        for column in columns:
            held = values[task].setdefault(without_seed(column), [])
            held.append(_number(row[column], f"{path}:{line}: {column}"))
        groups[task] = row[group_column] if group_column else task_group(task)
    return Suite(tuple(dict.fromkeys(map(without_seed, columns))), values, groups)


def _runs_in_rows(path: str, rows: list[dict[str, str]], header: list[str], run_column: str) -> Suite:
    tasks = [c for c in header if c not in (*RUN_COLUMNS, "index")]
    values: dict[str, dict[str, list[float]]] = {task: {} for task in tasks}
    for line, row in enumerate(rows, start=2):
        for task in tasks:
            held = values[task].setdefault(without_seed(row[run_column]), [])
            held.append(_number(row[task], f"{path}:{line}: {task}"))
    runs = tuple(dict.fromkeys(without_seed(row[run_column]) for row in rows))
    return Suite(runs, values, {task: task_group(task) for task in tasks})


def without_seed(name: str) -> str:
    """The name of a run without a seed at its end: ``mix_code-seed3`` is ``mix_code``."""
    match = SEED.match(name)
    return match[1] if match else name


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: {text!r} is no number; every task needs a value for every run")
    return value


def run_facts(path: str) -> dict[str, Any]:
    """run.json of a run directory; empty where there is none."""
    try:
        found = json.loads((Path(path) / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def tokens_per_step(facts: Mapping[str, Any]) -> float | None:
    """Training tokens of an optimizer step, from a run's mixture and number of steps."""
    tokens = sum(part.get("tokens", 0) for part in facts.get("mixture", {}).values())
    return tokens / facts["steps"] if tokens and facts.get("steps") else None
