"""Evaluation during training: when it runs, what it writes, and that nothing leaves the denominator."""

import csv
import hashlib
import json
import os
import signal
import socket
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import yaml

from lightning_posttrain.callbacks.generation import GenerationEval, load_records
from lightning_posttrain.cli import main
from lightning_posttrain.metrics.pass_at_k import pass_at_k, wilson
from lightning_posttrain.reports.evals import find, pairs, predictions, read_evaluation
from lightning_posttrain.rollout.sampler import SamplingParams
from lightning_posttrain.tasks.base import Score
from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.types import UserError
from tests.conftest import ARCHITECTURE
from tests.tinyrun import build

PROBLEMS = [{"question": f"What is {i} + 1?", "answer": f"Add one.\n#### {i + 1}"} for i in range(5)]


@pytest.fixture
def config(tiny_config, write_rows):
    problems = write_rows(PROBLEMS, "problems.jsonl")
    value = yaml.safe_load(tiny_config.read_text())
    options = {
        "task": "GSM8K",
        "path": str(problems),
        "every_n_steps": 2,
        "max_examples": 4,
        "sampling": {"max_new_tokens": 3},
    }
    value["trainer"]["callbacks"] = [{"class_path": "GenerationEval", "init_args": options}]
    tiny_config.write_text(yaml.safe_dump(value))
    return tiny_config


def test_it_runs_at_the_start_every_n_steps_and_at_the_end(config, tmp_path):
    assert main(["fit", "-c", str(config)]) == 0
    folder = tmp_path / "run" / "eval"
    assert sorted(p.name for p in folder.iterdir()) == ["step_000000", "step_000002", "step_000003"]
    for step in folder.iterdir():
        summary = json.loads((step / "gsm8k" / "metrics.json").read_text())
        lines = (step / "gsm8k" / "predictions.jsonl").read_text().splitlines()
        assert summary["n"] == len(lines) == 4
        assert summary["step"] == int(step.name[5:])
        assert sum(summary["reasons"].values()) == 4  # an untrained model is wrong, and says why, each time


def test_a_last_evaluation_that_was_cut_short_is_made_up_for(config, tmp_path):
    assert main(["fit", "-c", str(config)]) == 0
    last = tmp_path / "run" / "eval" / "step_000003" / "gsm8k"
    before = (last / "predictions.jsonl").read_bytes()
    (last / "metrics.json").unlink()
    assert main(["fit", "-c", str(config), "--run.resume", "true"]) == 0
    assert (last / "metrics.json").exists()
    assert (last / "predictions.jsonl").read_bytes() == before


def test_validate_evaluates_once(config, tmp_path):
    assert main(["validate", "-c", str(config), "--run.dir", str(tmp_path / "v")]) == 0
    assert [p.name for p in (tmp_path / "v" / "eval").iterdir()] == ["step_000000"]


def test_training_is_the_same_with_and_without_it(config, tmp_path):
    for name, options in (("with", []), ("without", ["--trainer.callbacks=null"])):
        assert main(["fit", "-c", str(config), "--run.dir", str(tmp_path / name), *options]) == 0
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("with", "without")]
    assert weights[0] == weights[1]


def test_rows_that_are_trained_on_are_evaluated_on_only_where_they_are_named(config, write_rows, tmp_path, capsys):
    rows, other = (str(write_rows(PROBLEMS, name)) for name in ("trained.jsonl", "held.jsonl"))
    null = [
        "--trainer.callbacks.init_args.path",
        "null",
        "--data.path",
        rows,
        "--data.task",
        "GSM8K",
        "--data.val_examples",
        "0",
        "--trainer.max_steps",
        "1",
    ]
    assert main(["fit", "-c", str(config), *null]) == 2
    message = capsys.readouterr().err
    assert f"path=null: data.path={rows} is what is trained on; name the rows to evaluate on" in message
    assert not (tmp_path / "run" / "checkpoints").exists()
    for words, source in ((["--data.val_path", other], other), (["--trainer.callbacks.init_args.path", rows], rows)):
        run = tmp_path / f"run-{source == rows}"
        assert main(["fit", "-c", str(config), *null, *words, "--run.dir", str(run)]) == 0
        assert json.loads(next(run.glob("eval/*/*/metrics.json")).read_text())["source"] == source


