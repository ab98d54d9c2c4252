"""A worker: imports everything once, gives up its rights, then forks a process for every snippet and watches it.

It is started as a fresh program, never forked from the trainer, so it holds none of the trainer's memory. It speaks
with the trainer over one socket. It trusts its own process until the snippet's first line runs, and nothing after.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import frames, lockdown, seccomp
from .syscalls import Machine, machine
from .watch import SLACK, Trainer, Watch


@dataclass
class Boot:
    """What a worker knows once it has started."""

    spec: dict[str, Any]
    con: Any
    machine: Machine | None
    abi: int
    null: int
    statm: int
    mechanisms: dict[str, str]
    filter_: bytes = b""
    tables: bytes = b"[]"
    setting: Any = None
    databases: dict[str, Any] = field(default_factory=dict)

    def address_space(self) -> int:
        """Bytes of this process. The file was opened while files could be."""
        return int(os.pread(self.statm, 100, 0).split()[0]) * os.sysconf("SC_PAGESIZE")


def main(handle: int) -> None:
    """Serve until the trainer is gone."""
    sock = socket.socket(fileno=handle)
    parent = os.getppid()
    spec = json.loads(frames.receive(sock) or b"null")
    if spec is None or spec["trainer"] != parent:
        return
    trainer = Trainer(sock, parent)
    boot = start(spec)
    frames.send(sock, json.dumps({"mechanisms": boot.mechanisms}).encode())
    while (tables := trainer.message()) is not None:
        told = json.loads(frames.receive(sock) or b"{}")
        images = {digest: frames.receive(sock) or b"" for digest in told["new"]}
        job = frames.receive(sock)
        if job is None:
            return
        problem = prepare(boot, tables) or hold(boot, images, told["forget"])
        databases = [boot.databases[digest] for digest in told["use"]] if not problem else []
        header, written = ({"tables": problem}, b"") if problem else serve(boot, job, databases, trainer)
        frames.send(sock, json.dumps(header).encode())
        frames.send(sock, written)


def start(spec: dict[str, Any]) -> Boot:
    """Import, warm up, lock down. Namespaces first: they are refused to a process that has threads."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # rather this than the training
    without = spec["without"]
    namespaces = lockdown.unshare() if "namespaces" not in without else "switched off"
    from . import database, snippet

    con = database.connect(spec["memory_mb"] // 2)
    _warm_up(con, snippet, database)
    null, statm = os.open("/dev/null", os.O_RDWR), os.open("/proc/self/statm", os.O_RDONLY)
    boot = Boot(spec, con, machine() if "seccomp" not in without else None, 0, null, statm, {})
    os.chdir("/")
    privileges = lockdown.no_new_privileges()
    capabilities = lockdown.drop_capabilities(machine())
    abi = lockdown.landlock_abi() if "landlock" not in without else 0
    if abi and lockdown.landlock(abi, lockdown.python_folders()):
        boot.abi = abi
    if boot.machine is not None:
        boot.filter_ = seccomp.program(boot.machine, may_open=boot.abi > 0)
    boot.mechanisms |= {
        "landlock": f"ABI {boot.abi}" if boot.abi else "no",
        "seccomp": "yes" if boot.machine is not None and privileges else "no",
        "namespaces": namespaces,
        "capabilities dropped": capabilities,
    }
    lockdown.hide_from_debuggers()
    os.dup2(null, 2)  # nobody reads what comes after the start
    prepare(boot, b"[ ]")
    gc.collect()
    gc.freeze()  # or the first collection of every snippet would copy all of this
    return boot


def _warm_up(con: Any, snippet: Any, database: Any) -> None:
    """Run what every snippet runs, so that its imports and caches are there before files are out of reach."""
    tables = [{"name": "warm", "columns": [("k", "string"), ("x", "int64"), ("d", "date"), ("f", "float64")],
               "rows": [["a", 1, "2024-01-01", 1.5], ["b", None, None, None]]}]  # fmt: skip
    database.load(con, tables)
    for kind in ("int8", "int16", "int32", "float32", "boolean", "time", "timestamp", "timestamp('UTC')"):
        database.sql_type(kind)
    import ibis

    from . import sqlite

    warm = con.table("warm")
    grouped = warm.filter(warm.x > 0).group_by("k").agg(s=warm.x.sum(), m=warm.f.mean()).order_by(ibis.desc("s"))
    ranked = warm.mutate(r=ibis.row_number().over(group_by="k", order_by=ibis._.x), y=ibis._.d.year())
    for expr in (grouped, ranked, warm.join(grouped, "k"), warm.x.sum(), ibis.memtable({"a": [1]}), warm.f):
        snippet.results.run(con, expr, 10)
        expr.execute()
    con.con.execute("SELECT now() AT TIME ZONE 'UTC', current_date, 'x' ~ 'y', TIMESTAMPTZ '2024-01-01'").fetchall()
    sqlite.warm_up()
    for value in (1, 1.5, "a", True, warm.execute()):
        snippet.results.answer(con, value, database.Executed(), 10)
    del expr, value
    gc.collect()  # Ibis unregisters a frame when nothing refers to it
    database.unload(con)


def prepare(boot: Boot, tables: bytes) -> str:
    """Put the tables of a job in the place of the last one's, unless they are the same; what is wrong with them.

    Done here, where nothing of a snippet has ever run, so that the completions of a prompt share the work.
    """
    from . import database, snippet

    if tables == boot.tables:
        return ""
    boot.tables = b""
    try:
        database.unload(boot.con)
        parsed = json.loads(tables)
        database.load(boot.con, parsed)
        names = [table["name"] for table in parsed]
        variables = database.variables(boot.con, names)
    except Exception as error:
        return str(error)[:2000] or type(error).__name__
    boot.setting = snippet.Setting(boot.con, names, variables, boot.spec["max_rows"], boot.spec["output_bytes"])
    boot.tables = tables
    return ""


def hold(boot: Boot, images: dict[str, bytes], forget: list[str]) -> str:
    """Open databases that are new, and close those that have to go; what is wrong with one."""
    from . import sqlite

    for digest in forget:
        boot.databases.pop(digest).close()
    try:
        boot.databases |= {digest: sqlite.opened(image) for digest, image in images.items()}
    except sqlite.sqlite3.Error as error:
        return f"a database: {error}"
    return ""


def serve(boot: Boot, job: bytes, databases: list[Any], trainer: Trainer) -> tuple[dict[str, Any], bytes]:
    """Run one job: what happened to its process, and what it wrote."""
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become_snippet(boot, job, databases, writer, parent)
        finally:
            os._exit(70)
    os.close(writer)
    try:
        return Watch(pid, reader, boot.spec["wall_seconds"], boot.spec["output_bytes"] + SLACK).follow(trainer)
    finally:
        os.close(reader)


def _become_snippet(boot: Boot, message: bytes, databases: list[Any], writer: int, parent: int) -> None:
    from . import snippet

    os.setsid()
    lockdown.die_with_parent(parent)
    memory = boot.address_space() + boot.spec["memory_mb"] * 2**20
    for stream in (0, 1, 2):
        os.dup2(boot.null, stream)
    os.dup2(writer, 3)
    os.closerange(4, 65536)
    job = json.loads(message)
    _give_up(boot, memory)
    os.write(3, b"r")
    snippet.finish(3, snippet.run(boot.setting, job, databases, lambda letter: os.write(3, letter.encode())))


def _give_up(boot: Boot, memory: int) -> None:
    """The last rights of a snippet's process: another layer of Landlock, limits, and the filter of system calls."""
    if boot.abi and not lockdown.landlock(boot.abi, None):
        raise OSError("Landlock")
    lockdown.hide_from_debuggers()
    lockdown.limit(memory, math.ceil(boot.spec["cpu_seconds"]), may_fork=boot.machine is None)
    if boot.machine is not None:
        seccomp.install(lockdown.libc, seccomp.addressed(boot.filter_, os.getpid()))


if __name__ == "__main__":
    sys.exit("started by lightning_posttrain.sandbox.Sandbox only")
