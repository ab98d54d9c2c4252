"""`tasks`: what can be trained and evaluated by name."""

from __future__ import annotations

import inspect


def tasks() -> None:
    """List the tasks and the metric that ranks models on each."""
    from ..tasks.registry import TASKS

    rows = [
        (name, task.__name__, task.primary, (inspect.getdoc(task) or "").split("\n")[0].replace("``", ""))
        for name, task in sorted(TASKS.items())
    ]
    rows.insert(0, ("task", "class_path", "ranked by", "what it asks"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))