def test_a_bad_evaluation_file_costs_no_run(config, tmp_path, capsys):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "?", "answer": "no number"}\n')
    assert main(["fit", "-c", str(config), "--trainer.callbacks.init_args.path", str(bad)]) == 2
    assert "bad.jsonl:1" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def test_drawn_rows_are_a_seeded_sample_in_file_order(write_rows):
    path = str(write_rows(PROBLEMS))
    drawn = [r.origin for r in load_records(GSM8K(), path, 3, seed=1)]
    assert drawn == sorted(drawn)
    assert drawn == [r.origin for r in load_records(GSM8K(), path, 3, seed=1)]
    assert len({tuple(r.origin for r in load_records(GSM8K(), path, 3, seed=s)) for s in range(8)}) > 1
    assert [r.origin for r in load_records(GSM8K(), path, 3, seed=None)] == [f"{path}:{line}" for line in (1, 2, 3)]
    for seed in (0, None):
        with pytest.raises(UserError, match="max_examples=6"):
            load_records(GSM8K(), path, 6, seed=seed)


def test_the_first_rows_are_chosen_when_asked_for(write_rows):
    path = str(write_rows(PROBLEMS))
    chosen = {}
    for choose in ("drawn", "first"):
        callback = GenerationEval(GSM8K(), path, max_examples=2, choose=choose, seed=3)
        callback.setup(None, None, "validate")
        chosen[choose] = [r.origin for r in callback.records]
    assert chosen["first"] == [f"{path}:1", f"{path}:2"]
    assert chosen["drawn"] == [r.origin for r in load_records(GSM8K(), path, 2, seed=3)] != chosen["first"]


def test_impossible_intervals_are_refused():
    with pytest.raises(UserError, match="every_n_steps=0"):
        GenerationEval(GSM8K(), "x", every_n_steps=0)


# ---- several samples ------------------------------------------------------------------------------------------------


class Lottery(GSM8K):
    """Right when the first token is even: an untrained model then is about half of the time."""

    name, primary = "lottery", "right"

    def score(self, record, completion):
        right = completion.tokens[0] % 2 == 0
        values = {"right": float(right), "tokens": float(len(completion.tokens))}
        return Score(values, {"first": completion.tokens[0]}, None if right else "odd")

    def table_row(self, record, completion, score):
        return {"question": record.id, "generated_text": completion.text, "correct": bool(score.values["right"])}


DRAWN = SamplingParams(max_new_tokens=4, temperature=1.0)


@pytest.fixture(scope="module")
def module():
    model = build(architecture=ARCHITECTURE)
    model.build()
    return model


def trainer_at(folder, step=0, rank=0, world=1, loggers=()):
    """What an evaluation asks of a Trainer."""
    return SimpleNamespace(
        global_step=step,
        global_rank=rank,
        world_size=world,
        is_global_zero=rank == 0,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        precision_plugin=SimpleNamespace(forward_context=nullcontext),
        state=SimpleNamespace(fn="fit"),
        callback_metrics={},
        default_root_dir=str(folder),
        loggers=list(loggers),
    )


def evaluated(folder, path, module, task=None, **options):
    """metrics.json and the lines of predictions.jsonl of one evaluation at step 0."""
    task = task or Lottery()
    evaluation = GenerationEval(task, str(path), **{"sampling": DRAWN, **options})
    evaluation.setup(None, module, "validate")
    evaluation.evaluate(trainer_at(folder), module)
    place = folder / "eval" / "step_000000" / task.name
    lines = [json.loads(line) for line in (place / "predictions.jsonl").read_text().splitlines()]
    return json.loads((place / "metrics.json").read_text()), lines


def test_of_several_samples_values_are_means_and_errors_are_over_examples(module, write_rows, tmp_path):
    summary, lines = evaluated(tmp_path, write_rows(PROBLEMS), module, samples=6)
    assert summary["n"] == len(lines) == 5
    assert summary["samples"] == 6
    right = torch.tensor([[s["values"]["right"] for s in line["samples"]] for line in lines], dtype=torch.float64)
    assert right.shape == (5, 6)
    assert 0 < right.mean() < 1
    assert len({s["prediction"] for s in lines[0]["samples"]}) > 1
    means = right.mean(1)
    assert summary["metrics"]["right"] == pytest.approx(means.mean().item())
    assert summary["stderr"]["right"] == pytest.approx(means.std().item() / 5**0.5)
    assert summary["reasons"] == {"odd": int((1 - right).sum())}
    for j in (1, 2, 4, 6):
        values = torch.tensor([pass_at_k(6, int(row.sum()), j) for row in right], dtype=torch.float64)
        assert summary["metrics"][f"pass@{j}"] == pytest.approx(values.mean().item())
        assert summary["stderr"][f"pass@{j}"] == pytest.approx(values.std().item() / 5**0.5)
    assert set(summary["metrics"]) == {"right", "tokens", "pass@1", "pass@2", "pass@4", "pass@6"}


