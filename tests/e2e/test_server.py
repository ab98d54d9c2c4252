"""`validate` and `traces` against `transformers serve` on this machine: what it answers is what our sampler answers."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from lightning_posttrain.cli import main
from tests.conftest import ARCHITECTURE, HANGS

pytest.importorskip("fastapi", reason="the extra `dev` brings what `transformers serve` needs")
pytest.importorskip("uvicorn", reason="the extra `dev` brings what `transformers serve` needs")
pytestmark = pytest.mark.e2e

ROWS = 8
STEPS = 60
PATIENCE_SECONDS = HANGS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A byte model that has learnt to add, in ``run/model``, with the rows it has learnt from in other words."""
    folder = tmp_path_factory.mktemp("served")
    for name, words in (("rows", "It is"), ("other", "We get")):
        rows = [{"question": f"What is {i}+{i}?", "answer": f"{words} {2 * i}.\n#### {2 * i}"} for i in range(ROWS)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = {"task": "GSM8K", "path": str(folder / "other.jsonl"), "sampling": {"max_new_tokens": 20}}
    data = {"path": str(folder / "rows.jsonl"), "task": "GSM8K", "val_examples": 1, "cache_dir": str(folder / "cache")}
    model = {
        "architecture": {**ARCHITECTURE, "hidden_size": 64, "num_hidden_layers": 2},
        "tokenizer": {"kind": "byte"},
        "optimizer": {"lr": 1e-2},
    }
    config = {
        "model": {"class_path": "SFTModule", "init_args": model},
        "data": {"class_path": "SFTDataModule", "init_args": {**data, "examples_per_step": ROWS - 1}},
        "trainer": {"accelerator": "cpu", "max_steps": STEPS, "enable_progress_bar": False},
        "run": {"dir": str(folder / "run")},
    }
    (folder / "fit.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "-c", str(folder / "fit.yaml")]) == 0
    config["trainer"]["callbacks"] = [{"class_path": "GenerationEval", "init_args": evaluation}]
    config["model"]["init_args"] = {"pretrained": str(folder / "run" / "model")}
    (folder / "eval.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def url(folder):
    """`transformers serve` with that model, in a process of its own; nothing from the hub."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "home" / "hub").mkdir(parents=True)
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder / "run" / "model")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    with (folder / "serve.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=surroundings)
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while not healthy(port):
            assert server.poll() is None, (folder / "serve.log").read_text()
            assert time.monotonic() < until, (folder / "serve.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=HANGS) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def predictions(run: Path) -> list[tuple]:
    lines = [json.loads(line) for line in (run / "eval" / "step_000000" / "gsm8k" / "predictions.jsonl").open()]
    return [(line["id"], line["prediction"], line["finished"], line["tokens"], line["values"]) for line in lines]


def test_validate_scores_the_same_answers_here_and_there(folder, url):
    common = ["validate", "-c", str(folder / "eval.yaml"), "--data", "EvalDataModule"]
    server = ["--model", "ServerAnswers", f"--model.server.base_url={url}"]
    server += [f"--model.server.model={folder / 'run' / 'model'}"]
    assert main([*common, "--run.dir", str(folder / "here")]) == 0
    assert main([*common, *server, "--run.dir", str(folder / "there")]) == 0
    here, there = predictions(folder / "here"), predictions(folder / "there")
    assert here == there
    assert len(here) == ROWS
    assert sum(values["accuracy"] for *_, values in here) >= ROWS - 2  # it has learnt: the texts are not all alike


def test_traces_keeps_the_same_solutions_from_here_and_there(folder, url):
    greedy = ["--temperature=0", "--max_attempts=1", "--max_new_tokens=20", "--task=gsm8k"]
    common = ["traces", f"--data={folder / 'other.jsonl'}", *greedy]
    server = [f"--server.base_url={url}", f"--server.model={folder / 'run' / 'model'}"]
    assert main([*common, f"--model={folder / 'run' / 'model'}", f"--output_file={folder / 'here.jsonl'}"]) == 0
    assert main([*common, *server, f"--output_file={folder / 'there.jsonl'}"]) == 0
    rows = [json.loads(line) for line in (folder / "here.jsonl").open()]
    assert rows == [json.loads(line) for line in (folder / "there.jsonl").open()]
    assert sum(row["source"] == "generated" for row in rows) >= ROWS - 2


def test_what_the_server_refuses_is_said_in_a_line(folder, url, capsys):
    common = ["validate", "-c", str(folder / "eval.yaml"), "--data", "EvalDataModule", "--run.dir", str(folder / "no")]
    server = ["--model", "ServerAnswers", f"--model.server.base_url={url}"]
    assert main([*common, *server]) == 2
    assert "lists no model; name the one to ask: server.model" in capsys.readouterr().err
    assert main([*common, *server, "--model.server.model=other"]) == 2
    assert "requested 'other'" in capsys.readouterr().err
    asked = [f"--model.server.model={folder / 'run' / 'model'}", "--model.server.extra_body={top_k: 3}"]
    assert main([*common, *server, *asked]) == 2
    assert "refuses top_k=3" in capsys.readouterr().err


def test_draws_are_found_out_to_be_none(folder, url, capsys):
    """Without ``do_sample`` in the model's generation_config.json it is greedy at any temperature."""
    words = ["traces", f"--data={folder / 'rows.jsonl'}", "--task=gsm8k", "--max_new_tokens=20", "--max_attempts=2"]
    words += [f"--server.base_url={url}", f"--server.model={folder / 'run' / 'model'}"]
    assert main([*words, f"--output_file={folder / 'drawn.jsonl'}"]) == 2  # the original solutions again
    assert "do_sample" in capsys.readouterr().err
    assert not (folder / "drawn.jsonl").exists()
