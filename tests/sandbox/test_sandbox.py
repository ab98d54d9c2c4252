"""The life of a sandbox: order, copies, forks, workers that die, isolation that is missing, the end of its owner."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import psutil
import pytest

from lightning_posttrain.sandbox import Job, Sandbox, SandboxFault, SandboxSpec, Table, worker
from lightning_posttrain.sandbox import sandbox as sandbox_module
from lightning_posttrain.types import UserError
from tests.conftest import HANGS

from .conftest import NUMBERS, workers_of

ONE = SandboxSpec(workers=1, wall_seconds=HANGS)


def value(sandbox: Sandbox, code: str) -> object:
    (outcome,) = sandbox.run([Job(code, (NUMBERS,))])
    assert outcome.rows is not None, outcome
    return outcome.rows[0][0]


def soon(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + HANGS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_outcomes_are_in_order_for_any_number_of_workers():
    jobs = [Job(f"numbers.x.max() + {i % 17}", (NUMBERS,)) for i in range(40)]
    jobs.insert(3, Job("while True: pass", (NUMBERS,)))
    jobs.insert(9, Job("SELECT 7", (), "sql"))
    with Sandbox(SandboxSpec(workers=2, wall_seconds=HANGS, cpu_seconds=3)) as sandbox:
        outcomes = sandbox.run(jobs)
    assert (outcomes.pop(9).rows, outcomes.pop(3).status) == (((7,),), "timeout")
    assert [outcome.rows for outcome in outcomes] == [((3 + i % 17,),) for i in range(40)]


def test_equal_jobs_run_once(sandbox: Sandbox):
    outcomes = sandbox.run([Job("ibis.random()", ())] * 3)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert sandbox.run([]) == []


def test_nothing_starts_before_it_is_needed():
    before = workers_of(os.getpid())
    sandbox = Sandbox(ONE)
    copy = pickle.loads(pickle.dumps(sandbox))
    assert workers_of(os.getpid()) == before
    with copy:
        assert value(copy, "numbers.count()") == 3
        assert len(workers_of(os.getpid())) == len(before) + 1
        copy.close()
        assert workers_of(os.getpid()) == before
        assert value(copy, "numbers.count()") == 3  # a closed one starts again


def test_what_is_active_is_known(sandbox: Sandbox):
    record = sandbox.protections.record()
    assert record["level"] == "strict"
    assert record["probes"] == dict.fromkeys(("write", "read", "connect", "fork", "signal", "memory"), True)
    assert set(record["mechanisms"]) == {"landlock", "seccomp", "namespaces", "capabilities dropped"}


def test_without_its_walls_it_refuses():
    sandbox = Sandbox(ONE)
    sandbox._without = ("seccomp",)
    with pytest.raises(SandboxFault, match="allow_unsafe_execution") as caught:
        sandbox.run([Job("1", ())])
    assert "not stopped: " in str(caught.value)
    assert "fork" in str(caught.value)


def test_files_can_be_enough():
    with Sandbox(replace(ONE, min_protection="files")) as sandbox:
        sandbox._without = ("seccomp",)
        assert sandbox.protections.level == "files"
        assert value(sandbox, "numbers.count()") == 3


def test_unsafe_execution_is_asked_for_by_name(caplog: pytest.LogCaptureFixture):
    with Sandbox(replace(ONE, allow_unsafe_execution=True)) as sandbox:
        sandbox._without = ("seccomp", "landlock", "namespaces")
        assert sandbox.protections.level == "none"
        assert value(sandbox, "numbers.count()") == 3
    assert "UNSAFE" in caplog.text


def test_a_worker_that_is_killed_costs_nothing(caplog: pytest.LogCaptureFixture):
    jobs = [Job(f"numbers.x.max() + {i}", (NUMBERS,)) for i in range(30)]
    with Sandbox(ONE) as sandbox:
        assert value(sandbox, "numbers.count()") == 3
        os.kill(sandbox._workers[0].process.pid, signal.SIGKILL)
        assert [outcome.rows for outcome in sandbox.run(jobs)] == [((3 + i,),) for i in range(30)]
        assert len(sandbox._workers) == 1
    assert "a worker failed" in caplog.text


def test_workers_that_keep_dying_are_a_fault(monkeypatch: pytest.MonkeyPatch):
    def dies(self: worker.Worker) -> None:
        raise worker.WorkerDied("gone")

    monkeypatch.setattr(sandbox_module, "ATTEMPTS", 2)
    with Sandbox(ONE) as sandbox:
        assert value(sandbox, "numbers.count()") == 3
        monkeypatch.setattr(worker.Worker, "take", dies)
        with pytest.raises(SandboxFault, match="lost 2 workers"):
            sandbox.run([Job("1", ())])


def test_a_worker_that_cannot_start_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "PROGRAM", "raise ImportError('no ibis here')")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(SandboxFault, match="no ibis here"):
        Sandbox(ONE).run([Job("1", ())])
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SandboxFault, match="cannot start"):
        Sandbox(ONE).run([Job("1", ())])


def test_a_forked_child_has_workers_of_its_own():
    with Sandbox(ONE) as sandbox:
        assert value(sandbox, "numbers.count()") == 3
        pid = os.fork()
        if pid == 0:
            found = value(sandbox, "numbers.x.sum()")
            sandbox.close()
            os._exit(found == 6)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        before = sandbox._workers[0].process.pid
        assert value(sandbox, "numbers.count()") == 3
        assert sandbox._workers[0].process.pid == before


OWNER = """
import os, sys, time
from lightning_posttrain.sandbox import Job, Sandbox, SandboxSpec
sandbox = Sandbox(SandboxSpec(workers=1, wall_seconds=1e4, cpu_seconds=1e4))
sandbox.protections
if os.fork() == 0:  # keeps the sockets open
    time.sleep(1e4)
