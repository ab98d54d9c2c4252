"""Jobs -> bytes for a worker, and what a worker saw of a snippet -> `Outcome`.

What a snippet wrote is read with suspicion: any bytes give an outcome, none raise.
"""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..types import UserError
from .jobs import LANGUAGES, STATUSES, Job, Outcome, SandboxSpec, Stage, Status, Table

MARKS: dict[str, Stage] = {"r": "none", "p": "parses", "g": "gate_ok", "b": "builds", "e": "executes"}
RESERVED = {"ibis", "con", "_", "result"}
ERROR_LENGTH = 500


class TablesRefused(Exception):
    """A worker could not create the tables of a job: the mistake of whoever made them."""


class NotReached(Exception):
    """A process ended before the first line of its snippet: the worker's failure."""


class Message(NamedTuple):
    """A job for a worker: its tables and the digests of its databases, which many jobs share, and the rest."""

    tables: bytes
    databases: tuple[str, ...]
    job: bytes


def encode(jobs: Sequence[Job], gate: bool) -> list[Message]:
    """Each job as a message; equal jobs give equal messages.

    Raises:
        UserError: a job is not what its class says.
    """
    tables: dict[int, str] = {}
    together: dict[tuple[int, ...], bytes] = {}
    messages = []
    for number, job in enumerate(jobs):
        for table in job.tables:
            if id(table) not in tables:
                tables[id(table)] = _table(table)
        key = tuple(id(table) for table in job.tables)
        if key not in together:
            together[key] = f"[{', '.join(tables[part] for part in key)}]".encode()
        names = [table.name for table in job.tables]
        if job.language not in LANGUAGES or len(set(names)) < len(names):
            raise UserError(f"sandbox: job {number}: language {job.language!r}, tables {names}; names must differ")
        if (job.language == "sqlite") != bool(job.databases) or (job.databases and job.tables):
            raise UserError(f"sandbox: job {number}: databases belong to the language sqlite, tables to the others")
        rest = {"code": job.code, "language": job.language, "prelude": list(job.prelude), "gate": gate}
        rest["max_steps"] = [database.max_steps for database in job.databases]
        try:
            text = json.dumps(rest)
        except (TypeError, ValueError) as error:
            raise UserError(f"sandbox: job {number}: {error}; code and prelude are text") from error
        messages.append(Message(together[key], tuple(one.digest for one in job.databases), text.encode()))
    return messages


def images(jobs: Sequence[Job]) -> dict[str, bytes]:
    """The databases of jobs by their digests."""
    return {database.digest: database.image for job in jobs for database in job.databases}


def _table(table: Table) -> str:
    if not table.name or table.name in RESERVED or not table.columns:
        raise UserError(f"sandbox: table {table.name!r} with columns {table.columns}; a table needs a name of its own")
    for row in table.rows:
        if len(row) != len(table.columns):
            raise UserError(f"sandbox: table {table.name}: row {row!r} has {len(row)} values, not {len(table.columns)}")
    try:
        return json.dumps({"name": table.name, "columns": table.columns, "rows": table.rows}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"sandbox: table {table.name}: {error}; values are JSON, dates are ISO text") from error


def decode(header: dict[str, Any], written: bytes, spec: SandboxSpec) -> Outcome:
    """What became of a snippet.

    Args:
        header: what its worker saw of its process.
        written: what the process wrote, in whole or until it was stopped.
        spec: the limits it ran under.

    Raises:
        TablesRefused, NotReached: nothing of the snippet was run.
    """
    if "tables" in header:
        raise TablesRefused(header["tables"])
    if written[:1] != b"r":
        raise NotReached(f"a process ended with code {header['code']} before its snippet began")
    marks, brace, rest = written.partition(b"{")
    letters = marks.decode("latin-1").replace("n", "")
    stage = MARKS.get(letters[-1:], "none")
    spent = {"used_pandas": b"n" in marks, "seconds": header["seconds"], "max_rss_bytes": header["rss"]}
    status, words = _ending(header, spec, bool(brace))
    if status == "ok" and letters not in ("r", "rp", "rpg", "rpgb", "rpgbe"):
        status, words = "bad_result", "the answer cannot be read"
    if status != "ok":
        return Outcome(status, stage, error=words, **spent)
    found = _parsed(brace + rest)
    if isinstance(found, str):
        return Outcome("bad_result", stage, error_class="BadResult", error=found, **spent)
    return _outcome(found, stage, spent, spec.max_rows)


