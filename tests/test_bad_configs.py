"""Configurations that cannot be run: one line that names the file or the option, exit code 2, and nothing left."""

import errno
import json
import os
from pathlib import Path

import lightning  # noqa: F401 - its log goes to the stderr of the moment it is imported
import pytest
import yaml

from lightning_posttrain import env_config
from lightning_posttrain.cli import main
from lightning_posttrain.types import UserError


def refused(tiny_config: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a run with ``words`` ends with; it leaves nothing."""
    before = sorted(tiny_config.parent.iterdir())
    try:
        code = main(["fit", "-c", str(tiny_config), *words])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert not [line for line in err if "Traceback" in line]
    assert [line for line in err if line.startswith("error: ")] == err[-1:]
    assert [path for path in sorted(tiny_config.parent.iterdir()) if path not in before and path.name != "cache"] == []
    return err[-1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--trainer.val_check_interval=0"], "trainer.val_check_interval=0"),
        (["--trainer.check_val_every_n_epoch=0"], "trainer.check_val_every_n_epoch=0"),
        (["--trainer.strategy=nonsense"], "trainer.strategy=nonsense: "),
        (["--trainer.accelerator=abacus"], "trainer.accelerator=abacus: "),
        (["--trainer.devices=0"], "trainer.devices=0"),
        (["--trainer.overfit_batches=0.5"], "trainer.overfit_batches=0.5"),
        (["--trainer.max_epochs=-7"], "trainer.max_epochs=-7"),
        (["--seed_everything=-1"], "seed_everything=-1: "),
        (["--seed_everything=99999999999"], "seed_everything=99999999999: "),
        (["--model.optimizer.betas=[2, 3]"], "model.optimizer.betas=[2.0, 3.0]: "),
        (["--model.optimizer.betas=[0.9, -0.1]"], "model.optimizer.betas=[0.9, -0.1]: "),
        (["--model.optimizer.eps=-1"], "model.optimizer.eps=-1.0: "),
        (["--model.optimizer.lr=.inf"], "model.optimizer.lr=inf: "),
        (["--model.optimizer.lr", "-1e-3"], "model.optimizer.lr=-0.001: "),
        (["--optimizer=torch.optim.SGD", "--optimizer.lr=-1"], "optimizer.lr=-1.0: "),
        (["--checkpoint.monitor=nope"], "checkpoint.monitor='nope'"),
        (["--checkpoint.monitor=val/nl"], "did you mean val/nll?"),
        (["--checkpoint.monitor=val/nll", "--data.val_examples=0"], "data.val_path or data.val_examples"),
        (["--data.max_length=4", "--data.overlong=drop"], "0 rows used, 0 bad rows skipped, 12 dropped"),
        (["--run.dir=rows.jsonl/run"], "cannot write in "),
    ],
)
def test_a_bad_value_is_told_by_its_option(tiny_config, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    line = refused(tiny_config, capsys, *words)
    assert told in line
    assert "set `overlong: drop`" not in line
    assert "{'" not in line


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
DEEP = "a: " + "[" * 3000 + "]" * 3000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds nothing and no mapping"),
        ("# a comment\n", "holds nothing and no mapping"),
        ("- a\n- b\n", "holds a list and no mapping"),
        ("word\n", "holds a str and no mapping"),
        ("model:\n\tlr: 1\n", "is no YAML (line 2, column 1"),
        ("a: [\n", "is no YAML"),
        ("model: &m\n  init_args: *m\n", "an alias stands within what it stands for"),
        ("model: &m [1, [2, *m]]\n", "an alias stands within what it stands for"),
        (LAUGHS, "aliases stand for more than"),
        (DEEP, "levels within each other"),
        ("a: 1\n---\nb: 2\n", "is no YAML"),
    ],
)
def test_a_bad_file_is_told_by_its_name(tiny_config, tmp_path, capsys, text, told):
    bad = tmp_path / "bad.yaml"
    bad.write_text(text)
    line = refused(tiny_config, capsys, "-c", str(bad))
    assert line.startswith("error: bad.yaml: ")
    assert told in line


@pytest.mark.parametrize("value", ["{a: &a [*a]}", "[" * 3000])
def test_a_bad_value_of_the_command_line_is_refused_too(tiny_config, capsys, value):
    assert "model.architecture" in refused(tiny_config, capsys, f"--model.architecture={value}")


def test_an_anchor_that_is_used_twice_is_fine():
    assert env_config.load_text("a: &x {n: 1}\nb: [*x, *x]\n", "f.yaml") == {"a": {"n": 1}, "b": [{"n": 1}, {"n": 1}]}


@pytest.mark.parametrize("spelt", [["--model.load.quantization", "null"], ["--model.load.quantization=null"]])
def test_null_unsets_a_choice(tiny_config, capsys, spelt):
    config = yaml.safe_load(tiny_config.read_text())
    config["model"]["init_args"]["load"] = {"quantization": "nf4"}
    config["model"]["init_args"]["chat"] = {"template_kwargs": {"a": 1}}
    tiny_config.write_text(yaml.safe_dump(config))
    more = [
        "--model.max_grad_norm=null",
        "--model.chat.template_kwargs={b: null, c: [1, null]}",
        "--model.tokenizer.source=null",
    ]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "-c", str(tiny_config), *spelt, *more, "--print_config"])
    assert stop.value.code == 0
    model = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert model["load"]["quantization"] is None
    assert model["max_grad_norm"] is None
    assert model["tokenizer"]["source"] is None
    assert model["chat"]["template_kwargs"] == {"b": None, "c": [1, None]}


def test_a_choice_that_may_be_null_says_so(tiny_config, capsys):
    assert "give one of nf4, fp4, int8, or null" in refused(tiny_config, capsys, "--model.load.quantization=none")


def test_a_part_of_a_plain_option_is_told_by_the_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["traces", "--model", "/nowhere", "--data.path", "x"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip() == "error: --data.path: there is no such option; give --data one value"


def test_secrets_stay_references(tiny_config, tmp_path, monkeypatch, capsys):
    secret = "hf_0123456789abcdef"
    monkeypatch.setattr(env_config, "_secrets", {})
    monkeypatch.setenv("MY_TOKEN", secret)
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    text = tiny_config.read_text().replace(f"dir: {tmp_path}/run", "dir: ${RUNS}/one")
    text = text.replace(f"cache_dir: {tmp_path}/cache", f"cache_dir: {tmp_path}/cache-${{MY_TOKEN}}")
    tiny_config.write_text(text)
    assert main(["fit", "-c", str(tiny_config)]) == 0
    run = tmp_path / "runs" / "one"
    assert secret.encode() not in b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert "cache-${MY_TOKEN}" in (run / "config.yaml").read_text()
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert main(["fit", "-c", str(run / "config.yaml"), "--run.resume=true", "--trainer.max_epochs=2"]) == 0
    assert (
        main(["fit", "-c", str(tiny_config), "--data.path", f"/nowhere/{secret}/x", "--run.dir", str(tmp_path / "b")])
        == 2
    )
    out, err = capsys.readouterr()
    assert "/nowhere/${MY_TOKEN}/x" in err
    assert secret not in out + err


def test_a_loop_in_an_extended_file_is_told(tmp_path):
    (tmp_path / "bomb.yaml").write_text("a: &a [*a]\n")
    (tmp_path / "top.yaml").write_text("extends: bomb.yaml\n")
    with pytest.raises(UserError, match=r"bomb\.yaml: is no YAML"):
        env_config.load_file(tmp_path / "top.yaml")


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("how", [[], ["--run.resume=true"], ["--run.overwrite=true"]])
def test_a_place_that_cannot_be_written_is_told_by_every_command(tiny_config, tmp_path, capsys, command, how):
    assert main([command, "-c", str(tiny_config), "--run.dir", str(tmp_path / "rows.jsonl" / "run"), *how]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: cannot write in {tmp_path}/rows.jsonl/run: ")


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "free the disk, or choose another folder"),
        (errno.EROFS, "Read-only file system; choose another folder"),
        (errno.EACCES, "Permission denied; choose another folder"),
    ],
)
@pytest.mark.parametrize("place", ["numpy.save", "pathlib.Path.mkdir", "pathlib.Path.replace", "os.fsync"])
def test_a_disk_that_takes_nothing_is_one_line(tiny_config, tmp_path, monkeypatch, capsys, place, number, told):
    def refuse(*args, **options):
        raise OSError(number, os.strerror(number), str(args[0]))

    monkeypatch.setattr(place, refuse)
    assert main(["fit", "-c", str(tiny_config)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert os.strerror(number) in last
    assert told in last or "keep fewer checkpoints" in last or "choose a folder that can be written" in last
    monkeypatch.undo()
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_reference_that_cannot_be_kept_is_one_line(tiny_config, tmp_path, capsys):
    config = yaml.safe_load(tiny_config.read_text())
    config["model"]["class_path"], config["data"]["class_path"] = "DPOModule", "PreferenceDataModule"
    config["model"]["init_args"]["reference"] = {"cached": True, "cache_dir": str(tmp_path / "rows.jsonl" / "c")}
    pairs = [{"prompt": f"{i}?", "chosen": "2", "rejected": "3"} for i in range(12)]
    Path(config["data"]["init_args"]["path"]).write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    tiny_config.write_text(yaml.safe_dump(config))
    assert f"error: cannot write in {tmp_path}/rows.jsonl/c" in refused(tiny_config, capsys)