print("ready", flush=True)
sandbox.run([Job("while True: pass", ())])
"""


def test_nothing_outlives_its_owner():
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    me = psutil.Process(owner.pid)
    assert soon(lambda: len(me.children(recursive=True)) == 3)  # a worker, its snippet, the fork
    family = me.children(recursive=True)
    (fork,) = [p for p in me.children() if p not in workers_of(owner.pid)]
    owner.kill()
    owner.wait()
    owner.stdout.close()
    alive = [p for p in family if p != fork]
    gone = soon(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in alive))
    fork.kill()
    assert gone


def test_nothing_grows(sandbox: Sandbox):
    def spent() -> tuple[int, int, int]:
        (process,) = [psutil.Process(worker.process.pid) for worker in sandbox._workers]
        return process.num_fds(), len(os.listdir("/proc/self/fd")), process.memory_info().rss >> 20  # noqa: PTH208

    def batch(start: int) -> None:
        tables = [Table("t", (("x", "int64"),), tuple((i * k,) for i in range(500))) for k in range(start, start + 4)]
        outcomes = sandbox.run([Job(f"t.x.sum() + {n}", (table,)) for table in tables for n in range(8)])
        assert all(outcome.status == "ok" for outcome in outcomes)

    batch(0)
    before = spent()
    for n in range(1, 4):
        batch(4 * n)
    after = spent()
    assert after[:2] == before[:2]
    assert after[2] - before[2] < 16


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"memory_mb": 1},
        {"max_rows": 0},
        {"output_bytes": 10},
        {"wall_seconds": 0},
        {"cpu_seconds": float("inf")},
        {"min_protection": "none"},
    ],
)
def test_specs_that_cannot_be(wrong: dict):
    with pytest.raises(UserError, match=next(iter(wrong))):
        SandboxSpec(**wrong)


def test_limits_are_what_the_spec_says():
    spec = SandboxSpec(workers=1, max_rows=2, output_bytes=2000, memory_mb=256, wall_seconds=HANGS, cpu_seconds=3)
    with Sandbox(spec) as sandbox:
        codes = ("numbers", "numbers.limit(2)", "ibis.literal('x' * 3000)", "bytes(300 << 20)", "while True: pass")
        outcomes = sandbox.run([Job(code, (NUMBERS,)) for code in codes])
    assert [outcome.status for outcome in outcomes] == ["output_limit", "ok", "output_limit", "oom", "timeout"]
    assert "CPU" in (outcomes[-1].error or "")