def _ending(header: dict[str, Any], spec: SandboxSpec, answered: bool) -> tuple[Status, str]:
    """The status that the end of the process gives, "ok" if it ended in order with an answer, and why."""
    if header["end"] == "timeout":
        return "timeout", f"killed after {spec.wall_seconds:g} s"
    if header["end"] == "flood":
        return "output_limit", f"wrote more than {spec.output_bytes} bytes"
    code = header["code"]
    if code >= 0:
        return ("ok", "") if answered and code == 0 else ("exit", f"ended its process with code {code}")
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and header["cpu"] >= math.ceil(spec.cpu_seconds)):
        return "timeout", f"killed after {math.ceil(spec.cpu_seconds)} s of CPU time"
    if code == -signal.SIGKILL:
        return "oom", "killed from outside"  # not by its worker: by the kernel, when memory is short
    return "crash", f"killed by {signal.Signals(-code).name}"


def _parsed(payload: bytes) -> dict[str, Any] | str:
    """The answer that a snippet's process wrote, or what is wrong with it."""
    try:
        found = json.loads(payload, parse_constant=_no_constant)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # lone surrogates, numbers beyond a float
    except (ValueError, RecursionError, MemoryError) as error:
        return f"the answer cannot be read: {str(error)[:200]}"
    if not isinstance(found, dict) or found.get("status") not in STATUSES:
        return "the answer has no status"
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _outcome(found: dict[str, Any], stage: Stage, spent: dict[str, Any], max_rows: int) -> Outcome:
    deferred = found.get("deferred") is True
    if (parts := found.get("parts")) is not None:
        return _several(parts, stage, spent, max_rows)
    if found["status"] != "ok":
        words = [found.get(key) for key in ("error_class", "error")]
        name, error = (word[:ERROR_LENGTH] if isinstance(word, str) else None for word in words)
        stage = "parses" if found["status"] == "refused" else stage
        return Outcome(found["status"], stage, error_class=name, error=error, deferred=deferred, **spent)
    columns, rows = found.get("columns"), found.get("rows")
    if stage != "executes" or not _is_table(columns, rows) or len(rows or ()) > max_rows:
        return Outcome("bad_result", stage, error_class="BadResult", error="the answer is no table", **spent)
    names = tuple((name, kind) for name, kind in columns or ())
    return Outcome("ok", "executes", names, tuple(tuple(row) for row in rows or ()), deferred=deferred, **spent)


def _several(parts: Any, stage: Stage, spent: dict[str, Any], max_rows: int) -> Outcome:
    """The outcome of a query on several databases."""
    if not isinstance(parts, list) or not parts or not all(_is_part(part) for part in parts):
        return Outcome("bad_result", stage, error_class="BadResult", error="the answer has no parts", **spent)
    outcomes = [_outcome(part, "executes" if part["status"] == "ok" else stage, spent, max_rows) for part in parts]
    whole = next((outcome for outcome in outcomes if outcome.status != "ok"), outcomes[0])
    return replace(whole, parts=tuple(outcomes))


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and "parts" not in part and part.get("status") in STATUSES


def _is_table(columns: Any, rows: Any) -> bool:
    pairs = isinstance(columns, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(word, str) for word in pair) for pair in columns
    )
    return pairs and isinstance(rows, list) and all(isinstance(row, list) and len(row) == len(columns) for row in rows)
