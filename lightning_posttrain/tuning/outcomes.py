"""How a trial's run ended: what it reached in every objective, or why it failed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..reports.evals import evaluations
from ..reports.scalars import Curve, read_curves
from ..types import UserError
from .settings import Objective

OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|CUDA out of memory|MemoryError|can't allocate memory|not enough memory|Cannot allocate memory"
)
NOT_FINITE = re.compile(r"^error: step \d+ .*the weights were (not updated|spoilt)")
COMMAND = "$ lightning-posttrain"
"""What the log has before every attempt."""
LONGEST = 300


@dataclass(frozen=True)
class Reached:
    """What a run reached in one objective."""

    value: float
    step: int
    """Optimizer step at which it was logged."""
    n: int | None = None
    """Examples of the evaluation; None of what is no evaluation."""
    stderr: float | None = None
    """Standard error over them."""


@dataclass(frozen=True)
class Outcome:
    """The end of a trial.

    Args:
        reached: of each objective, of a run that finished with all of them.
        reason: why there is no value; empty where there is one.
        unknown: the run finished, but never logged an objective, or not after it learned anything.
    """

    reached: tuple[Reached, ...] = ()
    reason: str = ""
    unknown: bool = False

    def notes(self) -> dict[str, Any]:
        """What is kept of it beside the values."""
        return {"reason": self.reason} if self.reason else {"reached": [asdict(one) for one in self.reached]}


def curves(run: Path) -> dict[str, Curve]:
    """What a run has logged so far, by tag."""
    try:
        return read_curves(str(run)).curves
    except UserError:  # nothing yet
        return {}


def outcome(run: Path, objectives: Sequence[Objective]) -> Outcome:
    """What a finished run reached: the last value of every objective.

    Args:
        run: its directory.
        objectives: of the study.
    """
    found = curves(run)
    reached = []
    for metric in (objective.metric for objective in objectives):
        steps, values = found.get(metric, ([], []))
        if not steps:
            near = get_close_matches(metric, found, 4, 0.3) or sorted(found)[:8]
            return Outcome(reason=f"the run logged no {metric}; it logged {', '.join(near) or 'nothing'}", unknown=True)
        if steps[-1] == 0:
            remedy = "have it measured at the end, by trainer.val_check_interval or an evaluation callback"
            return Outcome(reason=f"the run logged {metric} before its first step only; {remedy}", unknown=True)
        if not math.isfinite(values[-1]):
            return Outcome(reason=f"not finite: {metric}={values[-1]} at step {steps[-1]}")
        reached.append(Reached(values[-1], steps[-1], *_precision(run, metric, steps[-1])))
    return Outcome(tuple(reached))


def _precision(run: Path, metric: str, step: int) -> tuple[int | None, float | None]:
    """Examples and standard error of an evaluation's metric."""
    _, _, rest = metric.partition("eval/")
    for found in evaluations(run) if rest else []:
        name = rest.removeprefix(f"{found.task}/")
        if found.step == step and name != rest and name in found.metrics:
            return found.n, found.stderr.get(name)
    return None, None


def failure(log: Path, code: int) -> str:
    """Why a run failed, in one line: what its log says, and how it ended.

    Args:
        log: of the run, of all attempts.
        code: its exit code; -N when signal N ended it.
    """
    lines = _last_attempt(log)
    said = next((line for line in reversed(lines) if OUT_OF_MEMORY.search(line)), None)
    if said is not None:
        return f"out of memory: {said[:LONGEST]}"
    if code in (-9, 137):
        return "out of memory: killed by signal 9, as the kernel does when memory runs out"
    if code < 0 or code > 128:
        return f"ended by signal {-code if code < 0 else code - 128}"
    last = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "no output")
    kind = "not finite: " if NOT_FINITE.match(last) else f"exit code {code}: "
    return f"{kind}{last.removeprefix('error: ')[:LONGEST]}"


def _last_attempt(log: Path) -> list[str]:
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return [line.strip() for line in text.rpartition(COMMAND)[2].splitlines()[1:] if line.strip()]