def test_of_several_samples_the_first_is_the_lines_own(module, write_rows, tmp_path):
    rows = write_rows(PROBLEMS)
    _, lines = evaluated(tmp_path / "many", rows, module, samples=3)
    _, alone = evaluated(tmp_path / "one", rows, module)
    for line, single in zip(lines, alone, strict=True):
        samples = line.pop("samples")
        assert line == single  # a sample's draws do not depend on how many others there are
        assert samples[0] == {k: line[k] for k in ("prediction", "finished", "tokens", "reason", "values")}


def test_readers_read_it(module, write_rows, tmp_path, capsys):
    evaluated(tmp_path, write_rows(PROBLEMS), module, samples=3)
    found = read_evaluation(tmp_path / "eval" / "step_000000" / "lottery")
    assert found.metrics["pass@2"] >= found.metrics["pass@1"]
    assert len(predictions(found)) == 5
    assert len(pairs(*[find(str(tmp_path), "last")["lottery"]] * 2, "right")) == 5
    evaluated(tmp_path / "other", tmp_path / "rows.jsonl", module, samples=3)
    assert main(["compare", str(tmp_path / "other"), str(tmp_path)]) == 0
    assert "pass@2" in capsys.readouterr().out


def test_intervals(module, write_rows, tmp_path):
    rows = write_rows(PROBLEMS)
    one, lines = evaluated(tmp_path / "one", rows, module)
    right = int(sum(line["values"]["right"] for line in lines))
    assert one["samples"] == 1
    assert one["ci95"]["right"] == list(wilson(right, 5))
    mean, error = one["metrics"]["tokens"], one["stderr"]["tokens"]
    assert one["ci95"]["tokens"] == pytest.approx([mean - 1.96 * error, mean + 1.96 * error])
    many, _ = evaluated(tmp_path / "many", rows, module, samples=2)
    mean, error = many["metrics"]["right"], many["stderr"]["right"]
    assert many["ci95"]["right"] == pytest.approx([max(0, mean - 1.96 * error), min(1, mean + 1.96 * error)])


def test_intervals_are_for_the_file_alone(module, write_rows, tmp_path):
    logged = {}
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.update(values))
    evaluation = GenerationEval(Lottery(), str(write_rows(PROBLEMS)), sampling=DRAWN, samples=2)
    evaluation.setup(None, module, "validate")
    trainer = trainer_at(tmp_path, loggers=[logger])
    assert evaluation.evaluate(trainer, module).keys() == {"right", "tokens", "pass@1", "pass@2"}
    assert logged.keys() == {f"eval/lottery/{k}" for k in ("right", "tokens", "pass@1", "pass@2", "seconds")}
    assert trainer.callback_metrics["eval/lottery/pass@2"] == logged["eval/lottery/pass@2"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"samples": 0}, "samples=0"),
        ({"samples": 2, "sampling": SamplingParams()}, r"samples=2 with sampling\.temperature=0\.0"),
        ({"debug": ""}, "debug=''"),
        ({"debug": "../sft"}, r"debug='\.\./sft'"),
    ],
)
def test_options_out_of_range_are_refused(options, named):
    with pytest.raises(UserError, match=named):
        GenerationEval(Lottery(), "rows.jsonl", **options)


class Spread(Lottery):
    """Also has a metric that is no mean over examples: how many different first tokens there are."""

    def corpus_metrics(self, scores):
        return {"different": float(len({score.detail["first"] for score in scores}))}


def test_metrics_of_all_examples_together(module, write_rows, tmp_path):
    logged = {}
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.update(values))
    evaluation = GenerationEval(Spread(), str(write_rows(PROBLEMS)), sampling=DRAWN, samples=3)
    evaluation.setup(None, module, "validate")
    values = evaluation.evaluate(trainer_at(tmp_path, loggers=[logger]), module)
    found = read_evaluation(tmp_path / "eval" / "step_000000" / "lottery")
    assert found.metrics["different"] == values["different"] == logged["eval/lottery/different"]
    assert 1 < found.metrics["different"] <= 5
    low, high = found.ci95["different"]
    assert low <= high <= 5
    assert found.stderr["different"] > 0


