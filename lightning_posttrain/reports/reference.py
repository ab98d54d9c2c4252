"""Figures that somebody else reported, beside ours: read from a file, and whether each lies in our 95% interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..types import UserError
from .collation import Model

COLUMNS = ("reference", "reference_n", "inside")
"""What `add_reference` adds to a row of `collation.collate`."""
ROUNDING = 5e-5
"""Reports give percentages with two decimals."""
_FORM = (
    "give name: TEXT and tasks: {TASK: {n: NUMBER, metrics: {METRIC: SHARE}, note: TEXT, comparable: false}}, the last "
    "two where there is reason to"
)
_KEYS = {"n", "metrics", "note", "comparable"}


@dataclass(frozen=True)
class Figure:
    """One reported number, of how many examples it is, what is to be known of it, and whether ours is of like rows."""

    value: float
    n: int
    note: str
    comparable: bool


@dataclass(frozen=True)
class Reference:
    """Reported figures by task and metric, under the name of their column."""

    name: str
    figures: Mapping[tuple[str, str], Figure]


def read_reference(path: str) -> Reference:
    """The figures in a YAML file.

    Raises:
        UserError: it is missing or holds something else.
    """
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        figures = {
            (str(task), str(metric)): Figure(
                float(value), int(held["n"]), str(held.get("note", "")), held.get("comparable", True) is not False
            )
            for task, held in found["tasks"].items()
            for metric, value in held["metrics"].items()
        }
        unknown = {*found} - {"name", "tasks"} | {key for held in found["tasks"].values() for key in {*held} - _KEYS}
        if unknown or not figures:
            raise ValueError(f"unknown keys {sorted(map(str, unknown))}" if unknown else "no figures")
        return Reference(str(found["name"]), figures)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"reference={path}: no reported figures ({reason}); {_FORM}") from error


def shown_with(
    reference: Reference, models: Sequence[Model], shown: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """(task, metric) to show: every reported one, also of tasks that no model has, then the others of ``shown``.

    Raises:
        UserError: a task that a model has lacks the metric.
    """
    for task, metric in reference.figures:
        for found in (model.evaluations.get(task) for model in models):
            if found is not None and metric not in found.metrics:
                raise UserError(f"reference: {task} has no metric {metric!r}; it has {', '.join(found.metrics)}")
    return list(dict.fromkeys([*reference.figures, *shown]))


def add_reference(rows: Sequence[dict[str, Any]], reference: Reference) -> None:
    """Give rows of `collation.collate` the `COLUMNS`; ``inside`` is yes, no, not comparable or, not known, nothing."""
    for row in rows:
        figure = reference.figures.get((row["task"], row["metric"]))
        row |= {"reference": None, "reference_n": None, "inside": ""}
        if figure is not None:
            row |= {"reference": figure.value, "reference_n": figure.n, "inside": _inside(row, figure)}


def _inside(row: Mapping[str, Any], figure: Figure) -> str:
    if not figure.comparable:
        return "not comparable"
    if row["low"] is None:
        return ""
    return "yes" if row["low"] - ROUNDING <= figure.value <= row["high"] + ROUNDING else "no"


def reference_table(
    rows: Sequence[Mapping[str, Any]], models: Sequence[Model], shown: Sequence[tuple[str, str]], reference: Reference
) -> tuple[list[str], list[list[str]]]:
    """Header and cells: a row per task and metric; of each model the value, its interval, and whether it holds the
    reported one."""
    by_cell = {(r["model"], r["task"], r["metric"]): r for r in rows}
    header, cells = ["task", "metric", reference.name], []
    for model in models:
        header += [model.name, "95% interval", f"holds {reference.name}"]
    for task, metric in shown:
        figure = reference.figures.get((task, metric))
        cell = [task, metric, f"{figure.value:.4f} (n {figure.n})" if figure else ""]
        for model in models:
            cell += _model_cells(by_cell.get((model.name, task, metric)))
        cells.append([*cell, figure.note if figure else ""])
    return [*header, "note"], cells


def _model_cells(row: Mapping[str, Any] | None) -> list[str]:
    if row is None:
        return ["", "", ""]
    interval = "" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
    return [f"{row['value']:.4f} (n {row['n']})", interval, row["inside"]]
