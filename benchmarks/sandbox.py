"""Snippets per second and latencies of the sandbox, for Ibis and SQL, with 1 and 2 workers, with and without hangs.

Beside it stands a fresh Python process per snippet that imports the same and isolates nothing, in the same minutes.

A batch is what a step of reinforcement learning makes: groups of completions over the tables of their prompt. Every
snippet differs, so none is saved by being the same as another. The first batch of each setting is not counted. Latency
is that of one snippet run alone, with everything that its caller waits for.

    python benchmarks/sandbox.py [--snippets 64] [--rounds 3]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from lightning_posttrain.sandbox import Job, Sandbox, SandboxSpec, Table

ROWS, GROUP, HANGING = 200, 8, 0.05
COLUMNS = (("id", "int64"), ("shop", "string"), ("amount", "float64"), ("day", "date"))
CODE = {
    "ibis": (
        "sales.filter(_.amount > {n}).group_by('shop').agg(total=_.amount.sum(), n=_.count()).order_by('shop')",
        "top = sales.mutate(r=ibis.row_number().over(group_by='shop', order_by=_.amount.desc()))\n"
        "result = top.filter(_.r < 3).select('shop', 'amount', x={n})",
        "sales.join(shops, 'shop').group_by('city').agg(last=_.day.max(), n=_.id.nunique() + {n})",
    ),
    "sql": (
        "SELECT shop, sum(amount), count(*) FROM sales WHERE amount > {n} GROUP BY 1 ORDER BY 1",
        "SELECT shop, amount, {n} FROM sales QUALIFY row_number() OVER (PARTITION BY shop ORDER BY amount DESC) < 4",
        "SELECT city, max(day), count(DISTINCT id) + {n} FROM sales JOIN shops USING (shop) GROUP BY 1",
    ),
}
FRESH = {
    "ibis": "import ibis\nt = ibis.memtable({'a': [1], 'b': ['x']})\nt.group_by('b').agg(s=t.a.sum()).execute()",
    "sql": "import duckdb\nduckdb.sql('SELECT b, sum(a) FROM (VALUES (1, 2)) t(a, b) GROUP BY 1').fetchall()",
}
HANG = {
    "ibis": "while {n} < 10**9: pass",
    "sql": "WITH RECURSIVE t AS (SELECT {n} AS x UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t",
}

counter = itertools.count()


def tables(seed: int) -> tuple[Table, ...]:
    rows = tuple((i, f"s{i * seed % 7}", i * seed % 1000 / 10, f"2024-01-{1 + i % 28:02}") for i in range(ROWS))
    shops = tuple((f"s{i}", f"city {i % 3}") for i in range(7))
    return Table("sales", COLUMNS, rows), Table("shops", (("shop", "string"), ("city", "string")), shops)


def batch(language: Any, size: int, hanging: float = 0.0) -> list[Job]:
    """Jobs in groups that share their tables; every so many of them hangs."""
    every = round(1 / hanging) if hanging else size + 1
    jobs = []
    for i in range(size):
        if i % GROUP == 0:
            given = tables(next(counter) + 1)
        n = next(counter)
        code = HANG[language] if i % every == every - 1 else CODE[language][i % 3]
        jobs.append(
            Job(code.format(n=n % 50 + n / 1e6 if "{n}" in code and language == "ibis" else n), given, language)
        )
    return jobs


def throughput(sandbox: Sandbox, language: str, size: int, rounds: int, hanging: float) -> dict[str, float]:
    """Median over rounds."""
    rates, spent = [], []
    for i in range(rounds + 1):
        jobs = batch(language, size, hanging)
        start, before = time.perf_counter(), cpu_seconds()
        outcomes = sandbox.run(jobs)
        seconds, cpu = time.perf_counter() - start, cpu_seconds() - before
        bad = sum(outcome.status != "ok" for outcome in outcomes)
        assert bad == (int(size * hanging) if hanging else 0), outcomes
        if i:
            rates.append(size / seconds)
            spent.append(1000 * cpu / size)
    cpu_ms = {} if hanging else {"cpu_ms": round(statistics.median(spent), 1)}
    return {"per_second": round(statistics.median(rates), 1), **cpu_ms}


def cpu_seconds() -> float:
    """CPU time of the workers and of the snippets that they have run; other programs on the machine do not count."""
    times = [process.cpu_times() for process in psutil.Process().children()]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def fresh(language: str, rounds: int) -> dict[str, float]:
    """Of a whole process per snippet, one at a time; the first is not counted."""
    seconds = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", FRESH[language]], check=True)
        seconds.append(1000 * (time.perf_counter() - start))
    return {"p50_ms": round(statistics.median(seconds[1:]), 1)}


def latency(sandbox: Sandbox, language: str, size: int) -> dict[str, float]:
    """Of snippets one at a time."""
    seconds = []
    for job in batch(language, size):
        start = time.perf_counter()
        sandbox.run([job])
        seconds.append(1000 * (time.perf_counter() - start))
    cuts = statistics.quantiles(seconds, n=20)
    return {"p50_ms": round(statistics.median(seconds), 1), "p95_ms": round(cuts[-1], 1)}


def measure(size: int, rounds: int, wall_seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Results by language and number of workers, and what was active."""
    results: dict[str, Any] = {"ibis": {}, "sql": {}}
    for workers in (1, 2):
        start = time.perf_counter()
        with Sandbox(SandboxSpec(workers=workers, wall_seconds=wall_seconds)) as sandbox:
            protections = sandbox.protections.record()
            results[f"start_seconds_{workers}_workers"] = round(time.perf_counter() - start, 2)
            for language in ("ibis", "sql"):
                found: dict[str, Any] = throughput(sandbox, language, size, rounds, 0.0)
                found |= {"with_hangs": throughput(sandbox, language, size, 1, HANGING)}
                if workers == 1:
                    found |= latency(sandbox, language, size)
                    results[language]["fresh_process"] = peer = fresh(language, rounds)
                    results[language]["fresh_process_by_sandbox"] = round(peer["p50_ms"] / found["p50_ms"], 1)
                results[language][f"{workers}_workers"] = found
                print(language, workers, found, flush=True)
    return results, protections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snippets", type=int, default=64, help="of a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wall-seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sandbox.json")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    results, protections = measure(args.snippets, args.rounds, args.wall_seconds)
    about = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": round(load, 1),
        "versions": {name: version(name) for name in ("duckdb", "ibis-framework", "sqlglot")},
        "snippets": args.snippets,
        "rounds": args.rounds,
        "wall_seconds": args.wall_seconds,
        "rows_per_table": ROWS,
        "snippets_that_share_tables": GROUP,
        "protections": protections,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"about": about, **results}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