def rank_of_two(rank, port, folder, path, module):
    """One of two processes that evaluate together."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    evaluation = GenerationEval(Spread(), str(path), sampling=DRAWN, samples=3, debug="grpo")
    evaluation.setup(None, module, "validate")
    values = evaluation.evaluate(trainer_at(folder, rank=rank, world=2), module)
    (folder / f"values-{rank}.json").write_text(json.dumps(values))


def test_two_ranks_write_what_one_does(module, write_rows, tmp_path):
    rows = write_rows(PROBLEMS)
    summary, lines = evaluated(tmp_path / "one", rows, module, Spread(), samples=3, debug="grpo")
    folder = tmp_path / "two"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                rank_of_two(rank, port, folder, rows, module)
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    place = "eval/step_000000/lottery"
    together = json.loads((folder / place / "metrics.json").read_text())
    for found in (together, summary):
        del found["started"], found["seconds"]
    for part in ("metrics", "stderr"):
        assert together.pop(part) == pytest.approx(summary.pop(part))
    assert {k: pytest.approx(v) for k, v in together.pop("ci95").items()} == summary.pop("ci95")
    assert together == summary
    assert [json.loads(line) for line in (folder / place / "predictions.jsonl").open()] == lines
    name = "debug/grpo_step_000000.csv"
    assert (folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert (folder / "values-0.json").read_text() == (folder / "values-1.json").read_text()


def test_fewer_rows_than_ranks_are_refused(module, write_rows, tmp_path):
    evaluation = GenerationEval(Lottery(), str(write_rows(PROBLEMS)), sampling=DRAWN)
    evaluation.setup(None, module, "validate")
    with pytest.raises(UserError, match="5 rows to evaluate on 6 devices"):
        evaluation.evaluate(trainer_at(tmp_path, world=6), module)


# ---- the debug table ------------------------------------------------------------------------------------------------


def test_the_debug_table_has_every_completion(module, write_rows, tmp_path):
    summary, lines = evaluated(tmp_path, write_rows(PROBLEMS), module, samples=2, debug="prep_sft")
    with (tmp_path / "debug" / "prep_sft_step_000000.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["question", "generated_text", "correct"]
    told = [(line["id"], s["prediction"], str(s["reason"] is None)) for line in lines for s in line["samples"]]
    assert [tuple(row.values()) for row in rows] == told
    assert len(rows) == 10
    assert (tmp_path / "debug" / "prep_sft_step_000000_metrics.txt").read_text() == ""  # none of the three is its
    assert summary["samples"] == 2


def test_a_task_without_a_table_writes_none(module, write_rows, tmp_path):
    evaluated(tmp_path, write_rows(PROBLEMS), module, task=GSM8K(), debug="sft")
    assert not (tmp_path / "debug").exists()


def test_the_options_work_from_a_configuration(config, tmp_path):
    task = {"class_path": "GSM8KTags", "init_args": {"system": ""}}
    options = {"samples": 2, "debug": "sft", "task": task, "sampling": {"max_new_tokens": 3, "temperature": 1.0}}
    value = yaml.safe_load(config.read_text())
    value["trainer"]["callbacks"][0]["init_args"] |= options
    config.write_text(yaml.safe_dump(value))
    assert main(["validate", "-c", str(config)]) == 0
    with (tmp_path / "run" / "debug" / "sft_step_000000.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert list(rows[0]) == [
        "question",
        "labeled_cot",
        "labeled_answer",
        "generated_text",
        "extracted_thinking",
        "extracted_answer",
        "correct",
    ]
    told = (tmp_path / "run" / "debug" / "sft_step_000000_metrics.txt").read_text()
    assert [line.split(": ")[0] for line in told.splitlines()] == ["accuracy", "thinking", "answer"]
    summary = json.loads((tmp_path / "run" / "eval" / "step_000000" / "gsm8k_tags" / "metrics.json").read_text())
    assert summary["samples"] == 2
    assert "pass@2" in summary["metrics"]


def test_only_the_rows_asked_for_are_evaluated(write_rows):
    path = str(write_rows([{**row, "level": i % 2} for i, row in enumerate(PROBLEMS)]))
    evaluation = GenerationEval(Lottery(), path, where={"level": 1})
    evaluation.setup(None, None, "validate")
    assert [r.origin for r in evaluation.records] == [f"{path}:{i + 1}" for i in range(1, len(PROBLEMS), 2)]


def test_metrics_say_how_the_evaluation_was_done(module, write_rows, tmp_path):
    rows = write_rows(PROBLEMS)
    summary, _ = evaluated(tmp_path, rows, module, Spread())
    assert summary["source_sha256"] == hashlib.sha256(rows.read_bytes()).hexdigest()
    assert (summary["source"], summary["task_class"]) == (str(rows), "Spread")
    assert summary["sampling"]["temperature"] == DRAWN.temperature
    assert summary["seconds"] >= 0
