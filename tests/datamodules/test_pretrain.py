"""Mixtures of token blocks: exact proportions, and by the command line a run that ends where its plan does."""

import json

import numpy as np
import pytest

from lightning_posttrain.cli import main
from lightning_posttrain.datamodules.pretrain import PretrainDataModule
from lightning_posttrain.models.chinchilla import Plan
from lightning_posttrain.text.tokenizer import byte_tokenizer
from lightning_posttrain.types import UserError

SIZES = {"wiki": 4000, "code": 2000, "math": 1000}


@pytest.fixture
def shards(tmp_path):
    """Shards whose tokens say where they come from; each ends with the byte tokenizer's end of text."""
    rng = np.random.default_rng(0)
    for at, (name, size) in enumerate(SIZES.items()):
        ids = rng.integers(0, 50, size) + 50 * at
        np.save(tmp_path / f"{name}.npy", np.append(ids, 259).astype(np.uint16))
    return {name: str(tmp_path / f"{name}.npy") for name in SIZES}


def module(shards, tmp_path, **options):
    options = {"sequence_length": 20, "tokens_per_step": 100, "cache_dir": str(tmp_path / "cache"), **options}
    return PretrainDataModule(shards, **options)


def seen(data) -> np.ndarray:
    """Tokens of each source in one epoch."""
    ids = np.concatenate([m.input_ids[0].numpy() for step in data.train_dataloader() for m in step.micros])
    return np.bincount(ids // 50, minlength=3)


def test_proportions_are_exact_to_a_block(shards, tmp_path):
    data = module(shards, tmp_path, mix={"wiki": 0.5, "code": 0.3, "math": 0.2}, tokens=3000)
    data.prepare(byte_tokenizer())
    assert (seen(data) == 19 * np.array([75, 45, 30])).all()  # a block's last token is only a target
    report = data.mixture.report()
    assert report["code"] == {
        "requested": 0.3, "realised": 0.3, "tokens": 900, "tokens_available": 2000, "repeats": 0.45,
    }  # fmt: skip


def test_the_last_step_is_whole(shards, tmp_path):
    data = module(shards, tmp_path, mix={"wiki": 1.0}, tokens=1001)
    data.prepare(byte_tokenizer())
    assert len(data.train_dataloader()) == 11
    assert len(data.mixture) == 55


def test_a_plan_says_how_long_and_in_what_batches(shards, tmp_path):
    data = module(shards, tmp_path, sequence_length=8, tokens_per_step=None)
    data.prepare(byte_tokenizer(), plan := Plan(10, 4.0, batch=80))
    assert plan.tokens == 800
    assert len(data.train_dataloader()) == 10
    assert data.blocks_per_step == 10


def test_without_a_mix_sources_come_in_their_own_proportions(shards, tmp_path):
    data = module(shards, tmp_path)
    data.prepare(byte_tokenizer())
    assert seen(data).tolist() == [200 * 19, 100 * 19, 50 * 19]


def test_tokens_repeat_only_after_all_were_used(shards, tmp_path):
    mix = {"wiki": 0.5, "math": {"weight": 0.5, "repetition_factor": 3}}
    data = module(shards, tmp_path, mix=mix, tokens=5000)
    data.prepare(byte_tokenizer())
    counts = np.bincount(data.mixture.picks[1], minlength=50)
    assert set(counts.tolist()) == {2, 3}
    assert data.mixture.report()["math"]["repeats"] == 2.5


def test_a_source_that_is_too_small_is_named_with_what_is_missing(shards, tmp_path):
    data = module(shards, tmp_path, mix={"wiki": 0.5, "math": 0.5}, tokens=5000)
    with pytest.raises(
        UserError, match=r"math: 2500 tokens are needed.*1000 tokens may be used 1 times: 1500 are missing"
    ):
        data.prepare(byte_tokenizer())


@pytest.mark.parametrize(
    ("options", "told"),
    [({"mix": {"wiki": 0.5, "code": 0.4}}, "data.mix: weights sum to 0.9"),
     ({"mix": {"wiki": 0.5, "cod": 0.5}}, "data.mix: unknown source cod"),
     ({"tokens_per_step": None}, "tokens_per_step"),
     ({"tokens_per_step": 90}, "no multiple of sequence_length=20; try 80"),
     ({"tokens_per_step": 0}, "data.tokens_per_step=0 is no multiple"),
     ({"tokens_per_micro": 10}, "data.tokens_per_micro=10 holds no block of sequence_length=20; give at least 20"),
     ({"tokens_per_micro": 0}, "data.tokens_per_micro=0"),
     ({"sequence_length": 0}, "data.sequence_length=0"),
     ({"num_workers": -1}, "data.num_workers=-1: give"),
     ({"tokens": 0}, "data.tokens=0")],
)  # fmt: skip
def test_bad_settings_are_refused_by_name(shards, tmp_path, options, told):
    with pytest.raises(UserError, match=told):
        module(shards, tmp_path, **options).prepare(byte_tokenizer())


def test_ids_beyond_the_vocabulary_are_refused(shards, tmp_path):
    np.save(tmp_path / "wiki.npy", np.full(100, 300, np.uint16))
    with pytest.raises(UserError, match=r"wiki\.npy: holds the id 300, but the vocabulary has 260"):
        module(shards, tmp_path).prepare(byte_tokenizer())


def test_shards_of_another_tokenizer_are_refused(shards, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"tokenizer_sha256": "0" * 64, "end_of_text": 7}))
    with pytest.raises(UserError, match=f"made with tokenizer_sha256={'0' * 64}"):
        module(shards, tmp_path).prepare(byte_tokenizer())


