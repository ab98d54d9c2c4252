"""Several processes at one study, processes that are killed, and runs that outlive them."""

from __future__ import annotations

import csv
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_posttrain.commands import tune_trial
from lightning_posttrain.commands.tune_trial import TrialProcess
from lightning_posttrain.tuning.loop import Job
from tests.conftest import HANGS
from tests.tuning.fakes import open_study, settings
from tests.tuning.program import STEPS
from tests.tuning.worker import SPACE

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
POINTS = 12


def work(folder: Path, url: str = "") -> subprocess.Popen[bytes]:
    """A process at work on the study in ``folder``."""
    settings(folder)  # writes its base
    command = [sys.executable, "-m", "tests.tuning.worker", folder, url, folder / "record.jsonl"]
    with (folder / "worker.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def record(folder: Path, what: str = "") -> list[dict[str, Any]]:
    path = folder / "record.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [line for line in lines if not what or line["what"] == what]


def wait_for(happened: Callable[[], Any]) -> None:
    end = time.monotonic() + HANGS
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def ended(process: subprocess.Popen[bytes], folder: Path) -> int:
    try:
        return process.wait(HANGS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError((folder / "worker.txt").read_text()) from None


def check_every_point_once(folder: Path, url: str = "") -> None:
    """That each of two processes ran some points, and none ran one of the other's."""
    workers = [work(folder, url), work(folder, url)]
    assert [ended(worker, folder) for worker in workers] == [0, 0], (folder / "worker.txt").read_text()
    starts = record(folder, "start")
    assert len(starts) == len({json.dumps(line["point"]) for line in starts}) == POINTS
    assert {line["parent"] for line in starts} == {worker.pid for worker in workers}
    with (folder / "study/trials_results.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["COMPLETE"] * POINTS
    trials = open_study(settings(folder, space=SPACE, storage=url or None)).trials()
    assert len({json.dumps(trial.params) for trial in trials}) == len(trials) == POINTS


def test_two_processes_never_run_the_same_point(tmp_path):
    check_every_point_once(tmp_path)


def test_a_study_whose_process_was_killed_goes_on_where_it_was(tmp_path):
    """Killed in the third trial, with its run: what is finished is not repeated, the third goes on."""
    (tmp_path / "HOLD_trial_2").touch()
    worker = work(tmp_path)
    wait_for(lambda: (tmp_path / "study/trial_2/steps").is_file())
    worker.kill()
    worker.wait()
    os.kill(record(tmp_path, "start")[2]["pid"], signal.SIGKILL)
    (tmp_path / "HOLD_trial_2").unlink()
    assert ended(work(tmp_path), tmp_path) == 0
    starts = record(tmp_path, "start")
    assert Counter(line["run"] for line in starts) == {f"trial_{n}": 1 + (n == 2) for n in range(POINTS)}
    assert [line["step"] for line in starts if line["run"] == "trial_2"][1] > 0
    assert len(record(tmp_path, "end")) == POINTS
    assert "trial 2: going on with" in (tmp_path / "worker.txt").read_text()


def test_a_run_that_outlives_its_process_is_waited_for(tmp_path):
    (tmp_path / "HOLD_trial_0").touch()
    worker = work(tmp_path)
    wait_for(lambda: (tmp_path / "study/trial_0/steps").is_file())
    worker.kill()
    worker.wait()
    other = work(tmp_path)
    wait_for(lambda: "waiting for the run that an earlier tune left" in (tmp_path / "worker.txt").read_text())
    assert [(line["run"], line["what"]) for line in record(tmp_path)] == [("trial_0", "start")]
    (tmp_path / "HOLD_trial_0").unlink()
    assert ended(other, tmp_path) == 0
    first = record(tmp_path)[:2]
    assert [(line["run"], line["what"]) for line in first] == [("trial_0", "start"), ("trial_0", "end")]
    assert len(record(tmp_path, "start")) == len(record(tmp_path, "end")) == POINTS


def test_a_signal_reaches_the_run_and_stops_the_study(tmp_path):
    (tmp_path / "HOLD_trial_0").touch()
    worker = work(tmp_path)
    wait_for(lambda: (tmp_path / "study/trial_0/steps").is_file())
    worker.send_signal(signal.SIGTERM)
    assert ended(worker, tmp_path) == 143
    (stopped,) = record(tmp_path, "stop")
    assert 0 < stopped["step"] < STEPS
    (tmp_path / "HOLD_trial_0").unlink()
    assert ended(work(tmp_path), tmp_path) == 0
    assert record(tmp_path)[2]["step"] == stopped["step"]


def test_a_run_that_does_not_stop_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(tune_trial, "GRACE", 0.3)
    (tmp_path / "STUBBORN").touch()
    (tmp_path / f"HOLD_{tmp_path.name}").touch()
    program = [sys.executable, str(Path(__file__).with_name("program.py")), str(tmp_path / "record.jsonl")]
    run = TrialProcess(lambda job: ["fit"], [], [], program)
    assert run(Job(0, {}, tmp_path), lambda: (tmp_path / "steps").is_file()) == -signal.SIGKILL
    assert (tmp_path / "log.txt").read_text() == f"$ lightning-posttrain fit --run.dir={tmp_path} --run.resume=true\n"


# ---- a server -------------------------------------------------------------------------------------------------------


def binary(name: str) -> Path | None:
    """A program of PostgreSQL, of the newest version."""
    found = shutil.which(name)
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[4]))
    return Path(found) if found else places[-1] if places else None


@pytest.fixture
def server() -> Iterator[str]:
    """URL of a PostgreSQL server that lives as long as the test; its password has characters that must be quoted."""
    initdb, postgres = binary("initdb"), binary("postgres")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # pytest's folders are closed to other users
        folder, who = Path(name), _unprivileged(Path(name))
        (folder / "password").write_text("pass/word@1")
        (folder / "password").chmod(0o644)
        make = [
            initdb,
            "-D",
            folder / "data",
            "-U",
            "tuner",
            "-A",
            "scram-sha-256",
            f"--pwfile={folder}/password",
            "-N",
        ]
        subprocess.run(make, check=True, capture_output=True, cwd="/", **who)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serve = [postgres, "-D", folder / "data", "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(serve, stdout=log, stderr=log, cwd="/", **who)
        try:
            wait_for(lambda: b"ready to accept connections" in (folder / "log").read_bytes())
            yield f"postgresql://tuner:pass%2Fword%401@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # "fast shutdown"
            process.wait(HANGS)


def _unprivileged(folder: Path) -> dict[str, Any]:
    """How to start a process that is not root's, which the server refuses to be; ``folder`` becomes its own."""
    if os.geteuid() != 0:
        return {}
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def test_two_processes_share_a_server(tmp_path, server):
    check_every_point_once(tmp_path, server)
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert b"pass%2Fword" not in path.read_bytes()
        assert b"pass/word" not in path.read_bytes()
    assert "tuner:***@127.0.0.1" in (tmp_path / "study/study.json").read_text()
