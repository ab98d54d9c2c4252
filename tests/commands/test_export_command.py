"""`export` writes what the checkpoint holds, proves it, and refuses what makes no sense."""

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from lightning_posttrain.cli import main
from lightning_posttrain.models import export as exporting
from lightning_posttrain.models.export import probe_ids, probe_logits, reload


def logits(folder):
    return probe_logits(reload(folder, torch.float32), probe_ids(260))


def test_a_runs_newest_checkpoint_is_what_the_run_exported(run, tmp_path, capsys):
    assert main(["export", "--run", str(run), "--output", str(tmp_path / "model")]) == 0
    assert "step 4" in capsys.readouterr().out
    assert torch.equal(logits(tmp_path / "model"), logits(run / "model"))
    before = str(run / "checkpoints" / "step-00000002.ckpt")
    words = ["--run", str(run), "--output", str(tmp_path / "model"), "--checkpoint", before]
    assert main(["export", *words]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["export", *words, "--overwrite"]) == 0
    assert "step 2" in capsys.readouterr().out
    assert not torch.equal(logits(tmp_path / "model"), logits(run / "model"))


def test_an_adapter_on_four_bits_is_merged_in_full_precision(adapter_run, tmp_path, capsys):
    assert main(["export", "--run", str(adapter_run), "--output", str(tmp_path / "merged"), "--merge"]) == 0
    assert "nf4 base" in capsys.readouterr().out
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert not getattr(merged, "is_quantized", False)
    assert (probe_logits(merged, probe_ids(260)) - logits(adapter_run / "model")).abs().max() < 1e-4
    narrow = ["--model", str(adapter_run / "model"), "--output", str(tmp_path / "narrow"), "--merge"]
    assert main(["export", *narrow, "--dtype", "bfloat16"]) == 0
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "narrow").dtype == torch.bfloat16


def test_a_difference_above_rounding_is_an_error_code(run, tmp_path, capsys, monkeypatch):
    def spoilt(folder, dtype):
        model = reload(folder, dtype)
        with torch.no_grad():
            model.get_input_embeddings().weight += 0.1
        return model

    monkeypatch.setattr(exporting, "reload", spoilt)
    assert main(["export", "--run", str(run), "--output", str(tmp_path / "model")]) == 1
    assert "do not use it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "give one of them"),
        (["--run", "RUN", "--model", "RUN/model"], "give one of them"),
        (["--model", "RUN/model", "--checkpoint", "x"], "belongs to a run"),
        (["--run", "RUN", "--merge"], "no adapter"),
        (["--run", "RUN/model"], "config.yaml"),
        (["--run", "RUN", "--checkpoint", "RUN/nowhere.ckpt"], "nowhere.ckpt"),
        (["--model", "RUN/nowhere"], "nowhere"),
    ],
)
def test_refusals_write_nothing(run, tmp_path, capsys, words, named):
    words = [w.replace("RUN", str(run)) for w in words]
    assert main(["export", *words, "--output", str(tmp_path / "out")]) == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_adapters_have_no_dtype_and_other_folders_stay(adapter_run, tmp_path, capsys):
    words = ["--model", str(adapter_run / "model"), "--output", str(tmp_path / "x"), "--dtype", "float16"]
    assert main(["export", *words]) == 2
    assert "--merge" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["export", "--model", str(adapter_run / "model"), "--output", str(tmp_path), "--overwrite"]) == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_checkpoint_of_another_model_is_refused(run, adapter_run, tmp_path, capsys):
    other = tmp_path / "step-00000002.ckpt"
    for suffix in ("", ".json"):
        shutil.copy(adapter_run / "checkpoints" / f"step-00000002.ckpt{suffix}", f"{other}{suffix}")
    words = ["--run", str(run), "--checkpoint", str(other), "--output", str(tmp_path / "model")]
    assert main(["export", *words]) == 2
    assert "another model" in capsys.readouterr().err
