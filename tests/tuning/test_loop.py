"""What becomes of a trial: finished, failed, pruned, too long, interrupted; and what a study leaves on disk."""

import csv
import json
import signal
import time
from pathlib import Path

import pytest
import yaml
from optuna.exceptions import StorageInternalError

from lightning_posttrain.env_config import load_file
from lightning_posttrain.tuning import loop
from lightning_posttrain.tuning.loop import Loop
from lightning_posttrain.tuning.settings import Objective, PrunerSpec
from lightning_posttrain.types import UserError
from tests.tuning.fakes import ACCURACY, EPOCHS, LR, FakeRuns, evaluate, finish, go, open_study, settings


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "study" / "trials_results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_results_say_what_every_trial_reached(tmp_path, pictures):
    go(settings(tmp_path, student="tiny", task="banking77"))
    rows = table(tmp_path)
    assert list(rows[0]) == [
        *("number", "state", "value", "stderr", "n", f"params_{LR}", f"params_{EPOCHS}"),
        *("datetime_start", "datetime_complete", "duration_seconds", "reason", "cached", "run_dir"),
    ]
    assert [float(row["value"]) for row in rows] == pytest.approx([0.55, 0.65, 0.65, 0.75, 0.55, 0.65])
    assert {(row["state"], row["stderr"], row["n"], row["cached"]) for row in rows} == {("COMPLETE", "0.04", "100", "")}
    assert rows[3]["run_dir"] == str(tmp_path / "study/trial_3")
    facts = json.loads((tmp_path / "study/study.json").read_text())
    assert (facts["student"], facts["task"], facts["best"]) == ("tiny", "banking77", [3])
    assert facts["trials"][3]["params"] == {LR: 2e-5, EPOCHS: 3}
    page = (tmp_path / "study/study.md").read_text()
    assert "# fake: tiny of banking77" in page
    assert "| 3 | COMPLETE | 0.75 ±0.04 | 2e-05 | 3 |" in page
    for name in ("history.png", "parallel.png", "importance.png"):
        assert name in page
        assert (tmp_path / "study" / name).read_bytes().startswith(b"\x89PNG")


def test_the_best_configuration_has_no_place_of_its_own(tmp_path):
    go(settings(tmp_path, n_trials=4))
    text = (tmp_path / "study/best.yaml").read_text()
    assert "# Trial 3 of the study fake: eval/banking77/accuracy 0.75." in text
    assert load_file(tmp_path / "study/best.yaml") == {"trainer": {"max_epochs": 1}, "checkpoint": {"keep": 2}}


def test_the_best_is_written_anew_with_every_trial(tmp_path):
    class Reading(FakeRuns):
        def __call__(self, job, look):
            path = tmp_path / "study/best.yaml"
            self.seen = [*getattr(self, "seen", []), path.read_text().split()[2] if path.exists() else ""]
            return super().__call__(job, look)

    runs = Reading()
    go(settings(tmp_path), runs)
    assert runs.seen == ["", "0", "1", "1", "3", "3"]


def test_failures_are_kept_with_their_reasons_and_the_study_goes_on(tmp_path, capsys):
    says = {
        0: "torch.OutOfMemoryError: CUDA out of memory.",
        1: "error: step 3 (epoch 0, batch 2): loss nan: the weights were not updated. rows: a:1",
        3: "error: data.path=x: does not exist",
    }
    runs = FakeRuns(codes={0: 1, 1: 2, 2: -9, 3: 2}, says=says)
    go(settings(tmp_path), runs)
    rows = table(tmp_path)
    assert [row["state"] for row in rows] == ["FAILED"] * 4 + ["COMPLETE"] * 2
    reasons = [row["reason"] for row in rows]
    assert reasons[0] == "out of memory: torch.OutOfMemoryError: CUDA out of memory."
    assert reasons[1].startswith("not finite: step 3")
    assert reasons[2].startswith("out of memory: killed by signal 9")
    assert reasons[3] == "exit code 2: data.path=x: does not exist"
    assert reasons[4:] == ["", ""]
    assert "trial 3: exit code 2: data.path=x" in capsys.readouterr().out
    assert {row["value"] for row in rows[:4]} == {""}


def test_nan_is_a_failure(tmp_path):
    go(settings(tmp_path, n_trials=2), FakeRuns(lambda params: 0.5 if params[EPOCHS] == 1 else float("nan")))
    assert [row["state"] for row in table(tmp_path)] == ["COMPLETE", "FAILED"]
    assert "not finite: eval/banking77/accuracy=nan" in table(tmp_path)[1]["reason"]


def test_a_run_that_only_seems_over_is_a_failure(tmp_path):
    def half(job, look):
        evaluate(job.folder, 10, 0.5)
        return 0

    go(settings(tmp_path, n_trials=1), half)
    assert "run.json is not of its end" in table(tmp_path)[0]["reason"]


