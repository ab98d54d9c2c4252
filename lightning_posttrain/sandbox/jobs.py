"""What goes into the sandbox and what comes out, and how much of everything a snippet may use.

Values are JSON: text, numbers, booleans, null, lists and objects. Dates, times and timestamps are ISO text, decimals
and UUIDs text, bytes hexadecimal text, intervals ISO durations in seconds ("PT90S"). In a column of floats "NaN",
"Infinity" and "-Infinity" are those numbers, and null is null. Only in a frame that the snippet executed itself,
where pandas has made one of them, NaN is given as null. SQLite's blobs are objects ``{"blob": base64}``, its infinities
``{"real": "Infinity"}``.

Nothing here runs anything, and nothing here compares results: what an outcome is worth is a task's business.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

from ..types import UserError

Language = Literal["ibis", "sql", "sqlite"]
Status = Literal["ok", "refused", "error", "timeout", "oom", "crash", "exit", "output_limit", "bad_result"]
Stage = Literal["none", "parses", "gate_ok", "builds", "executes"]
Protection = Literal["strict", "files"]

LANGUAGES: tuple[str, ...] = get_args(Language)
STATUSES: tuple[str, ...] = get_args(Status)
STAGES: tuple[str, ...] = get_args(Stage)
PROTECTIONS: tuple[str, ...] = get_args(Protection)


class SandboxFault(UserError):
    """The sandbox itself failed: a worker cannot start or keeps dying, or the isolation asked for is not there.

    Never a verdict on a snippet. It was retried before it is raised, and the message gives the reason.
    """


@dataclass(frozen=True)
class Table:
    """A table that a snippet may read.

    Args:
        name: of the table, and of the variable it is bound to.
        columns: pairs of column and Ibis type, such as "int64", "string", "date" or "decimal(10,2)".
        rows: JSON values, one per column; dates and timestamps are ISO text, None is null.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Database:
    """A database of SQLite that a query may read.

    Args:
        image: the bytes of its file. A worker keeps those that it had last, so share one object among jobs.
        max_steps: instructions of SQLite's machine for one query on it, more is "timeout"; None = limited by time only.
    """

    image: bytes
    max_steps: int | None = None

    @cached_property
    def digest(self) -> str:
        return hashlib.blake2b(self.image, digest_size=16).hexdigest()


@dataclass(frozen=True)
class Job:
    """One snippet to run.

    Args:
        code: the snippet.
        tables: what it may read.
        language: "ibis" = Python with Ibis, "sql" = one DuckDB query, "sqlite" = one SQLite query.
        prelude: earlier blocks of Python, executed first in the same namespace; one that fails is ignored.
        databases: in the place of tables for "sqlite": the query is run on each of them, one after the other.
    """

    code: str
    tables: tuple[Table, ...] = ()
    language: Language = "ibis"
    prelude: tuple[str, ...] = ()
    databases: tuple[Database, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a snippet.

    Args:
        status: "ok", or what went wrong. "refused": not allowed here. "error": it raised. "timeout": too long, by the
            clock or by CPU time. "oom": too much memory. "crash": killed by a signal. "exit": it ended its process.
            "output_limit": more rows or bytes than allowed. "bad_result": nothing that can be read as a result.
        stage: the furthest that it passed. "builds": Python ran to its end, or the query was bound to the tables.
        columns: pairs of name and Ibis type ("unknown" with SQLite, whose values have types, not its columns).
        rows: in the order they came, one value per column.
        parts: with "sqlite", what became of the query on each of its databases; None where its process was ended. The
            rest is then that of the first part that is not "ok", or of the first.
        error_class: name of the exception.
        error: its message, shortened.
        deferred: an Ibis expression existed before anything was executed.
        used_pandas: the snippet imports pandas or numpy.
        seconds: from the first line of the snippet to the end of its process.
        max_rss_bytes: largest memory of that process, with what it shares with the worker.
    """

    status: Status
    stage: Stage
    columns: tuple[tuple[str, str], ...] | None = None
    rows: tuple[tuple[Any, ...], ...] | None = None
    parts: tuple[Outcome, ...] | None = None
    error_class: str | None = None
    error: str | None = None
    deferred: bool = False
    used_pandas: bool = False
    seconds: float = 0.0
    max_rss_bytes: int = 0


@dataclass(frozen=True)
class Protections:
    """What was found to hold before the first snippet ran.

    Args:
        level: "strict": every probe was stopped. "files": at least reading and writing files and using up memory
            were. "none": less than that.
        probes: what was tried -> True if it was stopped.
        mechanisms: what is in use -> a word about it.
    """

    level: Literal["strict", "files", "none"]
    probes: dict[str, bool]
    mechanisms: dict[str, str]

    def record(self) -> dict[str, Any]:
        """For the files of a run."""
        return {"level": self.level, "probes": dict(self.probes), "mechanisms": dict(self.mechanisms)}

    def __str__(self) -> str:
        open_ = [name for name, held in self.probes.items() if not held]
        words = ", ".join(f"{name} {value}" for name, value in self.mechanisms.items())
        return f"{self.level} ({words}{'; not stopped: ' + ', '.join(open_) if open_ else ''})"


@dataclass
class SandboxSpec:
    """How snippets run.

    Args:
        workers: processes that run snippets, one at a time each.
        wall_seconds: time for one snippet. One that had to wait for a busy machine gets up to four times as long, until
            it has computed for four fifths of it.
        cpu_seconds: CPU time for one snippet, rounded up to whole seconds.
        memory_mb: address space for one snippet beyond what a worker has; DuckDB itself gets half of it.
        max_rows: rows of a result; more is "output_limit".
        output_bytes: size of a result as JSON; more is "output_limit".
        min_protection: isolation without which nothing is run. "strict" = files, network, processes, signals and
            memory; "files" = files and memory are enough.
        allow_unsafe_execution: run snippets even without that isolation. They can then do whatever you can do.
    """

    workers: int = 2
    wall_seconds: float = 2.0
    cpu_seconds: float = 2.0
    memory_mb: int = 1024
    max_rows: int = 10_000
    output_bytes: int = 1_000_000
    min_protection: Protection = "strict"
    allow_unsafe_execution: bool = False

    def __post_init__(self) -> None:
        lowest = {"workers": 1, "memory_mb": 128, "max_rows": 1, "output_bytes": 1024}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in lowest and not (isinstance(value, int) and value >= lowest[field.name]):
                raise UserError(
                    f"sandbox: {field.name}={value!r}; give a whole number of at least {lowest[field.name]}"
                )
            if field.name.endswith("_seconds") and not 0 < value < math.inf:
                raise UserError(f"sandbox: {field.name}={value!r}; give seconds above 0")
        if self.min_protection not in PROTECTIONS:
            raise UserError(f"sandbox: min_protection={self.min_protection!r}; give one of {', '.join(PROTECTIONS)}")
