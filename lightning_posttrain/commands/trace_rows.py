"""From completions to the rows of `traces`: which attempt wins, what a problem without one keeps, and the counts.

Nothing here knows where completions come from or where rows go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..tasks.base import Task
from ..types import Completion, Record, UserError
from .trace_file import Row


@dataclass(frozen=True, slots=True)
class Problem:
    """One row of the data: its number, counted from 0, its columns, and what the task reads from them."""

    number: int
    row: Mapping[str, Any]
    record: Record


Draw = Callable[[Sequence[Problem], int], Sequence[Completion]]
"""(problems, attempt) -> one completion each, which must not depend on the other problems."""

Check = Callable[[Record], object]
"""Raises UserError for a record that could not be trained."""


def solve(
    problems: Sequence[Problem], draw: Draw, task: Task, max_attempts: int, check: Check = lambda record: None
) -> list[Row]:
    """A row for each problem, in order.

    A completion wins that the task calls right (its primary metric reaches 1), whose reasoning is found, may be
    trained, and is not the original's. ``attempts`` is the number of the winning one, or ``max_attempts``;
    ``format_miss`` and ``identical`` count right completions that did not win.

    Args:
        problems: rows and records of ``task``.
        draw: gives the completions.
        task: what is right, and how a completion becomes an answer.
        max_attempts: completions drawn for a problem before it keeps its original answer.
        check: see `Check`.
    """
    answers: dict[int, tuple[str, int]] = {}
    missed: dict[int, Counter[str]] = {p.number: Counter() for p in problems}
    left = list(problems)
    for attempt in range(max_attempts):
        if not left:
            break
        for problem, completion in zip(left, draw(left, attempt), strict=True):
            answer, reason = _judge(problem, completion, task, check)
            missed[problem.number][reason] += 1
            if answer is not None:
                answers[problem.number] = answer, attempt + 1
        left = [p for p in left if p.number not in answers]
    rows = []
    for problem in problems:
        answer, attempts = answers.get(problem.number, (problem.row["answer"], max_attempts))
        source = "generated" if problem.number in answers else "original"
        row = {"id": problem.record.id, "question": problem.row["question"], "answer": answer, "source": source}
        counts = {name: missed[problem.number][name] for name in ("format_miss", "identical")}
        rows.append({**row, "attempts": attempts, **counts})
    return rows


def _judge(problem: Problem, completion: Completion, task: Task, check: Check) -> tuple[str | None, str]:
    """The answer that a completion makes, or None and why it makes none."""
    if task.score(problem.record, completion).values[task.primary] < 1:
        return None, "wrong"
    answer = task.trace(problem.record, completion)
    if answer is None:
        return None, "format_miss"
    try:
        record = task.record({**problem.row, "answer": answer}, problem.record.origin)
        check(record)
    except UserError:  # training would refuse the row
        return None, "format_miss"
    return (None, "identical") if record.answer == problem.record.answer else (answer, "")


def statistics(rows: Sequence[Row]) -> dict[str, float | None]:
    """Counts and rates of the rows of `solve`; a problem without a trace took all its attempts.

    ``avg_attempts_for_successes`` is None where there is none; ``format_miss`` and ``identical`` count completions.
    """
    tries = [row["attempts"] for row in rows if row["source"] == "generated"]
    return {
        "total_samples": len(rows),
        "grpo_successes": len(tries),
        "fallback_count": len(rows) - len(tries),
        "success_rate": len(tries) / len(rows),
        "avg_attempts_for_successes": sum(tries) / len(tries) if tries else None,
        "avg_attempts_overall": sum(row["attempts"] for row in rows) / len(rows),
        "format_miss": sum(row["format_miss"] for row in rows),
        "identical": sum(row["identical"] for row in rows),
    }
