"""Runs that start from one another's model: what each stage evaluated to, and where a stage made something worse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from .evals import evaluations
from .scalars import lower_is_better
from .tables import as_markdown, number

NOISE = 1e-9


def stages_section(runs: Mapping[str, Path]) -> str:
    """A section of Markdown on the runs that form a chain in the order given; empty where none follows from another.

    A run follows from the one before it if the hash of the weights it started from is that of the other's model.

    Args:
        runs: name -> run directory.
    """
    chain = _chain(runs)
    if len(chain) < 2:
        return ""
    columns = {f"{chain[0]}, before": _final(runs[chain[0]], first=True), **{n: _final(runs[n]) for n in chain}}
    tags = sorted({tag for values in columns.values() for tag in values})
    rows = [[tag, *(number(values[tag]) if tag in values else "" for values in columns.values())] for tag in tags]
    links = [
        f"- {later} started from {earlier}'s model, sha256 {_facts(runs[later])['parent_sha256'][:12]}"
        for earlier, later in pairwise(chain)
    ]
    worse = [
        f"- {later}: {tag} {number(columns[earlier][tag])} -> {number(columns[later][tag])}"
        for earlier, later in pairwise(chain)
        for tag in tags
        if tag in columns[earlier] and tag in columns[later] and _fell(tag, columns[earlier][tag], columns[later][tag])
    ]
    told = "\n".join(["Where a stage made a metric worse:", *worse]) if worse else "No stage made a metric worse."
    table = as_markdown(("metric", *columns), rows)
    return f"\n# Stages\n\n{table}\n" + "\n".join(links) + f"\n\n{told}\n"


def _chain(runs: Mapping[str, Path]) -> list[str]:
    """The longest part of ``runs``, from some run on, in which each follows from the one before."""
    best: list[str] = []
    current: list[str] = []
    for name, folder in runs.items():
        parent = _facts(folder).get("parent_sha256")
        follows = current and parent is not None and parent == _facts(runs[current[-1]]).get("model_sha256")
        current = [*current, name] if follows else [name]
        best = max(best, current, key=len)
    return best


def _final(run: Path, first: bool = False) -> dict[str, float]:
    """task/metric -> value of the last (or first) evaluation of each task."""
    found = evaluations(run)
    latest = {e.task: e for e in (reversed(found) if first else found)}
    return {f"{e.task}/{name}": value for e in latest.values() for name, value in e.metrics.items()}


def _fell(tag: str, before: float, after: float) -> bool:
    return (after - before if lower_is_better(tag) else before - after) > NOISE


def _facts(run: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((run / "run.json").read_text("utf-8")))
    except (OSError, ValueError):
        return {}
