"""The commands as a user types them: what they write, and what they say when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from lightning_posttrain.cli import main
from lightning_posttrain.types import UserError


def scalars(folder: Path) -> dict[str, list[int]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [e.step for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_fit_writes_the_run_directory(tiny_config, tmp_path):
    assert main(["fit", "-c", str(tiny_config)]) == 0
    run = tmp_path / "run"
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "finished"
    assert facts["steps"] == 3
    assert set(facts["data"]) == {"train", "val"}
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["optimizer"]["lr"] == 1e-3
    logged = scalars(run / "tensorboard")
    assert logged["val/nll"][0] == 0
    assert {"train/loss", "train/lr", "train/grad_norm", "perf/tokens_per_s_distinct", "perf/sharing"} <= set(logged)
    assert list((run / "checkpoints").glob("step-*.ckpt"))
    AutoTokenizer.from_pretrained(run / "model")
    AutoModelForCausalLM.from_pretrained(run / "model")


def test_the_saved_configuration_runs_again(tiny_config, tmp_path):
    assert main(["fit", "-c", str(tiny_config)]) == 0
    again = str(tmp_path / "again")
    assert main(["fit", "-c", str(tmp_path / "run" / "config.yaml"), "--run.dir", again]) == 0


def test_later_configs_and_options_override_earlier_ones(tiny_config, tmp_path, capsys):
    second = tmp_path / "second.yaml"
    second.write_text("model: {init_args: {optimizer: {lr: 0.5}, max_grad_norm: 2.0}}\n")
    with pytest.raises(SystemExit) as stop:
        main(["fit", "-c", str(tiny_config), "-c", str(second), "--model.max_grad_norm", "3.0", "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["optimizer"]["lr"] == 0.5
    assert printed["model"]["init_args"]["max_grad_norm"] == 3.0


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--model.optimiser.lr=1", "optimiser"),
        ("--data.examples_pre_step=1", "examples_pre_step"),
        ("--trainer.max_epoch=1", "max_epoch"),
        ("--model.optimizer.name=sgdd", "sgdd"),
    ],
)
def test_a_misspelt_key_is_an_error_that_names_it(tiny_config, tmp_path, capsys, option, named):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "-c", str(tiny_config), option])
    assert stop.value.code not in (0, None)
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--trainer.accumulate_grad_batches=2"], "data.examples_per_step"),
        (["--trainer.gradient_clip_val=1.0"], "model.max_grad_norm"),
        (["--data.path=nowhere.jsonl"], "nowhere.jsonl"),
        (["--data.tokens_per_micro=5"], "tokens_per_micro"),
        (["--data.max_length=4"], "max_length"),
        (["--data.max_examples=99"], "max_examples"),
        (["--model.pretrained=nowhere/at-all"], "nowhere/at-all"),
        (["--model.architecture.hidden_sizes=8"], "hidden_sizes"),
        (["--model.load.quantization=nf4"], "lora"),
    ],
)
def test_bad_input_is_one_message_with_a_remedy(tiny_config, tmp_path, capsys, options, remedy):
    assert main(["fit", "-c", str(tiny_config), *options]) == 2
    error = capsys.readouterr().err
    assert "error: " in error
    assert remedy in error
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.loss.name=dpo"], "model.loss.name=dpo: give one of sigmoid, hinge, ipo,"),
        (["--model.loss.beta=x"], "model.loss.beta=x: give a number or null"),
        (["--data.shuffle=maybe"], "data.shuffle=maybe: give true or false"),
        (["--model.architecture=x"], "model.architecture=x: give a mapping or null"),
        (["--model.los.name=x"], "model.los.name: there is no such option of DPOModule"),
        (["--trainer.max_epoch=1"], "trainer.max_epoch: there is no such option"),
        (["--trainer.callbacks=Foo"], "trainer.callbacks=Foo: no class of this name is known"),
        (["--data.mix=[{path: a, wieght: 2}]"], "data.mix.wieght: there is no such option of MixPart"),
        (["--data=Foo"], "data=Foo: no class of this name is known"),
        (["-c", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_configuration_that_does_not_parse_is_told_in_one_line(tiny_config, tmp_path, capsys, options, message):
    config = yaml.safe_load(tiny_config.read_text())
    config["model"]["class_path"], config["data"]["class_path"] = "DPOModule", "PreferenceDataModule"
    tiny_config.write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as stop:
        main(["fit", "-c", str(tiny_config), *options])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model.loss.name={aot: 1.0, apo_zero: 0.5}", "--model.loss.divergence=forward_kl"],
            "error: loss: divergence=forward_kl changes nothing in aot, apo_zero; leave it out",
        ),
        (["--model.loss=null"], "error: model.loss=null: it is a group of options"),
        (["--model.tokenizer=null"], "error: model.tokenizer=null: it is a group of options"),
        (["--model.architecture=null"], "error: no model: give `pretrained`"),
    ],
)
def test_what_a_constructor_refuses_is_told_in_one_line(tiny_config, capsys, options, message):
    config = yaml.safe_load(tiny_config.read_text())
    config["model"]["class_path"], config["data"]["class_path"] = "DPOModule", "PreferenceDataModule"
    tiny_config.write_text(yaml.safe_dump(config))
    pairs = [{"prompt": f"{i}?", "chosen": "2", "rejected": "3"} for i in range(4)]
    Path(config["data"]["init_args"]["path"]).write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    assert main(["fit", "-c", str(tiny_config), *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert message in lines[-1]
    assert not [line for line in lines if "Traceback" in line]


def test_an_error_of_our_own_keeps_its_traceback(monkeypatch):
    def broken(*args, **options):
        try:
            raise UserError("handled")
        except UserError:
            raise ValueError("a bug") from None

    monkeypatch.setattr("lightning_posttrain.trainer_cli.PosttrainCLI", broken)
    with pytest.raises(ValueError, match="a bug"):
        main(["fit"])


def test_a_run_directory_is_not_overwritten_unasked(tiny_config, capsys):
    assert main(["fit", "-c", str(tiny_config)]) == 0
    assert main(["fit", "-c", str(tiny_config)]) == 2
    assert "--run.overwrite" in capsys.readouterr().err
    assert main(["fit", "-c", str(tiny_config), "--run.overwrite", "true"]) == 0


def test_resume_of_a_finished_run_adds_nothing(tiny_config, tmp_path):
    assert main(["fit", "-c", str(tiny_config)]) == 0
    assert main(["fit", "-c", str(tiny_config), "--run.resume", "true"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 3


def test_validate_and_test_report_the_checkpoint(tiny_config, tmp_path, capsys):
    assert main(["fit", "-c", str(tiny_config)]) == 0
    checkpoint = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    for command in ("validate", "test"):
        out = str(tmp_path / command)
        assert main([command, "-c", str(tiny_config), "--ckpt_path", checkpoint, "--run.dir", out]) == 0
        assert "val/nll" in capsys.readouterr().out


def test_an_evaluation_says_what_it_ran_on_and_is_not_overwritten_unasked(tiny_config, tmp_path, capsys):
    command = ["validate", "-c", str(tiny_config), "--run.dir", str(tmp_path / "bundle")]
    assert main(command) == 0
    run = tmp_path / "bundle" / "run.json"
    facts = json.loads(run.read_text())
    assert (facts["command"], facts["status"], facts["steps"]) == ("validate", "finished", 0)
    assert (tmp_path / "bundle" / "config.yaml").exists()
    assert main(command) == 2
    assert "--run.overwrite" in capsys.readouterr().err
    assert main([*command, "--run.overwrite", "true"]) == 0
    run.write_text(json.dumps(facts | {"status": "running"}))  # one that was killed is begun again
    assert main(command) == 0


def test_an_evaluation_does_not_write_into_a_training_run(tiny_config, tmp_path, capsys):
    assert main(["fit", "-c", str(tiny_config)]) == 0
    before = (tmp_path / "run" / "run.json").read_bytes()
    assert main(["validate", "-c", str(tiny_config), "--run.overwrite", "true"]) == 2
    assert "holds a run of `fit`" in capsys.readouterr().err
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_a_run_that_is_refused_leaves_no_directory(tiny_config, tmp_path, capsys):
    for words in (["--data.path", "missing.jsonl"], ["--data.val_examples", "99"]):
        assert main(["fit", "-c", str(tiny_config), *words]) == 2
        assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert main(["fit", "-c", str(tiny_config), "--data.path", "missing.jsonl"]) == 2
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_run_that_fails_after_a_step_keeps_what_it_logged(tiny_config, tmp_path, monkeypatch):
    from lightning_posttrain.modules import base

    real, seen = base.check_finite, []

    def later(*args, **options):
        seen.append(1)
        if len(seen) > 1:
            raise UserError("not finite")
        return real(*args, **options)

    monkeypatch.setattr(base, "check_finite", later)
    assert main(["fit", "-c", str(tiny_config)]) == 2
    assert (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("word", ["--model.lora.alph=8", "--model.optimizer.learning=1", "--trainer.max_epoch=2"])
def test_a_shortened_option_is_a_misspelt_one(tiny_config, capsys, word):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "-c", str(tiny_config), word])
    assert stop.value.code == 2
    assert "there is no such option" in capsys.readouterr().err


def test_predict_writes_a_line_per_row(tiny_config, tmp_path):
    options = ["--model.sampling.max_new_tokens", "4", "--run.dir", str(tmp_path / "predict")]
    assert main(["predict", "-c", str(tiny_config), *options]) == 0
    lines = [json.loads(x) for x in (tmp_path / "predict" / "predictions.jsonl").read_text().splitlines()]
    assert [x["prompt"][0]["content"] for x in lines] == [f"Add {i} and {i}." for i in range(12)]
    assert all(x["tokens"] <= 4 for x in lines)


def test_precision_and_memory_options_train(tiny_config, tmp_path):
    for number, options in enumerate(
        (
            ["--trainer.precision=bf16-mixed", "--model.load.gradient_checkpointing=true"],
            ["--trainer.precision=bf16-true"],
            ["--model.lora.r=2", "--model.load.quantization=nf4", "--model.optimizer.name=adamw_8bit"],
            ["--model.loss=dft", "--model.lora.r=2", "--model.lora.dora=true", "--model.optimizer.name=muon"],
        )
    ):
        assert main(["fit", "-c", str(tiny_config), "--run.dir", str(tmp_path / f"run{number}"), *options]) == 0


def test_lightnings_optimizer_idiom_takes_the_place_of_the_specs(tiny_config, tmp_path):
    options = ["--optimizer=torch.optim.SGD", "--optimizer.lr=0.25", "--run.dir", str(tmp_path / "sgd")]
    assert main(["fit", "-c", str(tiny_config), *options]) == 0
    events = EventAccumulator(str(tmp_path / "sgd" / "tensorboard"))
    events.Reload()
    assert {e.value for e in events.Scalars("train/lr")} == {0.25}


def test_an_unknown_command_lists_the_known_ones(capsys):
    assert main(["fitt"]) == 2
    assert "fit, validate" in capsys.readouterr().err


def test_the_overview_names_every_command(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("fit", "predict", "prepare", "preview"))


def test_what_lightning_refuses_is_one_message(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", str(tiny_config), "--trainer.max_time", "soon"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "soon" in last


@pytest.mark.parametrize("option", ["load.quantization", "load.revision", "tokenizer.pad_token"])
def test_null_reaches_a_key_within_an_object(tiny_config, option):
    assert main(["fit", "-c", str(tiny_config), "--trainer.max_steps=1", f"--model.{option}=null"]) == 0


def test_notices_that_concern_nobody_are_not_shown(tiny_config, tmp_path):
    command = [sys.executable, "-m", "lightning_posttrain.cli", "fit", "-c", str(tiny_config), "--model.lora={r: 2}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout + done.stderr
    for notice in ("gemm_4bit", "TPU", "FLOPs", "Modules in", "model shards", "LOAD REPORT"):
        assert notice not in said
    assert "model: Qwen3ForCausalLM, 1,024 of " in said
