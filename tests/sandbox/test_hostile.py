"""Everything in `hostile`, with the gate and without: nothing gets out, nothing stays, the next snippet is right."""

import os
import sqlite3
import time
from contextlib import closing

import pytest

from lightning_posttrain.sandbox import Database, Job, Outcome, Sandbox, SandboxSpec
from tests.conftest import HANGS

from . import hostile
from .conftest import NUMBERS, SECRET, Bait, orphans, workers_of

LIMITS = {"memory_mb": 512, "wall_seconds": HANGS, "cpu_seconds": HANGS, "max_rows": 1000, "output_bytes": 200_000}
SHORT = {**LIMITS, "wall_seconds": 0.5, "cpu_seconds": 1.0}
"""For what never ends by itself, or only after very long."""
HANGING = ("hangs", "sql_hangs", "sqlite_hangs")
ENDLESS = {*(name for group in HANGING for name in hostile.GROUPS[group]), "stack", "sql_lpad"}
EVERY = 20


def image() -> Database:
    """The table of numbers as a database of SQLite."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE numbers (x INTEGER, name TEXT)")
        db.executemany("INSERT INTO numbers VALUES (?, ?)", NUMBERS.rows)
        db.commit()
        return Database(db.serialize())


DATABASE = image()


def job(code: str, name: str) -> Job:
    if name.startswith("lite_"):
        return Job(code, language="sqlite", databases=(DATABASE,))
    return Job(code, (NUMBERS,), "sql" if name.startswith("sql_") else "ibis")


def run_all(bait: Bait, prefix: str, gate: bool, groups: tuple[str, ...], workers: int = 1) -> dict[str, Outcome]:
    """Outcomes of hostile snippets by name, those that never end in a sandbox with short limits."""
    snippets = {name: code for group in groups for name, code in hostile.GROUPS[group].items()}
    outcomes: dict[str, Outcome] = {}
    for limits, endless in ((LIMITS, False), (SHORT, True)):
        chosen = {name: code for name, code in snippets.items() if (name in ENDLESS) == endless}
        if not chosen:
            continue
        with Sandbox(SandboxSpec(workers=workers, **limits)) as sandbox:
            assert sandbox.protections.level == "strict"
            outcomes |= run(sandbox, bait, prefix, gate, chosen)
            assert not any(worker.children() for worker in workers_of(os.getpid()))
    return outcomes


def run(sandbox: Sandbox, bait: Bait, prefix: str, gate: bool, snippets: dict[str, str]) -> dict[str, Outcome]:
    """Outcomes of hostile snippets by name; after some of them a benign one runs and has to be right."""
    jobs = [job(bait.place(prefix + name, code), name) for name, code in snippets.items()]
    outcomes = []
    for i in range(0, len(jobs), EVERY):
        outcomes += sandbox.run(jobs[i : i + EVERY], _gate=gate)
        for good in (job(f"numbers.x.sum() + {i}", ""), job(f"SELECT sum(x) + {i} FROM numbers", "lite_")):
            (after,) = sandbox.run([good])
            while after.status == "timeout" and sandbox.spec.wall_seconds < HANGS:  # says how busy the machine is
                (after,) = sandbox.run([good])
            assert after.rows == ((6 + i,),), (jobs[i : i + EVERY], after)
    return dict(zip(snippets, outcomes, strict=True))


def problems(outcomes: dict[str, Outcome], bait: Bait, prefix: str) -> list[str]:
    """Snippets that ended well, told the secret or left a trace."""
    return [
        f"{name}: {outcome}"
        for name, outcome in outcomes.items()
        if outcome.status == "ok" or SECRET in repr(outcome) or not bait.untouched(prefix + name)
    ]


@pytest.fixture(scope="module")
def bare(bait: Bait) -> dict[str, Outcome]:
    """Every hostile snippet without the gate: only the walls of the operating system are left."""
    outcomes = run_all(bait, "bare_", False, tuple(hostile.GROUPS), workers=2)
    assert not workers_of(os.getpid())
    return outcomes


def test_the_walls_hold_without_the_gate(bare: dict[str, Outcome], bait: Bait):
    assert len(bare) >= 200
    assert not problems(bare, bait, "bare_")
    assert bait.unheard()


def test_nothing_outlives_its_snippet(bare: dict[str, Outcome]):
    end = time.monotonic() + HANGS
    while orphans():
        assert time.monotonic() < end, orphans()
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("status", "names"),
    [
        ("timeout", [*hostile.GROUPS["hangs"], *hostile.GROUPS["sql_hangs"], "lite_recursive", "lite_cross_join"]),
        (
            "refused",
            [
                "lite_attach",
                "lite_vacuum_into",
                "lite_load_extension",
                "lite_pragma",
                "lite_temp_table",
                "lite_fts",
                "lite_drop",
                "lite_with_insert",
                "lite_begin",
                "lite_several",
                "lite_explain_write",
            ],
        ),
        ("oom", ["bytes", "numpy", "arrow", "sql_list", "sql_repeat"]),
        ("crash", ["segfault", "abort", "own_signal"]),
        ("exit", ["stop_itself_exit", "os_exit", "quit"]),
        (
            "output_limit",
            [
                "forge_huge",
                "huge_text",
                "many_rows",
                "huge_rows",
                "sql_many_rows",
                "sql_wide",
                "lite_many_rows",
                "lite_zeroblob",
                "lite_concat_bomb",
                "lite_long_text",
            ],
        ),
        ("bad_result", ["empty", "comment", "list_result", "object_result", "forge_nan", "forge_rows", "forge_names"]),
        ("error", ["many_parens", "nul", "surrogate", "tabs", "long_message", "evil_name", "sql_cast", "sql_no_table"]),
    ],
)
def test_statuses(bare: dict[str, Outcome], status: str, names: list[str]):
    assert {name: bare[name].status for name in names} == dict.fromkeys(names, status)


def test_every_failure_says_why_in_words_that_can_be_written(bare: dict[str, Outcome]):
    for name, outcome in bare.items():
        assert outcome.error or outcome.error_class, name
        assert len(outcome.error or "") <= 500
        (outcome.error or "").encode()
        (outcome.error_class or "").encode()


def test_with_the_gate(bait: Bait):
    groups = ("reads", *hostile.ACTS, "parsing", "sql", "sqlite")
    outcomes = run_all(bait, "gated_", True, groups)
    assert not problems(outcomes, bait, "gated_")
    refused = {name for name, outcome in outcomes.items() if outcome.status == "refused"}
    assert refused >= hostile.GROUPS["network"].keys() - {"read_url", "connect_url"}
    assert all(outcomes[name].stage == "parses" for name in refused)


def test_fewer_walls(bait: Bait):
    """Containers often forbid namespaces, and old kernels have no Landlock: then no file can be opened at all."""
    with Sandbox(SandboxSpec(workers=1, **LIMITS)) as sandbox:
        sandbox._without = ("namespaces", "landlock")
        assert sandbox.protections.level == "strict"
        assert sandbox.protections.mechanisms["landlock"] == "no"
        names = ("reads", *hostile.ACTS)
        outcomes = run(
            sandbox, bait, "fewer_", False, {k: v for name in names for k, v in hostile.GROUPS[name].items()}
        )
    assert not problems(outcomes, bait, "fewer_")
    assert bait.unheard()