CONFIG = """
model:
  class_path: PretrainModule
  init_args:
    architecture: {name: olmo3_1m}
    tokenizer: {kind: byte}
    chinchilla: 0.005
data:
  class_path: PretrainDataModule
  init_args:
    sources: {prose: {topics: {a: DIR/a.jsonl, b: DIR/b}}}
    mix: {prose: {weight: 1, repetition_factor: 9, topics: {a: 0.75, b: 0.25}}}
    val_sources: {a: DIR/b}
    sequence_length: 64
    tokens_per_step: 1024
    cache_dir: DIR/cache
trainer: {max_epochs: 1, enable_progress_bar: false, enable_model_summary: false, log_every_n_steps: 1}
"""


@pytest.fixture
def config(tmp_path):
    """A whole configuration with two small corpora of text."""
    text = "the quick brown fox jumps over the lazy dog. " * 20
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"{i} {text}"}) + "\n" for i in range(5)))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.txt").write_text(text * 3)
    (tmp_path / "config.yaml").write_text(CONFIG.replace("DIR", str(tmp_path)))
    return str(tmp_path / "config.yaml")


def test_a_run_that_ends_early_records_what_it_trained_on(config, tmp_path, capsys):
    run, words = tmp_path / "run", ["--model.schedule.name", "constant", "--trainer.max_steps", "2"]
    assert main(["fit", "-c", config, "--run.dir", str(run), *words]) == 0
    facts = json.loads((run / "run.json").read_text())
    assert (facts["steps"], facts["tokens"], facts["plan"]["steps"]) == (2, 2 * 1024, 5)
    parts = [facts["mixture"][f"prose:{name}"] for name in "ab"]
    assert sum(part["tokens"] for part in parts) == 2 * 1024
    assert [part["realised"] for part in parts] == [round(part["tokens"] / 2048, 6) for part in parts]
    assert (
        main(["fit", "-c", config, "--run.dir", str(run), "--run.overwrite", "true", "--trainer.max_steps", "1"]) == 2
    )
    assert "1 warm-up steps of 1 do not fit before step 0.9, " in capsys.readouterr().err


def test_pretraining_by_the_command_line(config, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["fit", "-c", config, "--run.dir", str(run)]) == 0
    facts = json.loads((run / "run.json").read_text())
    size = facts["parameters"]["total"] - 384 * 12
    assert facts["steps"] == -(-int(20 * size * 0.005) // 1024) == 5
    assert facts["mixture"]["prose:a"]["realised"] == 0.75
    assert facts["tokens"] == 5 * 1024
    assert facts["status"] == "finished"
    assert "mix: prose:b: 1280 tokens" in capsys.readouterr().err
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    series = {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert series["train/loss"][0] == pytest.approx(series["train/nll"][0] + series["train/z_loss"][0], rel=1e-6)
    assert series["train/z_loss"][0] > 0
    assert max(series["train/lr"]) == pytest.approx(0.0047 * (size / 108e6) ** (-1 / 3) / 2, rel=1e-5)
    assert series["train/lr"][-1] == 0.0
    assert series["val/nll"][-1] < series["val/nll"][0]