def test_an_objective_that_is_never_logged_stops_the_study_after_one_run(tmp_path):
    runs = FakeRuns()
    given = settings(tmp_path, objectives=[Objective("eval/banking77/f1", "maximize")])
    with pytest.raises(UserError, match=r"no eval/banking77/f1; it logged .*eval/banking77/accuracy"):
        go(given, runs)
    assert runs.ran == [0]
    assert [row["state"] for row in table(tmp_path)][:2] == ["FAILED", "WAITING"]


class Clock:
    """A clock that the test moves; the rest is the real `time`."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(loop, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Learning(FakeRuns):
    """Evaluates at steps 10, 20, 30, and lets the loop look after each."""

    def __init__(self, value, clock):
        super().__init__(value)
        self.clock = clock

    def __call__(self, job, look):
        self.ran.append(job.number)
        for step in (10, 20, 30):
            evaluate(job.folder, step, step / 100 * self.value(dict(job.params)))
            self.clock.now += 60  # longer than between two readings
            if look():
                return 143
        finish(job.folder)
        return 0


def test_a_hopeless_trial_is_pruned(tmp_path, monkeypatch):
    pruner = PrunerSpec("median", warmup_steps=15, n_startup_trials=2)
    runs = Learning(lambda params: 1.0 if params[LR] < 2e-5 else 0.1, Clock(monkeypatch))
    study = go(settings(tmp_path, n_trials=3, pruner=pruner), runs)
    rows = table(tmp_path)
    assert [row["state"] for row in rows] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert rows[2]["reason"] == "pruned at step 20: eval/banking77/accuracy=0.02 is worse than the median there"
    assert [trial.intermediate_values for trial in study.trials()] == [
        {10: 0.1, 20: 0.2, 30: pytest.approx(0.3)},
        {10: 0.1, 20: 0.2, 30: pytest.approx(0.3)},
        {10: pytest.approx(0.01), 20: pytest.approx(0.02)},
    ]


@pytest.mark.parametrize(
    "pruner", [PrunerSpec(), PrunerSpec("median", 40, 2), PrunerSpec("median", 0, 3)], ids=["none", "warmup", "startup"]
)
def test_nothing_is_pruned_unless_it_may_be(tmp_path, pruner, monkeypatch):
    runs = Learning(lambda params: 1.0 if params[LR] < 2e-5 else 0.1, Clock(monkeypatch))
    go(settings(tmp_path, n_trials=3, pruner=pruner), runs)
    assert {row["state"] for row in table(tmp_path)} == {"COMPLETE"}


def test_a_trial_may_take_too_long(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)

    class Slow(FakeRuns):
        def __call__(self, job, look):
            clock.now += 6 if job.number == 0 else 4
            return 143 if look() else super().__call__(job, look)

    go(settings(tmp_path, n_trials=2, trial_timeout_seconds=5.0), Slow())
    rows = table(tmp_path)
    assert [row["state"] for row in rows] == ["FAILED", "COMPLETE"]
    assert rows[0]["reason"] == "took longer than trial_timeout_seconds=5"


def test_no_trial_is_begun_after_the_time_of_the_process(tmp_path, monkeypatch, capsys):
    clock = Clock(monkeypatch)

    class Slow(FakeRuns):
        def __call__(self, job, look):
            clock.now += 3
            return super().__call__(job, look)

    runs = Slow()
    go(settings(tmp_path, timeout_seconds=5.0), runs)
    assert runs.ran == [0, 1]  # the second began in time
    assert "no other trial is begun" in capsys.readouterr().out
    go(settings(tmp_path), runs)
    assert runs.ran == [0, 1, 2, 3, 4, 5]


def test_a_signal_gives_the_trial_back(tmp_path, capsys):
    received: list[int] = []

    class Stopped(FakeRuns):
        def __call__(self, job, look):
            if job.number == 1 and not received:
                self.ran.append(1)
                received.append(signal.SIGTERM)
                return 143
            return super().__call__(job, look)

    runs = Stopped()
    study = go(settings(tmp_path), runs, received)
    assert [trial.state.name for trial in study.trials()][:3] == ["COMPLETE", "RUNNING", "WAITING"]
    assert "trial 1: stopped by a signal" in capsys.readouterr().out
    go(settings(tmp_path), runs)
    assert runs.ran == [0, 1, 1, 2, 3, 4, 5]
    assert "trial 1: going on with" in capsys.readouterr().out


def test_a_run_that_ended_by_itself_counts_although_a_signal_came(tmp_path):
    received: list[int] = []

    class Late(FakeRuns):
        def __call__(self, job, look):
            received.append(signal.SIGINT)
            return super().__call__(job, look)

    study = go(settings(tmp_path), Late(), received)
    assert [trial.state.name for trial in study.trials()][:2] == ["COMPLETE", "WAITING"]


def test_only_the_best_keep_their_weights(tmp_path):
    runs = FakeRuns(codes={1: 1})
    go(settings(tmp_path, keep_top_k=2), runs)
    kept = [n for n in range(6) if (tmp_path / f"study/trial_{n}/model").is_dir()]
    assert kept == [2, 3]  # 0.75, and the first of those with 0.65 that did not fail
    assert [n for n in range(6) if (tmp_path / f"study/trial_{n}/checkpoints").is_dir()] == kept
    assert (tmp_path / "study/trial_0/log.txt").is_file()
    assert (tmp_path / "study/trial_0/eval").is_dir()


def test_all_weights_stay_by_default(tmp_path):
    go(settings(tmp_path, n_trials=3))
    assert len(list((tmp_path / "study").glob("trial_*/model/weights"))) == 3


def test_a_run_of_another_study_is_not_touched(tmp_path):
    given = settings(tmp_path, keep_top_k=1)
    folder = tmp_path / "study/trial_1"
    folder.mkdir(parents=True)
    finish(folder)
    with pytest.raises(UserError, match=r"trial_1: holds a run of another study"):
        go(given)
    assert (folder / "model/weights").is_file()


def test_several_objectives_have_a_front(tmp_path, pictures):
    class Two(FakeRuns):
        def __call__(self, job, look):
            values = {(1e-5, 1): (0.9, 9.0), (1e-5, 3): (0.5, 1.0), (2e-5, 1): (0.4, 2.0), (2e-5, 3): (0.9, 8.0)}
            accuracy, cost = values.get((job.params[LR], job.params[EPOCHS]), (0.1, 10.0))
            evaluate(job.folder, 10, accuracy)
            evaluate(job.folder, 10, cost, task="cost")
            finish(job.folder, {"seed_everything": job.number})
            return 0

    aims = [Objective(ACCURACY, "maximize"), Objective("eval/cost/accuracy", "minimize")]
    folder = tmp_path / "study"
    go(settings(tmp_path, objectives=aims, n_trials=1, keep_top_k=2), Two())
    assert [p.name for p in folder.glob("best*.yaml")] == ["best_1.yaml"]
    (folder / "best_7.yaml").write_text("an older front\n")
    go(settings(tmp_path, objectives=aims, keep_top_k=2), Two())
    # Trial 3 beats trial 0; trial 1 beats trial 2; neither of 1 and 3 beats the other.
    assert json.loads((folder / "study.json").read_text())["best"] == [3, 1]
    files = {p.name: yaml.safe_load(p.read_text())["seed_everything"] for p in folder.glob("best*.yaml")}
    assert files == {"best_1.yaml": 3, "best_2.yaml": 1}
    row = table(tmp_path)[3]
    assert (row[f"value_{ACCURACY}"], row["value_eval/cost/accuracy"]) == ("0.9", "8.0")
    assert sorted(p.parent.name for p in folder.glob("trial_*/model")) == ["trial_1", "trial_3"]
    assert (folder / "importance.png").is_file()


def test_trials_of_other_processes_are_waited_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lightning_posttrain.tuning.loop.ELSEWHERE", 0.01)
    study = open_study(settings(tmp_path, n_trials=1))
    theirs = study.next()
    other = open_study(settings(tmp_path, n_trials=1))
    other._me = "another"  # else its own trial would be waited for
    asked = []

    def give_back(*_):
        asked.append(1)
        if len(asked) == 3:
            study.give_back(theirs)

    monkeypatch.setattr("lightning_posttrain.tuning.loop.time.sleep", give_back)
    runs = FakeRuns()
    Loop(other, runs).go()
    assert runs.ran == [0]
    assert "waiting for trials that other processes run: 0" in capsys.readouterr().out


def test_a_run_whose_trial_was_taken_over_is_stopped_and_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lightning_posttrain.tuning.loop.BEAT", 0.01)
    study = open_study(settings(tmp_path, n_trials=1))

    class Slow(FakeRuns):
        def __call__(self, job, look):
            study._database.set_trial_user_attr(study.trials()[0]._trial_id, "owner", "another")
            while not look():
                time.sleep(0.01)
            received.append(1)
            return 143

    received: list[int] = []
    Loop(study, Slow(), received).go()
    assert "trial 0: was taken over by another process" in capsys.readouterr().out
    assert study.trials()[0].state.name == "RUNNING"


def test_a_database_that_is_away_for_a_while_does_not_stop_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lightning_posttrain.tuning.loop.BEAT", 0.01)
    study = open_study(settings(tmp_path, n_trials=1))
    beat = study.beat

    def away(claim):
        raise StorageInternalError("gone") from None

    class Slow(FakeRuns):
        def __call__(self, job, look):
            study.beat = away
            for _ in range(3):
                time.sleep(0.02)
                assert not look()
            study.beat = beat
            return super().__call__(job, look)

    Loop(study, Slow()).go()
    assert study.trials()[0].state.name == "COMPLETE"
    assert capsys.readouterr().err.count("trial 0: storage=sqlite:///") == 1
