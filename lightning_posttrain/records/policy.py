"""What happens to rows that cannot be used: stop at the first, or leave out a limited number and say how many and why.

Works with any converter that raises UserError, in any room; an error with a true ``drop`` attribute marks a row that an
option asked to leave out, which is counted apart and never stops a run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..types import UserError
from .sources import Row, read_rows

T = TypeVar("T")
KEPT_MESSAGES = 5


@dataclass
class RowReport:
    """Counts of the rows used and left out, filled while rows are read.

    Args:
        on_bad_row: ``error`` stops at the first bad row, ``skip`` leaves it out and counts it.
        max_skip: most bad rows that may be skipped; one more stops the run.
        n_ok, n_skipped: rows used, and bad rows skipped.
        n_dropped: rows left out because an option says so (too long, for example); no limit.
        messages: the first few errors in full.
        reasons: what was wrong, without names and numbers -> how often.
    """

    on_bad_row: Literal["error", "skip"] = "error"
    max_skip: int = 100
    n_ok: int = 0
    n_skipped: int = 0
    n_dropped: int = 0
    messages: list[str] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    def accept(self, n: int = 1) -> None:
        """Count ``n`` usable rows."""
        self.n_ok += n

    def reject(self, error: UserError) -> None:
        """Count a row as left out.

        Raises:
            UserError: ``error`` itself under ``on_bad_row="error"``, or a summary above ``max_skip``.
        """
        drop = getattr(error, "drop", False)
        if not drop and self.on_bad_row == "error":
            raise error
        self.n_dropped += drop
        self.n_skipped += not drop
        if len(self.messages) < KEPT_MESSAGES:
            self.messages.append(str(error))
        reason = _reason(str(error))
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if self.n_skipped > self.max_skip:
            raise UserError(f"more than max_skip={self.max_skip} bad rows. {self}. Repair the data or raise max_skip.")

    def check_not_empty(self) -> None:
        """Raises UserError if no row was usable."""
        if not self.n_ok:
            raise UserError(f"no row is usable. {self}.")

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the counts of an earlier reading of the same rows, and holds them against this report's policy.

        Raises:
            UserError: that reading skipped more bad rows than this one may.
        """
        for name in ("n_ok", "n_skipped", "n_dropped", "messages", "reasons"):
            setattr(self, name, state[name])
        if self.n_skipped > (self.max_skip if self.on_bad_row == "skip" else 0):
            raise UserError(f"the cached data was made with bad rows skipped. {self}. Set on_bad_row and max_skip so.")

    def __str__(self) -> str:
        counts = f"{self.n_ok} rows used, {self.n_skipped} bad rows skipped, {self.n_dropped} dropped"
        reasons = "; ".join(f"{n} x {reason}" for reason, n in sorted(self.reasons.items(), key=lambda kv: -kv[1])[:3])
        return f"{counts} ({reasons}; first: {self.messages[0]})" if self.messages else counts


def collect(
    rows: str | Path | Iterable[tuple[Row, str]],
    convert: Callable[[Row, str], T],
    on_bad_row: Literal["error", "skip"] = "error",
    max_skip: int = 100,
) -> tuple[Iterator[T], RowReport]:
    """Convert rows one by one under a policy.

    Args:
        rows: a path as for ``read_rows`` (then unreadable lines fall under the policy, too), or (row, origin) pairs.
        convert: (row, origin) -> anything; raises UserError for a bad row.
        on_bad_row, max_skip: see RowReport.

    Returns:
        The converted rows, in order, and the report, complete once the rows are exhausted. The iterator raises
        UserError when a row is refused, or at its end when no row was usable.
    """
    report = RowReport(on_bad_row, max_skip)

    def converted() -> Iterator[T]:
        pairs = read_rows(rows, report.reject) if isinstance(rows, (str, Path)) else rows
        for row, origin in pairs:
            try:
                item = convert(row, origin)
            except UserError as error:
                report.reject(error)
                continue
            report.accept()
            yield item
        report.check_not_empty()

    return converted(), report


def _reason(message: str) -> str:
    """The kind of an error: its message without the origin, with names and numbers blanked."""
    text = re.sub(r"^.*?:\d+(:\d+)?: ", "", message, count=1)
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", text.split(". ")[0])
    return re.sub(r"\d+", "N", text)[:100]
